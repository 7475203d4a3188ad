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
		w.consume(500, now)
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
				out.grant(in.consume(held[0], now))
				held = held[1:]
			}
			if in.received-in.consumed > 16_000+3100 {
				t.Fatal(in.received - in.consumed)
			}
		}
		for len(held) > 0 {
			out.grant(in.consume(held[0], now))
			held = held[1:]
		}
		if !out.check() {
			t.Fatal("all was taken, and nothing may be sent")
		}
	}
}

// TestWindowsBeyondAMebibyte: such a window grows only while that helps.
func TestWindowsBeyondAMebibyte(t *testing.T) {
	// The size after items of 64 KiB from a sender at this distance, each in this time. They are
	// taken at once, and every seventh credit is 10 ms late.
	sizeAt := func(delay, each time.Duration) uint64 {
		type credit struct {
			known time.Time
			limit uint64
		}
		w := newReceiveWindow(64<<10, 16<<20, &growth{left: 1 << 30})
		now, limit, starved, number := time.Now(), w.granted, false, 0
		var credits []credit
		for n := 0; n < 5000; n++ {
			// The sender knows of the credits that have reached it.
			for len(credits) > 0 && !credits[0].known.After(now) {
				limit, credits = credits[0].limit, credits[1:]
			}
			if w.received >= limit {
				now, limit, starved, credits = credits[0].known, credits[0].limit, true, credits[1:]
			}
			now = now.Add(each)
			grown, err := w.receive(64<<10, starved, now)
			must(t, err)
			for _, granted := range []uint64{grown, w.consume(64<<10, now)} {
				if granted == 0 {
					continue
				}
				late := time.Duration(0)
				if number++; number%7 == 0 {
					late = 10 * time.Millisecond
				}
				credits = append(credits, credit{now.Add(delay + late), granted})
			}
			starved = false
		}
		return w.size >> 20
	}
	const us = time.Microsecond
	for _, c := range []struct {
		delay, each time.Duration
		mib         uint64
	}{
		{50 * us, 100 * us, 1},      // 655 MB/s: 1 MiB takes 1.6 ms
		{200 * us, 20 * us, 4},      // 3.3 GB/s: 2 MiB take 0.64 ms
		{50_000 * us, 2000 * us, 4}, // 33 MB/s: 1.6 MB are on the way
		{50_000 * us, 100 * us, 16},
	} {
		if size := sizeAt(c.delay, c.each); size != c.mib {
			t.Error(c.delay, c.each, size)
		}
	}
	var times creditTimes
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	times.credit(100, 150, 0, start)
	times.credit(150, 200, 149, at(49))
	times.starvedItem(149, at(50))
	if times.delay != 50*time.Millisecond {
		t.Fatal("the delay is that of the credit that let the item through: ", times.delay)
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
