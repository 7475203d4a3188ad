// Go's net/rpc as a peer of the benchmark: the same load and figures as the program around it, which builds
// and runs this one where there is a Go toolchain.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type Factors struct{ A, B int64 }

type Data struct{ Data []byte }

type World struct{}

func (World) Multiply(in Factors, out *int64) error {
	*out = in.A * in.B
	return nil
}

func (World) Echo(in Data, out *Data) error {
	*out = in
	return nil
}

var (
	serving     = flag.Bool("serve", false, "serve, and print the address")
	codec       = flag.String("codec", "gob", "gob or json")
	address     = flag.String("address", "", "the server's")
	server      = flag.Int("server", 0, "the server's process")
	ms          = flag.Int("ms", 1000, "the measured time")
	connections = flag.Int("connections", 1, "how many")
	inFlight    = flag.Int("in-flight", 1, "calls at once on each connection")
	bytes       = flag.Int("bytes", 0, "what an echo carries; 0 multiplies")
	peer        = flag.String("peer", "", "what the figures call it")
	scenario    = flag.String("scenario", "", "what the figures call it")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	// Go would take all cores: the others have two workers.
	if runtime.GOMAXPROCS(0) > 2 {
		runtime.GOMAXPROCS(2)
	}
	if *serving {
		serve()
		return
	}
	load()
}

func serve() {
	must(rpc.Register(World{}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	fmt.Println(listener.Addr())
	for {
		// TCP_NODELAY is Go's default.
		stream, err := listener.Accept()
		must(err)
		if *codec == "json" {
			go jsonrpc.ServeConn(stream)
		} else {
			go rpc.ServeConn(stream)
		}
	}
}

// What a loop of calls leaves behind.
type loop struct{ nanos []int64 }

func load() {
	var counting, stopped atomic.Bool
	var running, begun sync.WaitGroup
	loops := make([]loop, *connections**inFlight)
	for c := 0; c < *connections; c++ {
		stream, err := net.Dial("tcp", *address)
		must(err)
		var client *rpc.Client
		if *codec == "json" {
			client = jsonrpc.NewClient(stream)
		} else {
			client = rpc.NewClient(stream)
		}
		for lane := 0; lane < *inFlight; lane++ {
			running.Add(1)
			begun.Add(1)
			go func(loop *loop, n int64) {
				defer running.Done()
				call(client, loop, n, begun.Done, &counting, &stopped)
			}(&loops[c**inFlight+lane], int64(lane))
		}
	}
	time.AfterFunc(30*time.Second+2*time.Duration(*ms)*time.Millisecond, func() { log.Fatal("calls did not end") })
	// Each loop has had an answer before anything is measured.
	begun.Wait()
	time.Sleep(time.Duration(*ms) * time.Millisecond / 3)
	cpu, began := cpuMicros(*server)+cpuMicros(os.Getpid()), time.Now()
	counting.Store(true)
	time.Sleep(time.Duration(*ms) * time.Millisecond)
	counting.Store(false)
	took := time.Since(began)
	cpu = cpuMicros(*server) + cpuMicros(os.Getpid()) - cpu
	stopped.Store(true)
	running.Wait()
	report(loops, took, cpu)
}

func call(client *rpc.Client, loop *loop, n int64, begun func(), counting, stopped *atomic.Bool) {
	data := make([]byte, *bytes)
	for i := range data {
		data[i] = 'a' + byte(i%26)
	}
	began, first := time.Now(), true
	for !stopped.Load() {
		if *bytes == 0 {
			n++
			var product int64
			must(client.Call("World.Multiply", Factors{n, 7}, &product))
			if product != n*7 {
				log.Fatalf("%d * 7 = %d?", n, product)
			}
		} else {
			var back Data
			must(client.Call("World.Echo", Data{data}, &back))
			if len(back.Data) != *bytes {
				log.Fatalf("%d bytes came back as %d", *bytes, len(back.Data))
			}
		}
		if first {
			first = false
			begun()
		}
		now := time.Now()
		if counting.Load() {
			loop.nanos = append(loop.nanos, int64(now.Sub(began)))
		}
		began = now
	}
}

func report(loops []loop, took time.Duration, cpu float64) {
	// Before the following code allocates memory.
	rss := peakKb(os.Getpid())
	if of := peakKb(*server); of > rss {
		rss = of
	}
	var nanos []int64
	for _, loop := range loops {
		nanos = append(nanos, loop.nanos...)
	}
	if len(nanos) == 0 {
		log.Fatal("no call ended")
	}
	sort.Slice(nanos, func(i, j int) bool { return nanos[i] < nanos[j] })
	percentile := func(part float64) float64 { return float64(nanos[int(part*float64(len(nanos)-1))]) / 1e3 }
	must(json.NewEncoder(os.Stdout).Encode(struct {
		Peer     string  `json:"peer"`
		Scenario string  `json:"scenario"`
		Calls    float64 `json:"calls_per_s"`
		P50      float64 `json:"p50_us"`
		P99      float64 `json:"p99_us"`
		Cpu      float64 `json:"cpu_us"`
		Rss      uint64  `json:"rss_kb"`
	}{*peer, *scenario, float64(len(nanos)) / took.Seconds(), percentile(0.5), percentile(0.99),
		cpu / float64(len(nanos)), rss}))
}

// CPU time of a process, user and system together; the kernel counts in hundredths of a second.
func cpuMicros(pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	must(err)
	system, err := strconv.ParseFloat(fields[12], 64)
	must(err)
	return (user + system) * 1e4
}

func peakKb(pid int) uint64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(err)
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			kb, err := strconv.ParseUint(strings.Fields(line)[1], 10, 64)
			must(err)
			return kb
		}
	}
	log.Fatal("no VmHWM")
	return 0
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
