package farcall

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startRegistry starts the demo's registry, and returns it and its URL.
func startRegistry(t *testing.T) (*demo, string) {
	startDemo(t).kill() // skips the test where there is no program
	d := &demo{cmd: exec.Command(demoProgram(), "registry", "--listen", "127.0.0.1:0")}
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	must(t, d.cmd.Start())
	t.Cleanup(d.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return d, strings.TrimSpace(strings.TrimPrefix(line, "listening "))
}

// TestDiscover: servers come and go while calls are made, and no call fails.
func TestDiscover(t *testing.T) {
	registry, url := startRegistry(t)
	start := func() *demo { return startDemo(t, "--listen", "tcp@127.0.0.1:0", "--registry", url) }
	servers := []*demo{start(), start()}
	c, err := Discover(url, "Arith", nil)
	must(t, err)
	t.Cleanup(c.Abort)
	listed := func(n int) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.endpoints) == n
		}
	}
	eventually(t, "both are listed", listed(2))

	var stop, count, failed atomic.Int64
	var wait sync.WaitGroup
	for i := 0; i < 4; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for stop.Load() == 0 {
				var product int
				if err := c.Call(soonCtx(t), "Arith.multiply", []int{6, 7}, &product); err != nil || product != 42 {
					t.Error(err)
					failed.Add(1)
				}
				count.Add(1)
				time.Sleep(time.Millisecond)
			}
		}()
	}
	eventually(t, "both are called", func() bool { return c.connected() == 2 })
	servers = append(servers, start())
	eventually(t, "the third is listed", listed(3))
	must(t, servers[0].cmd.Process.Signal(syscall.SIGTERM))
	must(t, servers[0].cmd.Wait())
	eventually(t, "the first is not listed", listed(2))
	registry.kill()
	before := count.Load()
	eventually(t, "calls go on without the registry", func() bool { return count.Load() > before+50 })
	stop.Store(1)
	wait.Wait()
	if !listed(2)() {
		t.Error("the list is lost with the registry")
	}
	must(t, c.Close(soonCtx(t)))
}

// connected returns the number of endpoints with a connection.
func (c *Client) connected() int {
	n := 0
	for _, e := range c.list() {
		n += len(e.connections())
	}
	return n
}

func TestDiscoverWithoutServers(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/services/Arith/instances" || r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		if r.URL.Query().Get("epoch") != "" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, `{"epoch":"e","rev":1,"instances":[]}`)
	}))
	defer registry.Close()
	c, err := Discover(registry.URL, "Arith", &Options{RegistryToken: "secret"})
	must(t, err)
	defer c.Abort()
	e := assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionNotSent)
	if !strings.Contains(e.Message, "lists no server") {
		t.Fatal(e)
	}
	for _, bad := range []string{"", "x", "ftp://x", "http://"} {
		if _, err := Discover(bad, "Arith", nil); err == nil {
			t.Error(bad)
		}
	}
	other, err := Discover(registry.URL, "Other", nil)
	must(t, err)
	defer other.Abort()
	e = assertError(t, other.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionNotSent)
	if !strings.Contains(e.Message, "401") {
		t.Fatal(e)
	}
}

