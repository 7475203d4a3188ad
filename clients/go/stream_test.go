package farcall

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// streaming is a server that streams, with these windows.
func streaming(t testing.TB, window, streams int, scripts ...func(*peer)) *fakeServer {
	return serveWith(t, fmt.Sprintf(`,"features":["streams"],"stream_window":%d,"max_streams":%d`, window, streams), nil, scripts...)
}

func TestMessagesOfAStream(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		m := p.next("request")
		if m.Flags != flagStreaming || string(m.body) != `{"from":3,"to":5}` || m.TimeoutMs == 0 {
			panic(scriptError{"a streaming request"})
		}
		p.send("item", m.Seq, "3")
		p.send("item", m.Seq, "4", `,"flags":16`)
		p.answer(m.Seq, "2")

		m = p.next("request")
		for i := 1; i <= 3; i++ {
			if item := p.next("item"); string(item.body) != strconv.Itoa(i) || item.Seq != m.Seq || item.Flags != 0 {
				panic(scriptError{fmt.Sprint("item ", i)})
			}
		}
		if end := p.next("end"); end.Seq != m.Seq || len(end.body) != 0 {
			panic(scriptError{"the end"})
		}
		p.answer(m.Seq, "6")

		m = p.next("request")
		p.send("item", m.Seq, "1")
		p.next("stop")
		p.send("item", m.Seq, "2") // was on its way
		p.answer(m.Seq, "7")

		m = p.next("request")
		p.send("item", m.Seq, "1")
		if cancel := p.next("cancel"); cancel.Seq != m.Seq {
			panic(scriptError{"the cancel"})
		}
		p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
		p.ended()
	})
	if c := server; c == nil {
		t.Fatal()
	}
	c, ctx := dialed(t, server.address, nil), soonCtx(t)
	var final int
	items, err := Receive[int](ctx, c, "F.count", map[string]int{"from": 3, "to": 5})
	must(t, err)
	if list := all[int](t, items); len(list) != 2 || list[1] != 4 {
		t.Fatal(list)
	}
	if must(t, items.Finish(&final)); final != 2 {
		t.Fatal(final)
	}
	up, err := Send[int](ctx, c, "F.sum", nil)
	must(t, err)
	for i := 1; i <= 3; i++ {
		must(t, up.Send(i))
	}
	if must(t, up.Finish(&final)); final != 6 {
		t.Fatal(final)
	}
	items, err = Receive[int](ctx, c, "F.count", nil)
	must(t, err)
	_, err = items.Recv()
	must(t, err)
	items.Stop()
	if _, err := items.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	if must(t, items.Finish(&final)); final != 7 {
		t.Fatal(final)
	}
	items, err = Receive[int](ctx, c, "F.count", nil)
	must(t, err)
	_, err = items.Recv()
	must(t, err)
	items.Close()
	_, err = items.Recv()
	assertError(t, err, CodeCancelled, ExecutionMaybe)
	assertError(t, items.Finish(nil), CodeCancelled, ExecutionMaybe)
	eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
}

func TestServerWithoutStreams(t *testing.T) {
	server := serveWith(t, "", nil, (*peer).echo)
	_, err := Receive[int](soonCtx(t), dialed(t, server.address, nil), "F.count", nil)
	assertError(t, err, CodeUnimplemented, ExecutionNotSent)
	server = streaming(t, 1000, 0, (*peer).echo)
	_, err = Receive[int](soonCtx(t), dialed(t, server.address, nil), "F.count", nil)
	assertError(t, err, CodeResourceExhausted, ExecutionNotSent)
	for _, kind := range []string{"item", "credit", "stop"} {
		server = serveWith(t, "", nil, func(p *peer) {
			p.send(kind, p.next("request").Seq, "1")
			p.ended()
		})
		err := dialed(t, server.address, nil).Call(soonCtx(t), "A.b", nil, nil)
		assertError(t, err, CodeUnavailable, ExecutionMaybe)
	}
}

