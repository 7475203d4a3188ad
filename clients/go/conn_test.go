package farcall

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestVectors compares what the client writes with section 16.2 of the protocol, and reads its answers.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Skip(err)
	}
	_, section, _ := strings.Cut(string(text), "### 16.2 JSON")
	section, _, _ = strings.Cut(section, "## 17")
	var frames [][]byte
	for _, line := range regexp.MustCompile(`(?m)^    ([0-9a-f ]+)$`).FindAllStringSubmatch(section, -1) {
		data, err := hex.DecodeString(strings.ReplaceAll(line[1], " ", ""))
		must(t, err)
		frames = append(frames, data)
	}
	wire := bytes.Join(frames, nil)
	body, err := encodeArgs(map[string]int{"a": 6, "b": 7})
	must(t, err)
	request := encodeRequestHead(1, "Arith.multiply", nil, 0, true)
	again := encodeRequestHead(4, "Arith.multiply", map[string]string{metaAttempt: "2"}, flagIdempotent, false)
	for name, own := range map[string][]byte{
		"request":         appendFrame(request.appendFrame(nil, 500), body),
		"cancel":          encodeMessage("cancel", 3, nil, 0, nil),
		"ping":            encodeMessage("ping", 9, nil, 0, nil),
		"pong":            encodeMessage("pong", 9, nil, 0, nil),
		"request again":   appendFrame(again.appendFrame(nil, 0), []byte("[6,7]")),
		"goaway":          encodeMessage("goaway", 4, nil, 0, nil),
		"header of error": encodeMessage("response", 2, &wireError{"unimplemented", "no method `divide` in service `Arith`", "refused"}, 0, nil),
	} {
		if !bytes.Contains(wire, own) {
			t.Errorf("%s: %q is no vector", name, own)
		}
	}
	h, err := decodeHeader([]byte(`{"kind":"response","seq":2,"error":{"code":"unimplemented","message":"m","execution":"refused"}}`))
	if must(t, err); h.seq != 2 || *h.err != (wireError{"unimplemented", "m", "refused"}) {
		t.Fatalf("%+v", h)
	}
}

func TestHeadersAreReadAsSpecified(t *testing.T) {
	for text, valid := range map[string]bool{
		`{"kind":"response","seq":1}`: true,
		`{"kind":"response","seq":1.0,"flags":null,"timeout_ms":null,"service_method":null,"error":null,"metadata":null}`: true,
		`{"kind":"response","seq":1e2,"unknown":{"deep":[[[1]]]},"KIND":"ping","SEQ":7}`:                                  true,
		`{"kind":"response","seq":9007199254740991}`:                                                                      true,
		`{"kind":"response","seq":9007199254740992}`:                                                                      false,
		`{"kind":"response","seq":-1}`:                                                                                    false,
		`{"kind":"response","seq":1.5}`:                                                                                   false,
		`{"kind":"response","seq":"1"}`:                                                                                   false,
		`{"kind":"response","seq":true}`:                                                                                  false,
		`{"kind":"response"}`:                                                                                             false,
		`{"kind":2,"seq":1}`:                                                                                              false,
		`{"seq":1}`:                                                                                                       false,
		`{"KIND":"response","seq":1}`:                                                                                     false,
		`{"kind":"response","seq":1,"metadata":{"a":1}}`:                                                                  false,
		`{"kind":"response","seq":1,"metadata":{"a":null}}`:                                                               false,
		`{"kind":"response","seq":1,"metadata":[]}`:                                                                       false,
		`{"kind":"response","seq":1,"flags":-1}`:                                                                          false,
		`{"kind":"response","seq":1,"timeout_ms":"1"}`:                                                                    false,
		`{"kind":"response","seq":1,"service_method":1}`:                                                                  false,
		`{"kind":"response","seq":1,"error":5}`:                                                                           false,
		`{"kind":"response","seq":1,"error":{}}`:                                                                          true,
		`{"kind":"response","seq":1,"error":{"code":5}}`:                                                                  true,
		`{"kind":"response","seq":1} 5`:                                                                                   false,
		`[]`:                                                                                                              false, `null`: false, ``: false, `5`: false, "\xff": false,
		strings.Repeat(`[`, 60_000): false,
		`{"kind":"response","seq":1,"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`: true,
	} {
		h, err := decodeHeader([]byte(text))
		if (err == nil) != valid {
			t.Errorf("%.80s: %v", text, err)
		}
		if err == nil && (h.kind != "response" || h.seq == 7) {
			t.Errorf("%.80s: %+v", text, h)
		}
	}
	h, err := decodeHeader([]byte(`{"kind":"response","seq":1,"error":{"code":"new","execution":"new","message":5}}`))
	if must(t, err); *h.err != (wireError{"internal", "", "maybe"}) {
		t.Fatalf("%+v", h.err)
	}
}

