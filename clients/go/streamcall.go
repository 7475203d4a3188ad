package farcall

import (
	"encoding/json"
	"strconv"
	"time"
)

// maxStreamQueue is the cost of the items of one stream that wait for their turn, before one item more.
const maxStreamQueue = 64 << 10

// item is an item as it is sent or received.
type item struct {
	body  []byte
	flags uint64
}

// streamCall is a streaming call on its connection. All is under the lock of the connection.
type streamCall struct {
	c *conn
	p *pending
	// outcome is known once the call is over for its caller. Items that came before it remain.
	outcome *answer
	// over is closed when the outcome is known.
	over chan struct{}
	// changed is closed about everything that a caller can wait for; nil while no one waits.
	changed chan struct{}

	receives bool
	sends    bool // while items may be sent
	hasItems bool // once an item has arrived
	draining bool // once the server takes no new calls
	stopped  bool // once no more items are taken

	window    sendWindow
	queue     []item // bounded by maxStreamQueue and one item more; their credit is spent
	queued    uint64
	endDue    bool // behind the last of queue
	scheduled bool
	deficit   uint64

	granted receiveWindow
	inbox   []item // bounded by what was granted and one item more
}

func newStreamCall(receives, sends bool) *streamCall {
	return &streamCall{receives: receives, sends: sends, over: make(chan struct{})}
}

// begin binds the call to its connection.
func (s *streamCall) begin(c *conn, p *pending) {
	s.c, s.p = c, p
	s.window.limit = uint64(c.terms.StreamWindow)
	s.granted = newReceiveWindow(uint64(c.opts.StreamWindow), uint64(c.opts.MaxStreamWindow), &c.growth)
}

// notify wakes all that wait for a change.
func (s *streamCall) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// waiter returns a channel that is closed at the next change.
func (s *streamCall) waiter() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// take takes the next item that has arrived.
func (s *streamCall) take() (item, bool) {
	if len(s.inbox) == 0 {
		return item{}, false
	}
	first := s.inbox[0]
	s.inbox[0] = item{}
	s.inbox = s.inbox[1:]
	if s.outcome == nil && !s.stopped {
		s.sendCredit(s.granted.consume(itemCost(first.body), time.Now()))
	}
	return first, true
}

func (s *streamCall) sendCredit(limit uint64) {
	if limit > 0 {
		s.c.out.send(s.p.seq, encodeMessage("credit", s.p.seq, nil, 0, strconv.AppendUint(nil, limit, 10)))
		s.c.wakeWriter()
	}
}

// hasRoom reports whether few enough items wait for their turn.
func (s *streamCall) hasRoom() bool { return s.queued <= maxStreamQueue }

// push sends an item, for which there is credit.
func (s *streamCall) push(body []byte) {
	cost := itemCost(body)
	s.queue = append(s.queue, item{body, s.window.spend(cost)})
	s.queued += cost
	s.c.out.items.add(s)
	s.c.wakeWriter()
}

// popItem appends the next item, and the end behind the last one.
func (s *streamCall) popItem(out []byte) []byte {
	next := s.queue[0]
	s.queue[0] = item{}
	s.queue = s.queue[1:]
	s.queued -= itemCost(next.body)
	if s.queued <= maxStreamQueue/2 {
		s.notify()
	}
	out = append(out, encodeMessage("item", s.p.seq, nil, next.flags, next.body)...)
	if len(s.queue) == 0 && s.endDue {
		s.endDue = false
		out = append(out, encodeMessage("end", s.p.seq, nil, 0, nil)...)
	}
	return out
}

// end says that no more items come, behind those that were sent.
func (s *streamCall) end() {
	if !s.sends {
		return
	}
	s.sends = false
	if s.outcome == nil {
		if len(s.queue) > 0 {
			s.endDue = true
		} else {
			s.c.out.send(s.p.seq, encodeMessage("end", s.p.seq, nil, 0, nil))
			s.c.wakeWriter()
		}
	}
	s.notify()
}

// stop takes no more items; the call goes on.
func (s *streamCall) stop() {
	s.inbox = nil
	if s.outcome == nil && !s.stopped {
		s.stopped = true
		s.c.out.send(s.p.seq, encodeMessage("stop", s.p.seq, nil, 0, nil))
		s.c.wakeWriter()
	}
}

// giveUp cancels the call at the server, and fails it here.
func (s *streamCall) giveUp(e *Error) {
	if s.outcome == nil {
		s.dropQueue()
		execution := s.c.abandon(s.p)
		own := *e
		if execution == ExecutionNotSent {
			own.Execution = ExecutionNotSent
		}
		s.finish(&answer{err: &own})
	}
}

// abandon cancels the call, of which nothing is wanted any more.
func (s *streamCall) abandon(e *Error) {
	s.giveUp(e)
	s.inbox = nil
}

// finish ends both directions. The first outcome counts.
func (s *streamCall) finish(a *answer) {
	if s.outcome != nil {
		return
	}
	s.outcome = a
	s.sends = false
	s.dropQueue()
	s.granted.end()
	close(s.over)
	s.notify()
}

// drain tells the caller that the server drains.
func (s *streamCall) drain() {
	s.draining = true
	s.notify()
}

func (s *streamCall) dropQueue() {
	s.queue, s.queued, s.endDue = nil, 0, false
}

// handleStream handles an item, a credit or a stop.
func (c *conn) handleStream(h header, body []byte) error {
	p := c.calls[h.seq]
	var s *streamCall
	if p != nil && p.stream != nil && p.stream.outcome == nil {
		s = p.stream
	}
	if h.kind == "credit" {
		// Its form does not depend on whether its call is over.
		limit, err := uintField(json.RawMessage(body), true)
		if err != nil {
			return violation("the body of a credit is no integer")
		}
		if s != nil {
			s.window.grant(limit)
			s.notify()
		}
		return nil
	}
	if s == nil {
		return nil
	}
	if h.kind == "stop" {
		s.sends = false
		s.dropQueue()
		s.notify()
		return nil
	}
	if !s.receives {
		s.stop()
	}
	now := time.Now()
	starved := h.flags&flagStarved != 0 && !s.stopped
	credit, err := s.granted.receive(itemCost(body), starved, now)
	if err != nil {
		return violation("call %d: %v", h.seq, err)
	}
	s.hasItems = true
	if !s.stopped {
		s.inbox = append(s.inbox, item{body, h.flags})
		s.notify()
	}
	if credit > 0 {
		s.sendCredit(credit)
		c.shrinkLater()
	}
	return nil
}

// shrinkLater shrinks the windows that have grown and are not needed any more.
func (c *conn) shrinkLater() {
	if c.shrinkTimer == nil {
		c.shrinkTimer = time.AfterFunc(shrinkAfter, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.shrinkTimer = nil
			grown := false
			now := time.Now()
			for _, p := range c.calls {
				if p.stream != nil && p.stream.outcome == nil {
					p.stream.granted.shrink(now)
					grown = grown || !p.stream.granted.lastStarved.IsZero()
				}
			}
			if grown && !c.ended {
				c.shrinkLater()
			}
		})
	}
}
