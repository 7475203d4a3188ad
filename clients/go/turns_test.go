package farcall

import (
	"math/rand"
	"testing"
	"time"
)

// TestWindows: the state machines against their rules.
func TestWindows(t *testing.T) {
	room := &growth{left: 100_000}
	w := newReceiveWindow(1000, 8000, room)
	now := time.Now()
	pass := func(starved bool) {
		if _, err := w.receive(500, starved, now); err != nil {
			t.Fatal(err)
		}
		w.consume(500)
	}
	pass(false)
	pass(true)
	pass(true) // a whole window was consumed, and all was taken
	if w.size != 2000 || room.left != 99_000 {
		t.Fatal(w.size, room.left)
	}
	for i := 0; i < 100; i++ {
		pass(true)
	}
	if w.size != 8000 {
		t.Fatal(w.size)
	}
	w.shrink(now.Add(shrinkAfter - 1))
	if w.size != 8000 {
		t.Fatal("it shrank too early")
	}
	for i := 1; i <= 4; i++ {
		w.shrink(now.Add(time.Duration(i) * shrinkAfter))
	}
	if w.size != 1000 || room.left != 100_000 || !w.lastStarved.IsZero() {
		t.Fatal(w.size, room.left)
	}
	// A sender that obeys is never refused, and what is held is bounded.
	for seed := int64(0); seed < 200; seed++ {
		r := rand.New(rand.NewSource(seed))
		in := newReceiveWindow(1000, 8000, &growth{left: 20_000})
		out := sendWindow{limit: 1000}
		var held []uint64
		for step := 0; step < 300; step++ {
			if r.Intn(2) == 0 && out.check() {
				cost := uint64(itemOverhead + r.Intn(3000))
				credit, err := in.receive(cost, out.spend(cost) != 0, now)
				must(t, err)
				out.grant(credit)
				held = append(held, cost)
			} else if len(held) > 0 {
				out.grant(in.consume(held[0]))
				held = held[1:]
			}
			if in.received-in.consumed > 16_000+3100 {
				t.Fatal(in.received - in.consumed)
			}
		}
		for len(held) > 0 {
			out.grant(in.consume(held[0]))
			held = held[1:]
		}
		if !out.check() {
			t.Fatal("all was taken, and nothing may be sent")
		}
	}
}

func TestStreamsTakeTurnsByBytes(t *testing.T) {
	var order schedule
	calls := make([]*streamCall, 3)
	for i := range calls {
		calls[i] = &streamCall{}
		for n := 0; n < 1000; n++ {
			calls[i].queue = append(calls[i].queue, item{body: make([]byte, 1000<<i)})
		}
		order.add(calls[i])
		order.add(calls[i])
	}
	spent := map[*streamCall]uint64{}
	for i := 0; i < 300; i++ {
		call := order.next(1 << 20)
		spent[call] += itemCost(call.queue[0].body)
		call.queue = call.queue[1:]
	}
	for _, call := range calls {
		if share := spent[call] * 3 / (spent[calls[0]] + spent[calls[1]] + spent[calls[2]]); share > 1 {
			t.Fatal(spent)
		}
		if spent[call] < 150_000 {
			t.Fatal(spent)
		}
	}
	if order.next(10) != nil {
		t.Fatal("an item without room")
	}
	for _, call := range calls {
		call.queue = nil
	}
	if order.next(1<<20) != nil || len(order.turns) != 0 {
		t.Fatal("a stream without an item")
	}
}