func TestStreamsBeyondMaxStreamsWaitAndCallsDoNot(t *testing.T) {
	server := streaming(t, 1000, 1, func(p *peer) {
		first := p.next("request")
		call := p.next("request")
		p.answer(call.Seq, "1")
		p.next("request") // the call after it
		p.answer(first.Seq, "null")
		p.answer(p.nextRequest().Seq, "null")
		p.ended()
	})
	c, ctx := dialed(t, server.address, nil), soonCtx(t)
	one, err := Receive[int](ctx, c, "F.a", nil)
	must(t, err)
	must(t, c.Call(ctx, "A.b", nil, nil))
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = Receive[int](short, c, "F.a", nil)
	assertError(t, err, CodeDeadlineExceeded, ExecutionNotSent)
	_, err = Receive[int](ctx, c, "F.a", nil, FirstWithin(10*time.Millisecond))
	assertError(t, err, CodeDeadlineExceeded, ExecutionNotSent)
	must(t, c.Notify(ctx, "A.b", nil))
	must(t, one.Finish(nil))
	two, err := Receive[int](ctx, c, "F.a", nil)
	must(t, err)
	must(t, two.Finish(nil))
}

func TestAWindowOf0LetsNothingBeSentBeforeACredit(t *testing.T) {
	cancelled := make(chan struct{})
	server := streaming(t, 0, 5, func(p *peer) {
		m := p.next("request")
		p.next("cancel") // no item before it
		close(cancelled)
		p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
		p.ended()
	})
	c, ctx := dialed(t, server.address, &Options{StreamStall: 20 * time.Millisecond}), soonCtx(t)
	if terms, _ := c.Terms(); terms.StreamWindow != 0 {
		t.Fatal(terms.StreamWindow)
	}
	up, err := Send[int](ctx, c, "F.a", nil)
	must(t, err)
	assertError(t, up.Send(1), CodeResourceExhausted, ExecutionMaybe)
	<-cancelled
}

func TestCreditIsObeyed(t *testing.T) {
	go1, seen2 := make(chan struct{}), make(chan struct{})
	server := streaming(t, 100, 5, func(p *peer) {
		m := p.next("request")
		p.next("item") // 65 of 100
		p.next("item") // 130: over it
		<-go1
		p.send("credit", m.Seq, "50") // lower: nothing
		p.send("credit", m.Seq, "131")
		if item := p.next("item"); item.Flags != flagStarved {
			panic(scriptError{"a starved item"})
		}
		close(seen2)
		p.send("credit", m.Seq, "1000000")
		p.next("item")
		large := p.next("item")
		if len(large.body) < 500_000 {
			panic(scriptError{"a large item"})
		}
		p.next("end")
		p.answer(m.Seq, "null")
		p.ended()
	})
	c, ctx := dialed(t, server.address, nil), soonCtx(t)
	up, err := Send[any](ctx, c, "F.sum", nil)
	must(t, err)
	must(t, up.Send(1))
	must(t, up.Send(2))
	sent := make(chan error)
	go func() { sent <- up.Send(3) }()
	select {
	case <-sent:
		t.Fatal("an item without credit")
	case <-time.After(20 * time.Millisecond):
	}
	close(go1)
	must(t, <-sent)
	<-seen2
	must(t, up.Send(4))
	must(t, up.Send(strings.Repeat("x", 500_000)))
	must(t, up.Finish(nil))
}

func TestReceiverGrantsWhatIsTaken(t *testing.T) {
	credit := make(chan uint64, 1)
	server := streaming(t, 100, 5, func(p *peer) {
		m := p.next("request")
		for i := 0; i < 10; i++ {
			p.send("item", m.Seq, `"`+strings.Repeat("x", 34)+`"`) // costs 100
		}
		got := p.next("credit")
		n, _ := strconv.ParseUint(string(got.body), 10, 64)
		credit <- n
		p.answer(m.Seq, "null")
		p.ended()
	})
	c := dialed(t, server.address, &Options{StreamWindow: 1000})
	items, err := Receive[string](soonCtx(t), c, "F.a", nil)
	must(t, err)
	for i := 0; i < 4; i++ {
		_, err := items.Recv()
		must(t, err)
	}
	select {
	case n := <-credit:
		t.Fatal("credit before half of the window was taken: ", n)
	case <-time.After(20 * time.Millisecond):
	}
	_, err = items.Recv()
	must(t, err)
	if n := <-credit; n != 1500 {
		t.Fatal(n)
	}
	if list := all[string](t, items); len(list) != 5 {
		t.Fatal(len(list))
	}
}

