package farcall

import (
	"context"
	"time"
)

// The limits of pings (13).
const (
	maxPings    = 10
	maxOwnPings = maxPings / 2
	pingWindow  = 5 * time.Second
)

// pings is the bookkeeping of pings in both directions, under the lock of the connection.
type pings struct {
	last     uint64
	waiting  map[uint64]chan struct{} // bounded by the callers of ping
	sent     []time.Time              // the latest maxOwnPings
	received []time.Time              // the latest maxPings
}

// mayReceive records a ping of the server. It returns false if there were too many.
func (p *pings) mayReceive(now time.Time) bool {
	if len(p.received) == maxPings {
		if now.Sub(p.received[0]) < pingWindow {
			return false
		}
		p.received = append(p.received[:0], p.received[1:]...)
	}
	p.received = append(p.received, now)
	return true
}

// pause returns the time to wait before another ping may be sent.
func (p *pings) pause(now time.Time) time.Duration {
	if len(p.sent) < maxOwnPings {
		return 0
	}
	return p.sent[0].Add(pingWindow).Sub(now)
}

// sendPing sends a ping, as soon as the rate allows it, and returns its number. The lock is held.
func (c *conn) sendPing(ctx context.Context) (uint64, error) {
	for pause := c.pings.pause(time.Now()); pause > 0; pause = c.pings.pause(time.Now()) {
		c.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-c.dead:
		}
		timer.Stop()
		c.mu.Lock()
		if c.ended {
			return 0, fail(CodeUnavailable, ExecutionNotSent, "%s", c.refusal.Message)
		}
		if ctx.Err() != nil {
			return 0, ended(ctx, ExecutionNotSent, "pings are limited in their rate")
		}
	}
	if len(c.pings.sent) == maxOwnPings {
		c.pings.sent = append(c.pings.sent[:0], c.pings.sent[1:]...)
	}
	c.pings.sent = append(c.pings.sent, time.Now())
	c.pings.last++
	c.out.send(0, encodeMessage("ping", c.pings.last, nil, 0, nil))
	c.wakeWriter()
	return c.pings.last, nil
}

// ping returns the time until the server's pong.
func (c *conn) ping(ctx context.Context) (time.Duration, error) {
	c.mu.Lock()
	number, err := c.sendPing(ctx)
	if err != nil {
		c.mu.Unlock()
		return 0, err
	}
	pong := make(chan struct{})
	c.pings.waiting[number] = pong
	began := time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pings.waiting, number)
		c.mu.Unlock()
	}()
	select {
	case <-pong:
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, ended(ctx, ExecutionMaybe, "waiting for a pong")
	case <-c.dead:
		return 0, fail(CodeUnavailable, ExecutionMaybe, "%s", c.refusal.Message)
	}
}

// keepAlive pings a server that is silent, and ends the connection if it stays so.
func (c *conn) keepAlive() {
	timer := time.NewTimer(c.opts.PingAfter)
	defer timer.Stop()
	for c.wait(timer) {
		silence := c.silence()
		if silence < c.opts.PingAfter {
			timer.Reset(c.opts.PingAfter - silence)
			continue
		}
		c.mu.Lock()
		_, err := c.sendPing(context.Background())
		behind := c.backlog()
		c.mu.Unlock()
		if err != nil {
			return
		}
		for again := true; again; again = behind.shrinks(c.taken.Load()) {
			timer.Reset(c.opts.PingTimeout)
			if !c.wait(timer) {
				return
			}
			if silence = c.silence(); silence < c.opts.PingTimeout {
				break
			}
		}
		if silence >= c.opts.PingTimeout {
			c.end("the connection was lost: the server has fallen silent")
			return
		}
		timer.Reset(0)
	}
}

// backlog is what was taken for writing before a ping, which waits behind it: a large request on a slow link.
type backlog struct {
	// before is the position in the stream up to which it goes, and taken the one up to which the
	// operating system has taken it.
	before, taken uint64
}

// backlog returns what is being written. The lock is held.
func (c *conn) backlog() backlog { return backlog{c.out.filled, c.taken.Load()} }

// shrinks reports whether the operating system has taken some of it since the last look.
func (b *backlog) shrinks(taken uint64) bool {
	earlier := b.taken
	b.taken = taken
	return earlier < b.before && earlier < taken
}

func (c *conn) silence() time.Duration {
	return time.Since(processStart) - time.Duration(c.heard.Load())
}

// wait waits for the timer. It returns false if the connection has ended.
func (c *conn) wait(timer *time.Timer) bool {
	select {
	case <-timer.C:
		return true
	case <-c.dead:
		return false
	}
}