func TestBodiesAreReadAsSpecified(t *testing.T) {
	for body, want := range map[string]any{"null": nil, " 7\n": 7.0, `"\u00e9"`: "é", "[\"é\", 1]": []any{"é", 1.0}} {
		var value any
		if must(t, decodeBody([]byte(body), 0, &value)); !reflect.DeepEqual(value, want) {
			t.Errorf("%q: %v", body, value)
		}
		must(t, decodeBody([]byte(body), 0, nil))
	}
	for _, body := range []string{"7 8", "\"\xff\"", "[\"\xed\xa0\x80\"]"} {
		var value any
		if decodeBody([]byte(body), 0, &value) == nil || decodeBody([]byte(body), 0, nil) == nil {
			t.Errorf("%q: %v", body, value)
		}
	}
}

func TestRequestHasAllOptions(t *testing.T) {
	got := make(chan seen, 3)
	server := serve(t, func(p *peer) {
		for i := 0; i < 2; i++ {
			m := p.next("request")
			got <- m
			p.send("response", m.Seq, "42", `,"metadata":{"farcall-retry-after-ms":"5"}`)
		}
	})
	c := dialed(t, server.address, &Options{Timeout: time.Hour})
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	var reply int
	var answered map[string]string
	must(t, c.Call(ctx, "A.b", factors{6, 7}, &reply, WithMetadata(map[string]string{"tenant": "blue"}), Idempotent(), AnswerMetadata(&answered)))
	if reply != 42 || answered["farcall-retry-after-ms"] != "5" {
		t.Fatal(reply, answered)
	}
	m := <-got
	if m.ServiceMethod != "A.b" || string(m.body) != `{"a":6,"b":7}` || m.Metadata["tenant"] != "blue" || m.Flags != flagIdempotent {
		t.Fatalf("%+v", m)
	}
	if m.TimeoutMs == 0 || m.TimeoutMs > uint64(soon/time.Millisecond) {
		t.Fatal(m.TimeoutMs)
	}
	must(t, c.Call(context.Background(), "A.b", nil, nil))
	if m := <-got; m.TimeoutMs == 0 || m.TimeoutMs > 3_600_000 || len(m.body) != 0 || m.Seq != 2 {
		t.Fatalf("%+v", m)
	}
}

func TestAnswersComeInAnyOrder(t *testing.T) {
	server := serve(t, func(p *peer) {
		var all []seen
		for i := 0; i < 10; i++ {
			all = append(all, p.next("request"))
		}
		for i := range all {
			m := all[len(all)-1-i]
			p.answer(m.Seq, string(m.body))
		}
		p.ended()
	})
	c := dialed(t, server.address, nil)
	var wait sync.WaitGroup
	for n := 0; n < 10; n++ {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			var back int
			if err := c.Call(soonCtx(t), "A.b", n, &back); err != nil || back != n {
				t.Error(n, back, err)
			}
		}(n)
	}
	wait.Wait()
}

func TestCancelledCallIsInFlightUntilItsAnswer(t *testing.T) {
	answer := make(chan struct{})
	server := serveWith(t, `,"max_in_flight":1`, nil, func(p *peer) {
		m := p.next("request")
		if cancelled := p.next("cancel"); cancelled.Seq != m.Seq || len(cancelled.body) != 0 {
			panic(scriptError{"the cancel of the request"})
		}
		<-answer
		p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
		p.echo()
	})
	c := dialed(t, server.address, nil)
	ctx, cancel := context.WithCancel(soonCtx(t))
	done := c.Go(ctx, "A.b", nil, nil, nil).Done
	eventually(t, "the request is written", func() bool { return c.InFlight() == 1 && taken(c) == 1 })
	cancel()
	assertError(t, (<-done).Error, CodeCancelled, ExecutionMaybe)
	short, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	assertError(t, c.Call(short, "A.b", nil, nil), CodeDeadlineExceeded, ExecutionNotSent)
	if c.InFlight() != 1 {
		t.Fatal("its place is free")
	}
	close(answer)
	must(t, c.Call(soonCtx(t), "A.b", 1, nil))
	if c.InFlight() != 0 {
		t.Fatal("its place is not free")
	}
}

// taken returns the number of the last request that was handed to the writer.
func taken(c *Client) uint64 {
	at := c.endpoints[0].connections()[0]
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.out.taken
}