func TestItemsWithoutCreditBreakTheProtocol(t *testing.T) {
	server := streaming(t, 100, 5, func(p *peer) {
		m := p.next("request")
		for i := 0; i < 3; i++ {
			p.send("item", m.Seq, `"`+strings.Repeat("x", 34)+`"`)
		}
		p.ended()
	})
	c := dialed(t, server.address, &Options{StreamWindow: 200})
	items, err := Receive[string](soonCtx(t), c, "F.a", nil)
	must(t, err)
	eventually(t, "the connection has ended", func() bool { return c.InFlight() == 0 })
	for i := 0; i < 2; i++ {
		_, err := items.Recv()
		must(t, err) // what had come is there
	}
	_, err = items.Recv()
	assertError(t, err, CodeUnavailable, ExecutionMaybe)
}

func TestACutStreamIsNeverComplete(t *testing.T) {
	server := streaming(t, 100, 5, func(p *peer) {
		p.send("item", p.next("request").Seq, "1")
	}, func(p *peer) {
		m := p.next("request")
		p.send("item", m.Seq, "1")
		p.fail(m.Seq, CodeUnavailable, ExecutionRefused)
		p.ended()
	})
	c := dialed(t, server.address, nil)
	for i := 0; i < 2; i++ {
		items, err := Receive[int](soonCtx(t), c, "F.a", nil)
		must(t, err)
		_, err = items.Recv()
		must(t, err)
		for j := 0; j < 2; j++ {
			_, err = items.Recv()
			// An error after an item is maybe, whatever the server says.
			assertError(t, err, CodeUnavailable, ExecutionMaybe)
		}
	}
}

func TestAnItemThatCannotBeReadEndsItsCall(t *testing.T) {
	for _, bad := range []string{`"text"`, "{", "", strings.Repeat("[", 20_000)} {
		server := streaming(t, 100, 5, func(p *peer) {
			m := p.next("request")
			p.send("item", m.Seq, bad)
			if cancel := p.next("cancel"); cancel.Seq != m.Seq {
				panic(scriptError{"the cancel"})
			}
			p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
			p.echo()
		})
		c := dialed(t, server.address, nil)
		items, err := Receive[int](soonCtx(t), c, "F.a", nil)
		must(t, err)
		for i := 0; i < 2; i++ {
			_, err = items.Recv()
			assertError(t, err, CodeInternal, ExecutionMaybe)
		}
		must(t, c.Call(soonCtx(t), "A.b", 1, nil))
		if server.connections() != 1 {
			t.Fatal("it connected again")
		}
	}
}

