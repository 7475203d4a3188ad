package farcall

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// A pong is waited for anew while the operating system takes what waits before its ping.
func TestBacklogOfALargeRequestShrinksWhileThePeerTakesIt(t *testing.T) {
	near, far := net.Pipe() // it takes what is read
	c := newConn(&link{nc: near, br: bufio.NewReader(near), heard: new(atomic.Int64)}, Terms{}, &Options{}, func(*conn) {})
	go c.writeLoop()
	defer near.Close()
	behind := func() backlog {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.backlog()
	}
	if b := behind(); b.shrinks(0) {
		t.Fatal("nothing is written")
	}
	c.mu.Lock()
	c.out.send(0, []byte(strings.Repeat("x", 1<<20)))
	c.mu.Unlock()
	c.wakeWriter()
	take := func(n int) {
		_, err := io.ReadFull(far, make([]byte, n))
		must(t, err)
	}
	take(maxPiece)
	eventually(t, "the first piece", func() bool { return c.taken.Load() == maxPiece })
	b := behind()
	if b.before != 1<<20 || b.shrinks(c.taken.Load()) {
		t.Fatal("no more was taken", b)
	}
	take(maxPiece)
	eventually(t, "the second piece", func() bool { return c.taken.Load() == 2*maxPiece })
	if !b.shrinks(c.taken.Load()) || b.shrinks(c.taken.Load()) {
		t.Fatal("one more piece was taken", b)
	}
	take(1<<20 - 2*maxPiece)
	eventually(t, "all of it", func() bool { return c.taken.Load() == 1<<20 })
	if !b.shrinks(c.taken.Load()) || b.shrinks(1<<20+100) {
		t.Fatal("what is behind the ping does not count", b)
	}
}