func TestOneWayCalls(t *testing.T) {
	got := make(chan seen, 100)
	server := serveWith(t, `,"max_in_flight":1`, nil, func(p *peer) {
		for {
			m, err := p.read()
			if err != nil {
				return
			}
			got <- m
		}
	})
	c := dialed(t, server.address, nil)
	for n := 0; n < 50; n++ {
		must(t, c.Notify(soonCtx(t), "L.log", n))
	}
	c.Abort() // what Notify returned for is not lost
	for n := 0; n < 50; n++ {
		if m := <-got; m.Flags&flagOneWay == 0 || string(m.body) != fmt.Sprint(n) {
			t.Fatalf("%+v", m)
		}
	}
}

func TestCallsThatCannotBeSent(t *testing.T) {
	server := serveWith(t, `,"max_frame_bytes":2000`, nil, (*peer).echo)
	c := dialed(t, server.address, nil)
	deep := any(1)
	for i := 0; i < 200; i++ {
		deep = []any{deep}
	}
	big := strings.Repeat("x", 3000)
	many := map[string]string{}
	for i := 0; i < 1025; i++ {
		many[fmt.Sprint(i)] = ""
	}
	for name, call := range map[string]struct {
		err  error
		code Code
	}{
		"NaN":              {c.Call(soonCtx(t), "A.b", math.NaN(), nil), CodeInvalidArgument},
		"channel":          {c.Call(soonCtx(t), "A.b", make(chan int), nil), CodeInvalidArgument},
		"no UTF-8":         {c.Call(soonCtx(t), "A.b", "\xff", nil), CodeInvalidArgument},
		"too deep":         {c.Call(soonCtx(t), "A.b", deep, nil), CodeInvalidArgument},
		"no method":        {c.Call(soonCtx(t), "", nil, nil), CodeInvalidArgument},
		"upper case":       {c.Call(soonCtx(t), "A.b", nil, nil, WithMetadata(map[string]string{"A": ""})), CodeInvalidArgument},
		"metadata":         {c.Call(soonCtx(t), "A.b", nil, nil, WithMetadata(many)), CodeInvalidArgument},
		"large":            {c.Call(soonCtx(t), "A.b", big, nil), CodeResourceExhausted},
		"large header":     {c.Call(soonCtx(t), big, nil, nil), CodeResourceExhausted},
		"one-way":          {c.Notify(soonCtx(t), "A.b", big), CodeResourceExhausted},
		"negative timeout": {c.Call(soonCtx(t), "A.b", nil, nil, Gap(-1)), CodeInvalidArgument},
	} {
		if e := assertError(t, call.err, call.code, ExecutionNotSent); e.MayRepeat() {
			t.Errorf("%s: it may be repeated", name)
		}
	}
	var back string
	if must(t, c.Call(soonCtx(t), "A.b", "�\\ufffd é <&>", &back)); back != "�\\ufffd é <&>" {
		t.Fatal(back)
	}
}

func TestGoawayLosesNoCall(t *testing.T) {
	server := serve(t, func(p *peer) {
		first := p.next("request")
		p.next("request")
		p.send("goaway", first.Seq, "", `,"error":{"code":"unavailable","message":"it stops"}`)
		p.answer(first.Seq, `"old"`)
	}, func(p *peer) {
		m := p.next("request")
		p.answer(m.Seq, fmt.Sprintf("%q", "new "+m.Metadata[metaAttempt]))
		p.ended()
	})
	c := dialed(t, server.address, nil)
	var first, second string
	a := c.Go(soonCtx(t), "A.b", nil, &first, nil)
	eventually(t, "the first is written", func() bool { return taken(c) == 1 })
	b := c.Go(soonCtx(t), "A.b", nil, &second, nil)
	<-a.Done
	<-b.Done
	must(t, a.Error)
	if must(t, b.Error); first != "old" || second != "new 2" {
		t.Fatal(first, second)
	}
}

func TestRefusedThreeTimes(t *testing.T) {
	server := serve(t, func(p *peer) {
		p.next("request")
		p.send("goaway", 0, "")
	})
	c := dialed(t, server.address, nil)
	// A pause may come between connections that end at once.
	e := assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionRefused, ExecutionNotSent)
	if !e.MayRepeat() || server.connections() > 3 {
		t.Fatal(server.connections())
	}
}

