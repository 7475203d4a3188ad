package farcall

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const foreverMs = 600_000

type factors struct {
	A int64 `json:"a"`
	B int64 `json:"b"`
}

// TestDemo calls the demo's server over every scheme.
func TestDemo(t *testing.T) {
	files := newCertificates(t)
	// Nothing else uses its ports: that of a server stays free until its successor listens there.
	own := fmt.Sprintf("127.98.%d.%d", os.Getpid()/254%256, 1+os.Getpid()%254)
	files.sign("server", "DNS:localhost,IP:127.0.0.1,IP:"+own)
	authority, err := os.ReadFile(files.path("ca.pem"))
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	opts := &Options{TLS: &tls.Config{RootCAs: roots}}
	secure := []string{"--tls-cert", files.path("server.pem"), "--tls-key", files.path("server.key")}

	for _, scheme := range schemes {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			option := "--listen"
			switch scheme {
			case "http", "connect", "ws":
				option = "--http"
			case "https", "wss":
				option = "--https"
			}
			// start starts a server at a place, or at a new one for "".
			start := func(t *testing.T, where string) (*demo, string) {
				if where == "" {
					where = own + ":0"
					if scheme == "unix" {
						where = filepath.Join(t.TempDir(), "socket")
					}
				}
				if option == "--listen" {
					where = scheme + "@" + where
				}
				d := startDemo(t, append([]string{option, where}, secure...)...)
				_, where, _ = strings.Cut(d.addresses[0], "@")
				return d, where
			}
			_, where := start(t, "")
			address := scheme + "@" + where
			s := suite{opts: opts, scheme: scheme, address: address}
			t.Run("calls are answered each with its own", s.calls)
			t.Run("errors of a method and of a call", s.errors)
			t.Run("a cancelled call frees its place", s.cancels)
			t.Run("a deadline ends a call on both sides", s.deadlines)
			t.Run("large bodies go both ways", s.largeBodies)
			t.Run("an answer over the own limit fails its call alone", s.largeAnswer)
			t.Run("reserved methods", s.reserved)
			t.Run("a stream has all items and the final value", s.receive)
			t.Run("an upload arrives whole", s.upload)
			t.Run("items come back from an exchange", s.exchange)
			t.Run("a method that fails after its items", s.failsAfter)
			t.Run("a stream that is left ends at the server", s.leaves)
			t.Run("a method that answers while items are sent", s.answersEarly)
			t.Run("a method that takes nothing is given up", s.stalls)
			t.Run("the limits of a stream end it", s.streamLimits)
			t.Run("a call of the wrong kind is refused", s.wrongKind)
			t.Run("streams and calls share a connection", s.shares)
			t.Run("a server that is killed is found again", func(t *testing.T) { s.killed(t, start) })
			t.Run("a server that stops finishes what it has begun", func(t *testing.T) { s.stops(t, start) })
		})
	}
}

type suite struct {
	opts            *Options
	scheme, address string
}

func (s suite) dial(t *testing.T, change ...func(*Options)) *Client {
	opts := *s.opts
	for _, set := range change {
		set(&opts)
	}
	return dialed(t, s.address, &opts)
}

func (s suite) calls(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	var wait sync.WaitGroup
	for n := int64(0); n < 300; n++ {
		wait.Add(1)
		go func(n int64) {
			defer wait.Done()
			var product int64
			if err := c.Call(ctx, "Arith.multiply", factors{n, 7}, &product); err != nil || product != n*7 {
				t.Errorf("%d * 7 = %d, %v", n, product, err)
			}
		}(n)
	}
	wait.Wait()
	done := <-c.Go(ctx, "Arith.multiply", []int{6, 7}, new(int), nil).Done
	if must(t, done.Error); *done.Reply.(*int) != 42 {
		t.Fatal(done.Reply)
	}
	if c.InFlight() != 0 {
		t.Fatal("a call is in flight")
	}
}