// TestOnlyWellFormedListsReplaceAList: what else a registry answers keeps the list.
func TestOnlyWellFormedListsReplaceAList(t *testing.T) {
	server := serve(t, (*peer).echo)
	good := fmt.Sprintf(`{"epoch":"e","rev":1,"instances":[{"addr":%q,"state":"up"},{"addr":"nonsense","state":"up"},`+
		`{"addr":"h:1","state":"draining"},{"addr":"h:2","state":"stale"},{"addr":"h:3","state":"up","weight":0}]}`, server.address)
	var polls atomic.Int64
	answers := []string{good, "<html>", "", `{"epoch":"e"}`, `{"instances":null,"epoch":"e","rev":2}`, `{"epoch":"f","rev":0,"warming":true,"instances":[]}`, `{"epoch":"f","rev":1,"warming":true,"instances":[]}`, good}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := polls.Add(1) - 1
		if n >= int64(len(answers)) {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, answers[n])
	}))
	defer registry.Close()
	c, err := Discover(registry.URL, "Arith", nil)
	must(t, err)
	defer c.Abort()
	must(t, c.Call(soonCtx(t), "A.b", 1, nil))
	c.source.cancel() // its pauses are seconds; the polls are made here
	for polls.Load() < int64(len(answers)) {
		_, err := c.source.poll(soonCtx(t))
		// The last three are lists.
		if (err == nil) != (polls.Load() > int64(len(answers)-3)) {
			t.Fatal(polls.Load(), err)
		}
		must(t, c.Call(soonCtx(t), "A.b", 1, nil))
	}
	if server.connections() != 1 {
		t.Fatal("it connected again")
	}
	if c.source.held != nil {
		t.Fatal("what a registry held that was warming is held on")
	}
	var list instanceList
	must(t, json.Unmarshal([]byte(`{"instances":[{"addr":"h:1","state":"stale"},{"addr":"h:2","state":"stale","weight":7}]}`), &list))
	if found := list.addresses(); len(found) != 2 || found[address{scheme: "tcp", host: "h", port: 2}] != 7 {
		t.Fatal(found)
	}
}

// TestHostileRegistries: what a registry answers costs no more than a bound, and its error is told.
func TestHostileRegistries(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the redirect was followed")
	}))
	defer elsewhere.Close()
	entries := func(n int) string {
		return `{"epoch":"e","rev":1,"instances":[` + strings.TrimSuffix(strings.Repeat(`{"addr":"h:1"},`, n), ",") + `]}`
	}
	for name, c := range map[string]struct {
		status       int
		answer, said string
	}{
		"redirect":   {http.StatusFound, "", "302 Found, a redirect to " + elsewhere.URL},
		"html":       {200, "<html>", "invalid character '<'"},
		"many":       {200, entries(maxInstances + 1), "100001 instances; at most 100000"},
		"long epoch": {200, `{"epoch":"` + strings.Repeat("e", maxEpoch+1) + `","rev":1,"instances":[]}`, "not well-formed"},
		"long number": {200, `{"epoch":"e","rev":1,"instances":[{"addr":"h:1","weight":-` + strings.Repeat("9", 100_000) + `}]}`,
			"not well-formed: json: cannot unmarshal number -999"},
	} {
		registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.answer)
		}))
		client, err := Discover(registry.URL, "Arith", nil)
		must(t, err)
		e := assertError(t, client.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionNotSent)
		if !strings.Contains(e.Message, c.said) || len(e.Message) > 300 {
			t.Errorf("%s: %v", name, e)
		}
		client.Abort()
		registry.Close()
	}
}

// TestRegistryThatDoesNotWait: one that answers at once is not asked as fast as it answers.
func TestRegistryThatDoesNotWait(t *testing.T) {
	var polls atomic.Int64
	times := make(chan time.Time, 100)
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if polls.Add(1) <= 4 {
			times <- time.Now()
		}
		fmt.Fprint(w, `{"epoch":"e","rev":1,"instances":[]}`)
	}))
	defer registry.Close()
	c, err := Discover(registry.URL, "Arith", nil)
	must(t, err)
	defer c.Abort()
	<-times
	second, third := <-times, <-times
	if third.Sub(second) < minPoll/2 {
		t.Fatal("the third poll came", third.Sub(second), "after the second")
	}
}

// TestSeveralAddresses: a call goes on at another server if one cannot be reached, or goes away.
func TestSeveralAddresses(t *testing.T) {
	gone := serve(t, (*peer).echo)
	gone.stop()
	leaves := serve(t, func(p *peer) {
		p.next("request")
		p.send("goaway", 0, "")
		p.ended()
	})
	stays := serve(t, (*peer).echo)
	c, err := New(strings.Join([]string{gone.address, leaves.address, stays.address}, ", "), nil)
	must(t, err)
	defer c.Abort()
	for i := 0; i < 100; i++ {
		must(t, c.Call(soonCtx(t), "A.b", i, nil))
	}
	stays.stop()
	leaves.stop()
	eventually(t, "no server is left", func() bool {
		err := c.Call(soonCtx(t), "A.b", 1, nil)
		return CodeOf(err) == CodeUnavailable
	})
}