func TestAnItemThatCannotBeSentFailsAlone(t *testing.T) {
	server := serveWith(t, `,"features":["streams"],"max_frame_bytes":2000`, nil, func(p *peer) {
		m := p.next("request")
		p.next("item")
		p.next("end")
		p.answer(m.Seq, "1")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[any](soonCtx(t), c, "F.a", nil)
	must(t, err)
	assertError(t, up.Send(make(chan int)), CodeInvalidArgument, ExecutionMaybe)
	assertError(t, up.Send(strings.Repeat("x", 3000)), CodeResourceExhausted, ExecutionMaybe)
	must(t, up.Send(1))
	must(t, up.Finish(nil))
}

func TestServerThatTakesNoMoreItems(t *testing.T) {
	server := streaming(t, 100, 5, func(p *peer) {
		m := p.next("request")
		p.next("item")
		p.send("stop", m.Seq, "")
		p.nextRequest()
		p.answer(m.Seq, "5")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	for err == nil {
		err = up.Send(1) // the second one waits for credit at the latest
	}
	if err != ErrStopped {
		t.Fatal(err)
	}
	must(t, c.Notify(soonCtx(t), "A.b", nil))
	var n int
	if must(t, up.Finish(&n)); n != 5 {
		t.Fatal(n)
	}
}

func TestItemsForAnUploadAreStoppedOnce(t *testing.T) {
	server := streaming(t, 100, 5, func(p *peer) {
		m := p.next("request")
		p.send("item", m.Seq, "1")
		p.send("item", m.Seq, "2")
		p.next("stop")
		p.next("end")
		p.answer(m.Seq, "5")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	eventually(t, "the items have come", func() bool {
		at := up.s.call.c
		at.mu.Lock()
		defer at.mu.Unlock()
		return up.s.call.granted.received == 2*65
	})
	must(t, up.Finish(nil))
}

func TestABrokenUploadIsNeverComplete(t *testing.T) {
	kinds := make(chan []string, 2)
	server := streaming(t, 1000, 5, func(p *peer) {
		for i := 0; i < 2; i++ {
			m := p.next("request")
			p.next("item")
			p.next("cancel")
			p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
		}
		kinds <- p.kinds
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	must(t, up.Send(1))
	eventually(t, "the item is written", func() bool { return written(up.s) })
	up.Close()
	assertError(t, up.Finish(nil), CodeCancelled, ExecutionMaybe)
	dropUpload(t, c)
	eventually(t, "a forgotten upload is cancelled", func() bool { runtime.GC(); return len(kinds) > 0 })
	if list := strings.Join(<-kinds, " "); strings.Contains(list, "end") {
		t.Fatal(list)
	}
}

func dropUpload(t *testing.T, c *Client) {
	up, err := Send[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	must(t, up.Send(1))
	eventually(t, "the item is written", func() bool { return written(up.s) })
}

// written reports whether no item waits for its turn.
func written(s *stream) bool {
	s.call.c.mu.Lock()
	defer s.call.c.mu.Unlock()
	return len(s.call.queue) == 0
}

func TestClosingTheClientEndsItsStreams(t *testing.T) {
	server := streaming(t, 1000, 5, (*peer).answerCancels)
	c := dialed(t, server.address, nil)
	items, err := Receive[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	c.Abort()
	_, err = items.Recv()
	assertError(t, err, CodeUnavailable, ExecutionMaybe, ExecutionNotSent)
}

func TestCallsAreAnsweredWhileAStreamStandsStill(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		m := p.next("request")
		for i := 0; i < 100; i++ {
			p.send("item", m.Seq, "1")
		}
		p.echo()
	})
	c := dialed(t, server.address, nil)
	items, err := Receive[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	for i := 0; i < 50; i++ {
		must(t, c.Call(soonCtx(t), "A.b", 1, nil))
	}
	items.Close()
}

func TestStreamsLeftAtAnyMomentLeaveNothing(t *testing.T) {
	server := streaming(t, 1000, 50, func(p *peer) {
		for {
			m, err := p.read()
			if err != nil {
				return
			}
			switch m.Kind {
			case "request":
				p.send("item", m.Seq, "1")
			case "cancel":
				p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
			}
		}
	})
	c := dialed(t, server.address, nil)
	var wait sync.WaitGroup
	for i := 0; i < 100; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			ctx, cancel := context.WithCancel(soonCtx(t))
			defer cancel()
			time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
			both, err := Exchange[int, int](ctx, c, "F.a", nil)
			for err == nil {
				if _, err = both.Recv(); err == nil {
					err = both.Send(1)
				}
			}
			if err != ErrStopped {
				assertError(t, err, CodeCancelled, ExecutionMaybe, ExecutionNotSent)
			}
		}(i)
	}
	wait.Wait()
	eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
	at := c.endpoints[0].connections()[0]
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.streamSlots.free != 50 || at.growth.left != 64<<20 || at.out.queued != 0 {
		t.Fatalf("%d slots, %d growth, %d queued", at.streamSlots.free, at.growth.left, at.out.queued)
	}
}