func (s suite) errors(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	e := assertError(t, c.Call(ctx, "Arith.divide", factors{6, 0}, nil), CodeApplication, ExecutionDone)
	var details string
	if must(t, e.DecodeDetails(&details)); details != "division_by_zero" || e.MayRepeat() {
		t.Fatal(details)
	}
	if text := e.Error(); text != "Arith.divide: division by zero (application, done)" {
		t.Fatal(text)
	}
	assertError(t, c.Call(ctx, "Arith.divide", map[string]any{"a": "six", "b": 1}, nil), CodeInvalidArgument, ExecutionRefused)
	e = assertError(t, c.Call(ctx, "Arith.subtract", nil, nil), CodeUnimplemented, ExecutionRefused)
	if e.Method != "Arith.subtract" {
		t.Fatal(e.Method)
	}
	assertError(t, c.Call(ctx, "Echo.panic", []string{"on purpose"}, nil), CodeInternal, ExecutionDone)
	must(t, c.Call(ctx, "Arith.multiply", factors{6, 7}, nil))
}

func (s suite) cancels(t *testing.T) {
	c := s.dial(t)
	for i := 0; i < 3; i++ {
		ctx, cancel := context.WithCancel(soonCtx(t))
		done := c.Go(ctx, "Echo.sleep", []int{foreverMs}, nil, nil).Done
		eventually(t, "a call in flight", func() bool { return c.InFlight() == 1 })
		cancel()
		err := (<-done).Error
		assertError(t, err, CodeCancelled, ExecutionMaybe, ExecutionNotSent)
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
	}
}

