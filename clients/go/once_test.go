package farcall

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// keeping is a server with a store of keys of this name.
func keeping(t testing.TB, store string, scripts ...func(*peer)) *fakeServer {
	return serveWith(t, fmt.Sprintf(`,"max_in_flight":1,"once_store":%q`, store), nil, scripts...)
}

// lost takes a request, and breaks the connection.
func lost(p *peer) { p.next("request") }

// impatient is a client that counts every connection as healthy, and notes its pauses in place of waiting.
func impatient(t testing.TB, address string) (*Client, *[]time.Duration) {
	t.Helper()
	c := dialed(t, address, nil)
	var pauses []time.Duration
	c.pauses = func(pause time.Duration) bool {
		c.forgive()
		pauses = append(pauses, pause)
		return true
	}
	return c, &pauses
}

// forgive forgets that connections did not last.
func (c *Client) forgive() {
	for _, e := range c.list() {
		e.mu.Lock()
		e.checkCurrent()
		e.backoff = backoff{}
		e.mu.Unlock()
	}
}

func TestACallOverABrokenConnectionIsMadeAgainWithItsKey(t *testing.T) {
	first := make(chan seen, 1)
	server := keeping(t, "s", func(p *peer) { first <- p.next("request") }, func(p *peer) {
		m, before := p.next("request"), <-first
		if m.Metadata[metaKey] != before.Metadata[metaKey] || len(m.Metadata[metaKey]) != 32 {
			panic(scriptError{fmt.Sprint("the same key, and not ", m.Metadata, before.Metadata)})
		}
		if m.Metadata[metaOnce] != "1" || m.Metadata[metaAttempt] != "2" {
			panic(scriptError{fmt.Sprint("the second try of a call, and not ", m.Metadata)})
		}
		p.answer(m.Seq, "42")
		p.ended()
	})
	c, _ := impatient(t, server.address)
	var reply int
	must(t, c.Call(soonCtx(t), "A.pay", nil, &reply, Once()))
	if reply != 42 {
		t.Fatal(reply)
	}
}

func TestEachCallHasAKeyThatTheCallerMayChoose(t *testing.T) {
	keys := make(chan string, 3)
	server := keeping(t, "s", func(p *peer) {
		for i := 0; i < 3; i++ {
			m := p.next("request")
			keys <- m.Metadata[metaKey]
			p.answer(m.Seq, "1")
		}
		p.ended()
	})
	c, _ := impatient(t, server.address)
	own := map[string]string{metaKey: "order-17"}
	must(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()))
	must(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()))
	must(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once(), WithMetadata(own)))
	if a, b, c := <-keys, <-keys, <-keys; a == b || c != "order-17" || len(own) != 1 {
		t.Fatal(a, b, c, own)
	}
}

// restarts takes a request; later connections have another store.
func restarts(s *fakeServer, p *peer) {
	p.next("request")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terms = `,"once_store":"another"`
}

func TestAServerThatHasRestartedIsNotAskedAgain(t *testing.T) {
	var server *fakeServer
	server = keeping(t, "s", func(p *peer) {
		restarts(server, p)
	}, func(p *peer) {
		if m, err := p.read(); err == nil {
			panic(scriptError{fmt.Sprint("nothing, and not ", m)})
		}
	})
	c, _ := impatient(t, server.address)
	assertError(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()), CodeUnavailable, ExecutionMaybe)
	c.Abort()
	if n := server.connections(); n != 2 {
		t.Fatal(n)
	}
}

func TestAServerThatMayHaveForgottenIsNotAskedAgain(t *testing.T) {
	var o once
	if err := o.check("s"); err != nil {
		t.Fatal(err)
	}
	o.mayBeDone("s", time.Now().Add(-maxRepeatAge+time.Hour))
	if err := o.check("s"); err != nil {
		t.Fatal(err)
	}
	assertError(t, o.check("another"), CodeUnavailable, ExecutionNotSent)
	o = once{}
	o.mayBeDone("s", time.Now().Add(-maxRepeatAge-time.Second))
	// A later try does not make it younger.
	o.mayBeDone("s", time.Now())
	assertError(t, o.check("s"), CodeUnavailable, ExecutionNotSent)
}

func TestACallThatWasNotBegunGoesToAnyServer(t *testing.T) {
	var server *fakeServer
	server = keeping(t, "s", func(p *peer) {
		restarts(server, p)
		p.send("goaway", 0, "")
		p.ended()
	}, (*peer).echo)
	c := dialed(t, server.address, nil)
	must(t, c.Call(soonCtx(t), "A.pay", []int{1}, nil, Once()))
}

func TestAServerThatKeepsNoKeysGetsNoSuchCall(t *testing.T) {
	silent := func(p *peer) {
		if m, err := p.read(); err == nil {
			panic(scriptError{fmt.Sprint("nothing, and not ", m)})
		}
	}
	// An empty name is none.
	for _, server := range []*fakeServer{serve(t, silent), keeping(t, "", silent)} {
		c := dialed(t, server.address, nil)
		e := assertError(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()), CodeUnimplemented, ExecutionNotSent)
		if e.Method != "A.pay" || e.MayRepeat() {
			t.Fatalf("%+v", e)
		}
		c.Abort()
	}
}

