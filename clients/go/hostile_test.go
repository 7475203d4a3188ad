package farcall

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHostileServers: each breaks the protocol while a call is in flight.
func TestHostileServers(t *testing.T) {
	for name, attack := range map[string]func(*peer, uint64){
		"unknown kind":       func(p *peer, n uint64) { p.send("surprise", n, "") },
		"a client's kind":    func(p *peer, n uint64) { p.send("request", n, "") },
		"a client's end":     func(p *peer, n uint64) { p.send("end", n, "") },
		"a client's cancel":  func(p *peer, n uint64) { p.send("cancel", n, "") },
		"no header":          func(p *peer, n uint64) { p.write("", "") },
		"deep header":        func(p *peer, n uint64) { p.write(strings.Repeat("[", 60_000), "") },
		"large header":       func(p *peer, n uint64) { p.write(strings.Repeat(" ", 70_000), "") },
		"huge length":        func(p *peer, n uint64) { p.nc.Write([]byte{255, 255, 255, 255}) },
		"huge body":          func(p *peer, n uint64) { p.write(`{"kind":"response","seq":1}`); p.nc.Write([]byte{127, 0, 0, 0}) },
		"seq of 2^53":        func(p *peer, n uint64) { p.write(`{"kind":"response","seq":9007199254740992}`, "") },
		"credit of nonsense": func(p *peer, n uint64) { p.send("credit", n, `"x"`) },
		"credit of nothing":  func(p *peer, n uint64) { p.send("credit", n, "") },
		"pings":              func(p *peer, n uint64) { p.pings(11) },
		"cut header":         func(p *peer, n uint64) { p.nc.Write([]byte{0, 0, 0, 9, '{'}) },
		"cut body":           func(p *peer, n uint64) { p.write(`{"kind":"response","seq":1}`); p.nc.Write([]byte{0, 1, 0, 0, 'x'}) },
		"cut length":         func(p *peer, n uint64) { p.nc.Write([]byte{0, 0}) },
		"a header alone":     func(p *peer, n uint64) { p.write(`{"kind":"response","seq":1}`) },
		"end of stream":      func(p *peer, n uint64) {},
	} {
		name, attack := name, attack
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(p *peer) {
				m := p.next("request")
				attack(p, m.Seq)
				if strings.HasPrefix(name, "cut") || name == "a header alone" || name == "end of stream" {
					return
				}
				p.ended()
			}, (*peer).echo)
			c := dialed(t, server.address, nil)
			assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionMaybe)
			must(t, c.Call(soonCtx(t), "A.b", 1, nil)) // the next one connects again
		})
	}
}

func (p *peer) pings(n int) {
	for i := 0; i < n; i++ {
		p.send("ping", uint64(i), "")
	}
}

func TestOversizedFrameIsAnsweredByGoaway(t *testing.T) {
	reason := make(chan *wireError, 1)
	server := serve(t, func(p *peer) {
		p.next("request")
		p.nc.Write([]byte{0, 1, 0, 1})
		reason <- p.next("goaway").Error
	})
	c := dialed(t, server.address, nil)
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionMaybe)
	if e := <-reason; e == nil || e.Code != string(CodeResourceExhausted) {
		t.Fatalf("%+v", e)
	}
}

// TestAnswersWithoutEnd: a server that sends a byte now and then, and no answer, is ended by the deadline.
func TestAnswersWithoutEnd(t *testing.T) {
	server := serve(t, func(p *peer) {
		p.next("request")
		p.write(`{"kind":"response","seq":1}`)
		p.nc.Write([]byte{0, 0x10, 0, 0})
		for {
			if _, err := p.nc.Write([]byte{' '}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	c := dialed(t, server.address, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	assertError(t, c.Call(ctx, "A.b", nil, nil), CodeDeadlineExceeded, ExecutionMaybe, ExecutionNotSent)
	closing, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if err := c.Close(closing); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err) // the cancelled call has no answer
	}
}

func TestServerThatReadsNothing(t *testing.T) {
	hold := make(chan struct{})
	server := serveWith(t, `,"max_frame_bytes":67108864`, nil, func(p *peer) { <-hold })
	t.Cleanup(func() { close(hold) })
	c := dialed(t, server.address, &Options{PingAfter: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond})
	var wait sync.WaitGroup
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			err := c.Call(soonCtx(t), "A.b", strings.Repeat("x", 4<<20), nil)
			assertError(t, err, CodeUnavailable, ExecutionMaybe, ExecutionNotSent)
		}()
	}
	wait.Wait()
}

func TestMeaninglessMessagesAreIgnored(t *testing.T) {
	server := serve(t, func(p *peer) {
		m := p.next("request")
		for _, kind := range []string{"response", "pong", "item", "credit", "stop"} {
			p.send(kind, 999, "1")
		}
		p.answer(m.Seq, "1")
		p.answer(m.Seq, "2") // a second answer
		p.fail(m.Seq, CodeInternal, ExecutionDone)
		p.echo()
	})
	c := dialed(t, server.address, nil)
	var n int
	must(t, c.Call(soonCtx(t), "A.b", nil, &n))
	must(t, c.Call(soonCtx(t), "A.b", 5, &n))
	if n != 5 || server.connections() != 1 {
		t.Fatal(n)
	}
}

func TestInvalidAnswersFailTheirCallAlone(t *testing.T) {
	bodies := []string{"", "{", "1 2", `"text"`, "null", strings.Repeat("[", 100_000)}
	server := serve(t, func(p *peer) {
		for _, body := range bodies {
			p.answer(p.next("request").Seq, body)
		}
		p.send("response", p.next("request").Seq, "1", `,"flags":1`)
		p.echo()
	})
	c := dialed(t, server.address, nil)
	for _, body := range bodies {
		var n int
		err := c.Call(soonCtx(t), "A.b", nil, &n)
		if body == "null" {
			must(t, err)
			continue
		}
		assertError(t, err, CodeInternal, ExecutionDone)
	}
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeInternal, ExecutionDone)
	must(t, c.Call(soonCtx(t), "A.b", 1, nil))
	if server.connections() != 1 {
		t.Fatal("it connected again")
	}
}