func (s suite) deadlines(t *testing.T) {
	c := s.dial(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := c.Call(ctx, "Echo.sleep", []int{foreverMs}, nil)
	assertError(t, err, CodeDeadlineExceeded, ExecutionMaybe, ExecutionRefused, ExecutionNotSent)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
	must(t, c.Call(soonCtx(t), "Echo.sleep", []int{1}, nil))
}

func (s suite) largeBodies(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	data := make([]byte, 1_000_000)
	rand.Read(data)
	var back []byte
	must(t, c.Call(ctx, "Echo.echo", map[string][]byte{"data": data}, &back))
	if !bytes.Equal(back, data) {
		t.Fatal("other bytes came back")
	}
	e := assertError(t, c.Call(ctx, "Echo.echo", [][]byte{make([]byte, 5<<20)}, nil), CodeResourceExhausted, ExecutionNotSent)
	if e.MayRepeat() {
		t.Fatal("a call that is too large is no better the next time")
	}
}

func (s suite) largeAnswer(t *testing.T) {
	c, ctx := s.dial(t, func(o *Options) { o.MaxFrameBytes = 10_000 }), soonCtx(t)
	assertError(t, c.Call(ctx, "Echo.echo", [][]byte{make([]byte, 20_000)}, nil), CodeResourceExhausted, ExecutionDone)
	must(t, c.Call(ctx, "Arith.multiply", []int{6, 7}, nil))
}

func (s suite) reserved(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	services, err := c.Services(ctx)
	must(t, err)
	described := map[string]Service{}
	for _, service := range services {
		described[service.Name] = service
	}
	if m := described["Arith"].Methods[0]; m.Name != "multiply" || !m.Idempotent || m.Params[0] != (Param{"a", "i64"}) {
		t.Fatalf("%+v", m)
	}
	if m := described["Feed"].Methods[0]; !m.Streams.Out || m.Streams.In {
		t.Fatalf("%+v", m)
	}
	for _, service := range []string{"", "Arith"} {
		if status, err := c.Health(ctx, service); err != nil || status != "serving" {
			t.Fatal(status, err)
		}
	}
	must(t, c.Notify(ctx, "Arith.multiply", factors{6, 7}))
	must(t, c.Call(ctx, "Arith.multiply", factors{6, 7}, nil))
	stats, err := c.Stats(ctx)
	must(t, err)
	called := false
	for _, m := range stats {
		called = called || m.Name == "Arith.multiply" && m.Calls > 0
	}
	if !called {
		t.Fatalf("%+v", stats)
	}
	took, err := c.Ping(ctx)
	if must(t, err); took <= 0 {
		t.Fatal(took)
	}
	if terms, _ := c.Terms(); terms.MaxInFlight != 1024 || !terms.Streams {
		t.Fatalf("%+v", terms)
	}
}

func (s suite) receive(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	for _, n := range []uint64{0, 3, 20_000} {
		items, err := Receive[uint64](ctx, c, "Feed.count", map[string]uint64{"from": 0, "to": n})
		must(t, err)
		list := all[uint64](t, items)
		for i, item := range list {
			if item != uint64(i) {
				t.Fatal(i, item)
			}
		}
		var sent uint64
		if must(t, items.Finish(&sent)); sent != n || uint64(len(list)) != n {
			t.Fatal(sent, len(list))
		}
	}
}

func (s suite) upload(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	up, err := Send[int64](ctx, c, "Feed.sum", nil)
	must(t, err)
	for n := int64(1); n <= 5000; n++ {
		must(t, up.Send(n))
	}
	var sum int64
	if must(t, up.Finish(&sum)); sum != 5000*5001/2 {
		t.Fatal(sum)
	}
	if err := up.Send(1); err == nil {
		t.Fatal("an item after the end")
	}
}

func (s suite) exchange(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	both, err := Exchange[[]byte, []byte](ctx, c, "Feed.echo", nil)
	must(t, err)
	const count, size = 100, 20_000
	go func() {
		for n := 0; n < count; n++ {
			if err := both.Send(bytes.Repeat([]byte{byte(n)}, size)); err != nil {
				t.Error(err)
			}
		}
		both.End()
	}()
	list := all[[]byte](t, both)
	var echoed uint64
	if must(t, both.Finish(&echoed)); echoed != count || len(list) != count {
		t.Fatal(echoed, len(list))
	}
	for n, item := range list {
		if len(item) != size || item[0] != byte(n) {
			t.Fatal(n, len(item))
		}
	}
}

func (s suite) failsAfter(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	items, err := Receive[uint64](ctx, c, "Feed.fail_after", []int{3})
	must(t, err)
	for n := uint64(0); n < 3; n++ {
		if item, err := items.Recv(); err != nil || item != n {
			t.Fatal(item, err)
		}
	}
	for i := 0; i < 2; i++ {
		_, err = items.Recv()
		e := assertError(t, err, CodeApplication, ExecutionDone)
		if string(e.Details) != `{"after":3}` {
			t.Fatal(string(e.Details))
		}
	}
	assertError(t, items.Finish(nil), CodeApplication, ExecutionDone)
}

func (s suite) leaves(t *testing.T) {
	c := s.dial(t)
	for _, leave := range []func(*ItemStream[uint64], context.CancelFunc){
		func(i *ItemStream[uint64], _ context.CancelFunc) { i.Close() },
		func(_ *ItemStream[uint64], cancel context.CancelFunc) { cancel() },
	} {
		ctx, cancel := context.WithCancel(soonCtx(t))
		items, err := Receive[uint64](ctx, c, "Feed.ticks", []int{1})
		must(t, err)
		_, err = items.Recv()
		must(t, err)
		leave(items, cancel)
		eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
		for err == nil {
			_, err = items.Recv()
		}
		assertError(t, err, CodeCancelled, ExecutionMaybe)
		cancel()
	}
}

func (s suite) answersEarly(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	up, err := Send[int](ctx, c, "Feed.first", []int{2})
	must(t, err)
	for err == nil {
		err = up.Send(1)
	}
	if err != ErrStopped {
		t.Fatal(err)
	}
	var read int
	if must(t, up.Finish(&read)); read != 2 {
		t.Fatal(read)
	}
}

func (s suite) stalls(t *testing.T) {
	c, ctx := s.dial(t, func(o *Options) { o.StreamStall = 100 * time.Millisecond }), soonCtx(t)
	up, err := Send[[]byte](ctx, c, "Feed.hold", nil)
	must(t, err)
	for err == nil {
		err = up.Send(make([]byte, 10_000))
	}
	assertError(t, err, CodeResourceExhausted, ExecutionMaybe)
	eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
}

func (s suite) streamLimits(t *testing.T) {
	c := s.dial(t)
	short := 50 * time.Millisecond
	up, err := Send[int](soonCtx(t), c, "Feed.hold", nil, FirstWithin(short))
	if err == nil {
		err = up.Finish(nil)
	}
	assertError(t, err, CodeDeadlineExceeded, ExecutionMaybe, ExecutionNotSent)
	items, err := Receive[int](soonCtx(t), c, "Feed.ticks", []int{foreverMs}, Gap(short))
	must(t, err)
	_, err = items.Recv()
	must(t, err)
	_, err = items.Recv()
	assertError(t, err, CodeDeadlineExceeded, ExecutionMaybe)
	ctx, cancel := context.WithTimeout(context.Background(), 4*short)
	defer cancel()
	items, err = Receive[int](ctx, c, "Feed.ticks", []int{1})
	for err == nil {
		_, err = items.Recv()
	}
	assertError(t, err, CodeDeadlineExceeded, ExecutionMaybe, ExecutionNotSent, ExecutionRefused)
}

func (s suite) wrongKind(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	assertError(t, c.Call(ctx, "Feed.count", []int{0, 1}, nil), CodeInvalidArgument, ExecutionRefused)
	items, err := Receive[int](ctx, c, "Arith.multiply", factors{6, 7})
	must(t, err)
	_, err = items.Recv()
	assertError(t, err, CodeInvalidArgument, ExecutionRefused)
}

func (s suite) shares(t *testing.T) {
	c, ctx := s.dial(t), soonCtx(t)
	// One that no one reads, beside others that are read.
	idle, err := Receive[[]byte](ctx, c, "Feed.blobs", []int{1000, 10_000})
	must(t, err)
	defer idle.Close()
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(2)
		go func() {
			defer wait.Done()
			items, err := Receive[[]byte](ctx, c, "Feed.blobs", []int{100, 5000})
			n := 0
			for err == nil {
				if _, err = items.Recv(); err == nil {
					n++
				}
			}
			if err != io.EOF || n != 100 {
				t.Error(n, err)
			}
		}()
		go func() {
			defer wait.Done()
			for n := int64(0); n < 50; n++ {
				if err := c.Call(ctx, "Arith.multiply", factors{n, n}, nil); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wait.Wait()
}

type starter func(t *testing.T, where string) (*demo, string)

func (s suite) killed(t *testing.T, start starter) {
	d, where := start(t, "")
	c := dialed(t, s.scheme+"@"+where, s.opts)
	done := c.Go(soonCtx(t), "Echo.sleep", []int{foreverMs}, nil, nil).Done
	eventually(t, "a call in flight", func() bool { return c.InFlight() == 1 })
	_, err := c.Ping(soonCtx(t)) // the request before it has left
	must(t, err)
	d.kill()
	assertError(t, (<-done).Error, CodeUnavailable, ExecutionMaybe)
	start(t, where)
	eventually(t, "a call of the successor", func() bool {
		return c.Call(soonCtx(t), "Arith.multiply", []int{6, 7}, nil) == nil
	})
	must(t, c.Close(soonCtx(t)))
	assertError(t, c.Call(soonCtx(t), "Arith.multiply", []int{6, 7}, nil), CodeUnavailable, ExecutionNotSent)
}

func (s suite) stops(t *testing.T, start starter) {
	d, where := start(t, "")
	c := dialed(t, s.scheme+"@"+where, s.opts)
	var slept int
	done := c.Go(soonCtx(t), "Echo.sleep", []int{300}, &slept, nil).Done
	eventually(t, "a call in flight", func() bool { return c.InFlight() == 1 })
	_, err := c.Ping(soonCtx(t))
	must(t, err)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if must(t, (<-done).Error); slept != 300 {
		t.Fatal(slept)
	}
	must(t, d.cmd.Wait())
}