func TestOnlyACallThatIsCarriedOutOnceIsMadeAgain(t *testing.T) {
	server := keeping(t, "s", lost)
	c, pauses := impatient(t, server.address)
	assertError(t, c.Call(soonCtx(t), "A.pay", nil, nil, Idempotent()), CodeUnavailable, ExecutionMaybe)
	if n := server.connections(); n != 1 || len(*pauses) != 0 {
		t.Fatal(n, *pauses)
	}
	assertError(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()), CodeUnavailable, ExecutionMaybe)
	// The most is three tries.
	if n := server.connections(); n != 4 || len(*pauses) != 2 {
		t.Fatal(n, *pauses)
	}
}

func TestACallThatMayBeDoneGoesToNoOtherServer(t *testing.T) {
	servers := []*fakeServer{keeping(t, "s", lost), keeping(t, "s", lost)}
	c, err := New(servers[0].address+","+servers[1].address, nil)
	must(t, err)
	t.Cleanup(c.Abort)
	c.pauses = func(time.Duration) bool { c.forgive(); return true }
	assertError(t, c.Call(soonCtx(t), "A.pay", nil, nil, Once()), CodeUnavailable, ExecutionMaybe)
	a, b := servers[0].connections(), servers[1].connections()
	if a+b != maxTries || a*b != 0 {
		t.Fatal(a, b)
	}
}

// busy refuses each request, and says when to try again.
func busy(code Code, retryAfter string) func(*peer) {
	return busyCounting(new(atomic.Int32), code, retryAfter)
}

// busyCounting does the same, and counts the requests.
func busyCounting(requests *atomic.Int32, code Code, retryAfter string) func(*peer) {
	return func(p *peer) {
		for {
			m, err := p.read()
			if err != nil || m.Kind != "request" {
				return
			}
			requests.Add(1)
			p.send("response", m.Seq, "", fmt.Sprintf(`,"error":{"code":%q,"message":"busy","execution":"refused"},"metadata":{"farcall-retry-after-ms":%q}`, code, retryAfter))
		}
	}
}

func TestAServerIsAskedAgainAfterTheTimeThatItSays(t *testing.T) {
	for _, test := range []struct {
		code       Code
		retryAfter string
		tries      int
		limit      time.Duration
	}{
		{CodeResourceExhausted, "4000", 3, time.Hour},
		{CodeUnavailable, "0", 3, time.Hour},
		{CodeResourceExhausted, "30001", 1, time.Hour},
		{CodeResourceExhausted, "30000", 1, 30 * time.Second}, // over the deadline
		{CodeResourceExhausted, "soon", 1, time.Hour},
		{CodeInvalidArgument, "4000", 1, time.Hour},
		{CodeUnimplemented, "4000", 1, time.Hour},
	} {
		var requests atomic.Int32
		server := serve(t, busyCounting(&requests, test.code, test.retryAfter))
		c, pauses := impatient(t, server.address)
		ctx, cancel := context.WithTimeout(context.Background(), test.limit)
		err := c.Call(ctx, "A.b", nil, nil)
		cancel()
		assertError(t, err, test.code, ExecutionRefused)
		asked, _ := err.(*Error).RetryAfter()
		if n := int(requests.Load()); n != test.tries || asked > 0 && len(*pauses) != n-1 {
			t.Fatal(test, n, *pauses)
		}
		for _, pause := range *pauses {
			if pause < asked || pause > asked*5/4 {
				t.Fatal(test, pause)
			}
		}
	}
}

func TestACallThatIsRefusedGoesToAnotherServerFirst(t *testing.T) {
	var addresses []string
	for i := 0; i < 2; i++ {
		addresses = append(addresses, serve(t, busy(CodeResourceExhausted, "4000")).address)
	}
	c, pauses := impatient(t, strings.Join(addresses, ","))
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeResourceExhausted, ExecutionRefused)
	if p := *pauses; len(p) != 2 || p[0] > firstRetryPause || p[1] < 4*time.Second {
		t.Fatal(p)
	}
}

func TestTriesStayWithinTheBudgetOfTheClient(t *testing.T) {
	var b retryBudget
	now := time.Now()
	spend := func() (n int) {
		for b.withdraw(now) {
			n++
		}
		return n
	}
	for _, test := range []struct {
		passed time.Duration
		calls  int
		left   int
	}{{0, 0, 100}, {time.Second, 0, 10}, {time.Hour, 0, 100}, {10 * time.Second, 360_000, 72_000}} {
		for i := 0; i < test.calls; i++ {
			b.deposit()
		}
		now = now.Add(test.passed)
		if n := spend(); n != test.left {
			t.Fatal(test, n)
		}
	}
	c, _ := impatient(t, serve(t, busy(CodeResourceExhausted, "0")).address)
	// However long the test takes, nothing is added.
	c.budget.at, c.budget.tries = time.Now().Add(time.Hour), 1e9
	c.pauses = func(time.Duration) bool { t.Error("a pause"); return false }
	assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeResourceExhausted, ExecutionRefused)
}

func TestACallWaitsForItsTurnLongerThanConnectionsLast(t *testing.T) {
	const calls = 8
	clients := make(chan *Client, 1)
	server := keeping(t, "s", func(p *peer) {
		m := p.next("request")
		c := <-clients
		c.forgive()
		clients <- c
		p.send("goaway", m.Seq, "")
		p.answer(m.Seq, "1")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	clients <- c
	errs := make(chan error, calls)
	for i := 0; i < calls; i++ {
		go func() { errs <- c.Call(soonCtx(t), "A.b", nil, nil) }()
	}
	for i := 0; i < calls; i++ {
		must(t, <-errs)
	}
	if n := server.connections(); n != calls {
		t.Fatal(n)
	}
}
