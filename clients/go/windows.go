package farcall

import (
	"fmt"
	"time"
)

// The credit of both directions of a stream (18.3), without a clock. All numbers count from the
// beginning of the call.

const (
	// itemOverhead is the cost of an item in addition to its bytes, so that empty items need credit too.
	itemOverhead        = 64
	defaultStreamWindow = 64 << 10
	// shrinkAfter is the time without a starved item after which a window that has grown is halved.
	shrinkAfter = 10 * time.Second
	// unconditionalSize is the size beyond which a window grows only while that helps.
	unconditionalSize = 1 << 20
	// minDelay is what shorter delays of a path, there and back, count as.
	minDelay = 500 * time.Microsecond
)

func itemCost(body []byte) uint64 { return uint64(len(body)) + itemOverhead }

// sendWindow is the credit of a sender: an item may be sent while less than the limit was spent.
type sendWindow struct {
	spent, limit uint64
	waited       bool
}

// check reports whether an item may be sent, whatever its size. If not, the next one is starved.
func (w *sendWindow) check() bool {
	open := w.spent < w.limit
	w.waited = w.waited || !open
	return open
}

// spend accounts for an item that is sent, and returns its flags.
func (w *sendWindow) spend(cost uint64) uint64 {
	w.spent += cost
	if w.waited {
		w.waited = false
		return flagStarved
	}
	return 0
}

// grant raises the limit; a lower one changes nothing.
func (w *sendWindow) grant(limit uint64) {
	if limit > w.limit {
		w.limit = limit
	}
}

// growth is the number of bytes by which the windows of one connection may still grow.
type growth struct{ left uint64 }

func (g *growth) take(n uint64) bool {
	if n > g.left {
		return false
	}
	g.left -= n
	return true
}

// creditTimes is what the times of its credits tell a receiver of the path to the sender. A sender
// that waits for credit is idle for the delay of the path in each window. A larger window helps as
// long as the window passes in about that time; beyond, it only puts more bytes in front of
// whatever else the connection carries.
type creditTimes struct {
	last, beforeLast time.Time     // of the credits, half of a window apart
	window           time.Duration // in which the last window was consumed; 0 if none was
	// A credit that no item has needed yet: the limit before it, its own, and its time, zero if there is none.
	pendingBefore, pendingLimit uint64
	pendingSent                 time.Time
	delay                       time.Duration // the shortest time from a credit to the item that waited for it
	hasDelay                    bool
}

// credit notes that the limit is raised, after items of the cost received.
func (t *creditTimes) credit(before, limit, received uint64, now time.Time) {
	if !t.beforeLast.IsZero() {
		t.window = now.Sub(t.beforeLast) + 1
	}
	t.last, t.beforeLast = now, t.last
	if t.pendingSent.IsZero() || t.pendingLimit <= received {
		t.pendingBefore, t.pendingLimit, t.pendingSent = before, limit, now
	}
}

// starvedItem notes that an item that had waited arrived, after others of the cost received.
func (t *creditTimes) starvedItem(received uint64, now time.Time) {
	if t.pendingSent.IsZero() || received < t.pendingBefore {
		return
	}
	// If it is not below, a later credit let this item through.
	if delay := now.Sub(t.pendingSent); received < t.pendingLimit && (!t.hasDelay || delay < t.delay) {
		t.delay, t.hasDelay = delay, true
	}
	t.pendingSent = time.Time{}
}

// isWindowShort reports whether the last window was consumed within twice the delay.
func (t *creditTimes) isWindowShort() bool {
	delay := t.delay
	if delay < minDelay {
		delay = minDelay
	}
	return t.window > 0 && t.hasDelay && t.window <= 2*delay
}

// receiveWindow is the credit that a receiver grants. It holds at most what it granted and one
// item more. It doubles when its sender had to wait though all was taken, and halves after
// shrinkAfter in which no item had to. Beyond unconditionalSize it doubles only if the last window was
// consumed within twice the delay of the path, or within 1 ms.
type receiveWindow struct {
	size, initial, maximum      uint64
	granted, received, consumed uint64
	grownAt                     uint64    // consumed when it last grew
	lastStarved                 time.Time // zero for a window of its initial size
	room                        *growth
	times                       creditTimes
}

func newReceiveWindow(initial, maximum uint64, room *growth) receiveWindow {
	if maximum < initial {
		maximum = initial
	}
	return receiveWindow{size: initial, initial: initial, maximum: maximum, granted: initial, room: room}
}

// receive accounts for an item that arrived. It returns the credit to send if the window grew, else 0.
func (w *receiveWindow) receive(cost uint64, starved bool, now time.Time) (uint64, error) {
	if w.received >= w.granted {
		return 0, fmt.Errorf("an item was sent although %d of %d had been spent", w.received, w.granted)
	}
	allTaken := w.received == w.consumed
	if starved {
		w.times.starvedItem(w.received, now)
	}
	w.received += cost
	if !starved {
		return 0, nil
	}
	if !w.lastStarved.IsZero() {
		w.lastStarved = now
	}
	maximum := w.maximum
	if maximum > unconditionalSize && !w.times.isWindowShort() {
		maximum = unconditionalSize
	}
	more := uint64(0)
	if maximum > w.size {
		more = maximum - w.size
	}
	if more > w.size {
		more = w.size
	}
	if !allTaken || more == 0 || w.consumed-w.grownAt < w.size || !w.room.take(more) {
		return 0, nil
	}
	w.size += more
	w.grownAt, w.lastStarved = w.consumed, now
	return w.raise(now), nil
}

// consume accounts for an item that was taken. It returns the credit to send if half of the
// window was consumed since the last, else 0.
func (w *receiveWindow) consume(cost uint64, now time.Time) uint64 {
	w.consumed += cost
	limit := w.consumed + w.size
	if limit <= w.granted || 2*(limit-w.granted) < w.size {
		return 0
	}
	return w.raise(now)
}

// shrink halves the window if that is due. What was granted stays granted.
func (w *receiveWindow) shrink(now time.Time) {
	if w.lastStarved.IsZero() || now.Sub(w.lastStarved) < shrinkAfter {
		return
	}
	smaller := w.size / 2
	if smaller < w.initial {
		smaller = w.initial
	}
	w.room.left += w.size - smaller
	w.size, w.lastStarved = smaller, now
	if smaller == w.initial {
		w.lastStarved = time.Time{}
	}
}

// end gives back all growth.
func (w *receiveWindow) end() {
	w.room.left += w.size - w.initial
	w.size, w.lastStarved = w.initial, time.Time{}
}

func (w *receiveWindow) raise(now time.Time) uint64 {
	limit := w.consumed + w.size
	if limit <= w.granted {
		return 0
	}
	w.times.credit(w.granted, limit, w.received, now)
	w.granted = limit
	return limit
}
