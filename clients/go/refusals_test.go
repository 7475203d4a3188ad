package farcall

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// leaving says goaway, and begins nothing. That the connection did not last causes no pause.
func leaving(clients chan *Client) func(*peer) {
	return func(p *peer) {
		p.nextRequest()
		leave(p, clients)
	}
}

func leave(p *peer, clients chan *Client) {
	c := <-clients
	c.forgive()
	clients <- c
	p.send("goaway", 0, "")
	p.ended()
}

// left is a client of servers that leave, whose pauses take no time.
func left(t testing.TB, clients chan *Client, scripts ...func(*peer)) (*fakeServer, *Client) {
	t.Helper()
	server := streaming(t, 1000, 5, scripts...)
	c, _ := impatient(t, server.address)
	clients <- c
	return server, c
}

// ways are a call and a stream.
var ways = map[string]func(*testing.T, *Client, any) error{
	"call": func(t *testing.T, c *Client, reply any) error { return c.Call(soonCtx(t), "A.b", nil, reply) },
	"stream": func(t *testing.T, c *Client, reply any) error {
		up, err := Send[int](soonCtx(t), c, "A.b", nil)
		if err != nil {
			return err
		}
		return up.Finish(reply)
	},
}

func TestGoawaysCountAsNoTries(t *testing.T) {
	for name, call := range ways {
		t.Run(name, func(t *testing.T) {
			clients := make(chan *Client, 1)
			var scripts []func(*peer)
			for i := 0; i < maxGoaways; i++ {
				scripts = append(scripts, leaving(clients))
			}
			_, c := left(t, clients, append(scripts, func(p *peer) {
				m := p.next("request")
				p.answer(m.Seq, m.Metadata[metaAttempt])
				p.ended()
			})...)
			// However long the test takes, nothing is left of the budget.
			c.budget.at, c.budget.tries = time.Now().Add(time.Hour), 1e9
			var attempt int
			if must(t, call(t, c, &attempt)); attempt != maxGoaways+1 {
				t.Fatal(attempt)
			}
		})
	}
}

func TestACallThatAllConnectionsRefuseFailsInTheEnd(t *testing.T) {
	for name, call := range ways {
		t.Run(name, func(t *testing.T) {
			clients := make(chan *Client, 1)
			server, c := left(t, clients, leaving(clients))
			assertError(t, call(t, c, nil), CodeUnavailable, ExecutionRefused)
			if n := server.connections(); n != maxGoaways+maxTries {
				t.Fatal(n)
			}
		})
	}
}

func TestRefusalsForLoadCountAsTries(t *testing.T) {
	clients := make(chan *Client, 1)
	server, c := left(t, clients, func(p *peer) {
		p.send("response", p.next("request").Seq, "", refusal("1"))
		if m, err := p.read(); err == nil && m.Kind == "request" {
			leave(p, clients)
		}
	})
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeResourceExhausted, ExecutionRefused)
	if n := server.connections(); n != maxTries {
		t.Fatal(n)
	}
}

func TestARefusalThatIsAnAnswerIsNoGoaway(t *testing.T) {
	clients := make(chan *Client, 1)
	server, c := left(t, clients, func(p *peer) {
		m := p.next("request")
		c := <-clients
		c.forgive()
		clients <- c
		p.send("goaway", m.Seq, "")
		p.fail(m.Seq, CodeUnavailable, ExecutionRefused)
		p.ended()
	})
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionRefused)
	if n := server.connections(); n != maxTries {
		t.Fatal(n)
	}
}

// refusal is the rest of the header of a response that asks for another try after this time, in ms.
func refusal(retryAfter string) string {
	return fmt.Sprintf(`,"error":{"code":"resource_exhausted","message":"busy","execution":"refused"},"metadata":{"farcall-retry-after-ms":%q}`, retryAfter)
}

func TestAStreamIsAskedAgainAfterTheTimeThatTheServerSays(t *testing.T) {
	for retryAfter, tries := range map[string]int{"4000": 3, "30001": 1} {
		var requests atomic.Int32
		server := streaming(t, 1000, 5, busyCounting(&requests, CodeResourceExhausted, retryAfter))
		c, pauses := impatient(t, server.address)
		items, err := Receive[int](soonCtx(t), c, "F.count", nil)
		must(t, err)
		_, err = items.Recv()
		assertError(t, err, CodeResourceExhausted, ExecutionRefused)
		if n := int(requests.Load()); n != tries || len(*pauses) != tries-1 {
			t.Fatal(retryAfter, n, *pauses)
		}
		for _, pause := range *pauses {
			if pause < 4*time.Second || pause > 5*time.Second {
				t.Fatal(pause)
			}
		}
	}
}

func TestAStreamThatIsAskedAgainSendsItsItemsAgain(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		m := p.next("request")
		p.next("item")
		p.send("response", m.Seq, "", refusal("1"))
		m = p.next("request")
		for i := 1; i <= 2; i++ {
			if item := p.next("item"); string(item.body) != strconv.Itoa(i) || item.Seq != m.Seq {
				panic(scriptError{fmt.Sprint("item ", i)})
			}
		}
		p.next("end")
		p.answer(m.Seq, "3")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[int](soonCtx(t), c, "F.sum", nil)
	must(t, err)
	must(t, up.Send(1))
	eventually(t, "the refusal", up.refused)
	must(t, up.Send(2))
	var n int
	if must(t, up.Finish(&n)); n != 3 {
		t.Fatal(n)
	}
}

func TestAStreamWithItemsIsNotAskedAgain(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		m := p.next("request")
		p.send("item", m.Seq, "1")
		p.send("response", m.Seq, "", refusal("1"))
		p.ended()
	})
	c, pauses := impatient(t, server.address)
	items, err := Receive[int](soonCtx(t), c, "F.count", nil)
	must(t, err)
	_, err = items.Recv()
	must(t, err)
	_, err = items.Recv()
	assertError(t, err, CodeResourceExhausted, ExecutionMaybe)
	if len(*pauses) != 0 {
		t.Fatal(*pauses)
	}
}

func TestAStreamThatWaitsToBeMadeAgainCanBeClosed(t *testing.T) {
	var requests atomic.Int32
	server := streaming(t, 1000, 5, busyCounting(&requests, CodeResourceExhausted, "20000"))
	c := dialed(t, server.address, nil)
	items, err := Receive[int](soonCtx(t), c, "F.count", nil)
	must(t, err)
	received := make(chan error, 1)
	go func() {
		_, err := items.Recv()
		received <- err
	}()
	eventually(t, "it waits", func() bool {
		free := items.s.sendMu.TryLock()
		if free {
			items.s.sendMu.Unlock()
		}
		return !free
	})
	items.Close()
	assertError(t, <-received, CodeCancelled, ExecutionMaybe, ExecutionNotSent)
	if n := requests.Load(); n != 1 {
		t.Fatal(n)
	}
}
