package farcall

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestARefusedStreamIsMadeAgainWithItsItems(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		p.next("request")
		p.next("item")
		p.next("item")
		p.send("goaway", 0, "")
		p.ended()
	}, func(p *peer) {
		m := p.next("request")
		if m.Metadata[metaAttempt] != "2" {
			panic(scriptError{"the second attempt"})
		}
		for i := 1; i <= 3; i++ {
			if item := p.next("item"); string(item.body) != strconv.Itoa(i) {
				panic(scriptError{fmt.Sprint("item ", i)})
			}
		}
		p.next("end")
		p.answer(m.Seq, "6")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[int](soonCtx(t), c, "F.a", nil)
	must(t, err)
	must(t, up.Send(1))
	must(t, up.Send(2))
	eventually(t, "the goaway", up.refused)
	must(t, up.Send(3))
	var n int
	if must(t, up.Finish(&n)); n != 6 {
		t.Fatal(n)
	}
}

func (u *Upload[T]) refused() bool {
	u.s.call.c.mu.Lock()
	defer u.s.call.c.mu.Unlock()
	return u.s.call.outcome != nil
}

func TestAStreamThatSentTooMuchIsNotMadeAgain(t *testing.T) {
	server := streaming(t, 1<<20, 5, func(p *peer) {
		p.next("request")
		p.next("item")
		p.next("item")
		p.send("goaway", 0, "")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	up, err := Send[string](soonCtx(t), c, "F.a", nil)
	must(t, err)
	must(t, up.Send(strings.Repeat("x", 40_000)))
	must(t, up.Send(strings.Repeat("x", 40_000)))
	eventually(t, "the goaway", func() bool { return up.refused() })
	assertError(t, up.Finish(nil), CodeUnavailable, ExecutionRefused)
}

func TestResume(t *testing.T) {
	from := func(m seen) int { n, _ := strconv.Atoi(string(m.body)); return n }
	some := func(p *peer, n int) seen {
		m := p.nextRequest()
		for i := 0; i < n; i++ {
			p.send("item", m.Seq, strconv.Itoa(from(m)+i))
		}
		return m
	}
	server := streaming(t, 1000, 5, func(p *peer) {
		m := some(p, 3)
		p.send("goaway", m.Seq, "")
		p.next("cancel") // once the next call is open
		p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
	}, func(p *peer) {
		// A server that ends the call because it stops; then one that goes away.
		p.send("response", some(p, 2).Seq, "", `,"error":{"code":"unavailable","message":"it stops","execution":"maybe"},"metadata":{"farcall-resume":"1"}`)
		some(p, 2)
	}, func(p *peer) {
		m := p.nextRequest()
		for i := from(m); i < 10; i++ {
			p.send("item", m.Seq, strconv.Itoa(i))
		}
		p.answer(m.Seq, "null")
		p.ended()
	})
	c := dialed(t, server.address, nil)
	items, err := Resume(soonCtx(t), c, "F.count", 0, func(last int) any { return last + 1 })
	must(t, err)
	list := all[int](t, items)
	if fmt.Sprint(list) != "[0 1 2 3 4 5 6 7 8 9]" {
		t.Fatal(list)
	}
}

func TestResumeEndsWithOtherErrors(t *testing.T) {
	server := streaming(t, 1000, 5, func(p *peer) {
		m := p.next("request")
		p.send("item", m.Seq, "1")
		p.fail(m.Seq, CodeApplication, ExecutionDone)
		p.ended()
	})
	c := dialed(t, server.address, nil)
	items, err := Resume(soonCtx(t), c, "F.count", 0, func(last int) any { return last + 1 })
	must(t, err)
	_, err = items.Recv()
	must(t, err)
	_, err = items.Recv()
	assertError(t, err, CodeApplication, ExecutionDone)
}