func TestServerThatSaysGoawayAtOnceIsLeftAlone(t *testing.T) {
	server := serve(t, func(p *peer) {
		// It keeps the call, and with it the connection.
		p.send("goaway", p.next("request").Seq, "")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	begun := time.Now()
	for i := 0; i < 20; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_ = c.Call(ctx, "A.b", nil, nil)
		cancel()
	}
	// Four in two seconds, and one more in each further one.
	if n, most := server.connections(), 2+int(time.Since(begun).Seconds()); n > most {
		t.Fatal(n, most)
	}
}

func TestCallUpToTheBorderWithoutAnswerIsMaybe(t *testing.T) {
	server := serve(t, func(p *peer) {
		m := p.next("request")
		p.send("goaway", m.Seq, "")
	})
	c := dialed(t, server.address, nil)
	e := assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionMaybe)
	if e.MayRepeat() {
		t.Fatal("it may have run")
	}
	e.idempotent = true
	if !e.MayRepeat() {
		t.Fatal("it is idempotent")
	}
}

func TestCloseLetsTheCallsBeAnswered(t *testing.T) {
	closing := make(chan struct{})
	server := serve(t, func(p *peer) {
		m := p.next("request")
		close(closing)
		if g := p.next("goaway"); g.Seq != m.Seq {
			panic(scriptError{"the last request"})
		}
		p.answer(m.Seq, "1")
	})
	c := dialed(t, server.address, nil)
	call := c.Go(soonCtx(t), "A.b", nil, nil, nil)
	<-closing
	must(t, c.Close(soonCtx(t)))
	<-call.Done
	must(t, call.Error)
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionNotSent)
	must(t, c.Close(soonCtx(t)))
}

func TestKeepAlive(t *testing.T) {
	t.Run("a ping is answered", func(t *testing.T) {
		server := serve(t, func(p *peer) {
			m := p.next("request")
			p.pings(10)
			for i := uint64(0); i < 10; i++ {
				if m := p.next("pong"); m.Seq != i {
					panic(scriptError{fmt.Sprint("the pong ", i)})
				}
			}
			p.answer(m.Seq, "1")
			p.ended()
		})
		must(t, dialed(t, server.address, nil).Call(soonCtx(t), "A.b", 1, nil))
	})
	t.Run("silence ends the connection", func(t *testing.T) {
		server := serve(t, func(p *peer) {
			p.next("request")
			p.next("ping")
			p.ended()
		}, (*peer).echo)
		c := dialed(t, server.address, &Options{PingAfter: 20 * time.Millisecond, PingTimeout: 20 * time.Millisecond})
		e := assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionMaybe)
		if !strings.Contains(e.Message, "silent") {
			t.Fatal(e)
		}
	})
	t.Run("pings are limited in their rate", func(t *testing.T) {
		server := serve(t, func(p *peer) {
			for {
				m, err := p.read()
				if err != nil {
					return
				}
				p.send("pong", m.Seq, "")
			}
		})
		c := dialed(t, server.address, nil)
		for i := 0; i < maxOwnPings; i++ {
			_, err := c.Ping(soonCtx(t))
			must(t, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_, err := c.Ping(ctx)
		assertError(t, err, CodeDeadlineExceeded, ExecutionNotSent)
	})
}

func TestMaxWaiting(t *testing.T) {
	server := serveWith(t, `,"max_in_flight":1`, nil, (*peer).answerCancels)
	c := dialed(t, server.address, &Options{MaxWaiting: 1})
	ctx, cancel := context.WithCancel(soonCtx(t))
	first := c.Go(ctx, "A.b", nil, nil, nil)
	eventually(t, "a call in flight", func() bool { return c.InFlight() == 1 })
	second := c.Go(ctx, "A.b", nil, nil, nil)
	at := c.endpoints[0].connections()[0]
	eventually(t, "a call that waits", func() bool {
		at.mu.Lock()
		defer at.mu.Unlock()
		return at.slots.waiting.Len() == 1
	})
	e := assertError(t, c.Call(ctx, "A.b", nil, nil), CodeResourceExhausted, ExecutionNotSent)
	if !e.MayRepeat() {
		t.Fatal(e)
	}
	cancel()
	<-first.Done
	<-second.Done
	assertError(t, second.Error, CodeCancelled, ExecutionNotSent, ExecutionMaybe)
}

func TestCancelAtAnyMoment(t *testing.T) {
	server := serve(t, func(p *peer) {
		for {
			m, err := p.read()
			if err != nil {
				return
			}
			if m.Kind == "request" {
				p.answer(m.Seq, "1")
			}
		}
	})
	c := dialed(t, server.address, nil)
	var wait sync.WaitGroup
	for i := 0; i < 200; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			ctx, cancel := context.WithCancel(soonCtx(t))
			time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
			if err := c.Call(ctx, "A.b", nil, nil); err != nil {
				assertError(t, err, CodeCancelled, ExecutionMaybe, ExecutionNotSent)
			}
		}(i)
	}
	wait.Wait()
	eventually(t, "no call in flight", func() bool { return c.InFlight() == 0 })
}
