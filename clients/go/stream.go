package farcall

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// ErrStopped is returned by Send if the server takes no more items, because it has answered or has
// said so. Finish returns the outcome.
var ErrStopped = errors.New("farcall: the server takes no more items")

// maxKept is the number of bytes of items that are kept until the first sign of the server, to be
// sent again if the call is made again.
const maxKept = 64 << 10

// stream is a streaming call as its caller sees it: perhaps one call after the other.
type stream struct {
	client          *Client
	ctx             context.Context
	receives, sends bool
	opts            *callOptions
	resume          func() ([]byte, error) // the arguments of the next call; nil if it is not resumed

	// sendMu keeps the order of items, and is held while the call is made again.
	sendMu   sync.Mutex
	attempts *attempts   // those of the call
	failed   *streamCall // the call that failed, and is not made again

	closing sync.Once
	closed  chan struct{} // closed when its caller lets go of it

	mu         sync.Mutex // never held while waiting; before that of a connection
	req        *request
	call       *streamCall
	firstUntil time.Time
	failure    *Error // why there is no further call
	end        error  // what Recv returns after the last item
	kept       [][]byte
	keptBytes  int
	lost       bool // some of the items were not kept
	saidEnd    bool
	tookAll    bool
	stays      *streamCall // of a draining server, and could not be replaced yet
	fruitless  int
}

func openStream(ctx context.Context, c *Client, method string, args any, opts []CallOption, receives, sends bool) (*stream, error) {
	req, o, err := c.request(ctx, method, args, opts)
	if err != nil {
		return nil, err
	}
	if o.firstWithin == 0 {
		o.firstWithin = c.opts.Timeout
	}
	req.flags |= flagStreaming
	s := &stream{client: c, ctx: ctx, receives: receives, sends: sends, opts: o, req: req, closed: make(chan struct{})}
	s.attempts = c.attempts(req)
	s.limitFirst()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *stream) limitFirst() {
	if s.opts.firstWithin > 0 {
		s.firstUntil = time.Now().Add(s.opts.firstWithin)
	}
}

// open makes the call, within the context. That of the stream ends it.
func (s *stream) open(ctx context.Context) *Error {
	if !s.firstUntil.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, s.firstUntil)
		defer cancel()
	}
	call := newStreamCall(s.receives, s.sends)
	a := s.attempts.run(ctx, func(c *conn) *answer {
		if _, err := c.send(ctx, s.req, call); err != nil {
			return &answer{err: err}
		}
		return nil
	})
	if a != nil {
		return a.err.copyFor(s.req)
	}
	s.mu.Lock()
	s.call = call
	closed := s.failure
	s.mu.Unlock()
	if closed != nil { // meanwhile
		call.c.mu.Lock()
		call.abandon(closed)
		call.c.mu.Unlock()
	}
	go s.watch(call, s.firstUntil)
	return nil
}

// watch ends a call when its context or the time for its first item has ended.
func (s *stream) watch(call *streamCall, firstUntil time.Time) {
	var first <-chan time.Time
	if !firstUntil.IsZero() {
		timer := time.NewTimer(time.Until(firstUntil))
		defer timer.Stop()
		first = timer.C
	}
	for {
		select {
		case <-call.over:
			return
		case <-s.ctx.Done():
			call.c.mu.Lock()
			call.giveUp(ended(s.ctx, ExecutionMaybe, ""))
			call.c.mu.Unlock()
			return
		case <-first:
			first = nil
			call.c.mu.Lock()
			if !call.hasItems {
				call.giveUp(fail(CodeDeadlineExceeded, ExecutionMaybe, "no item and no response within %v", s.opts.firstWithin))
			}
			call.c.mu.Unlock()
		}
	}
}

// current returns the call, or why there is none.
func (s *stream) current() (*streamCall, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return nil, s.failure.copyFor(s.req)
	}
	return s.call, nil
}

// result decodes the final value of a call that is over.
func (s *stream) result(call *streamCall, reply any) error {
	call.c.mu.Lock()
	outcome, hasItems := call.outcome, call.hasItems
	call.c.mu.Unlock()
	s.mu.Lock()
	req := s.req
	s.mu.Unlock()
	err := outcome.decode(req, reply)
	var own *Error
	if errors.As(err, &own) && hasItems && (own.Execution == ExecutionRefused || own.Execution == ExecutionNotSent) {
		own.Execution = ExecutionMaybe // what began was not refused
	}
	return err
}

// next returns the next item; io.EOF after the last one of a call that succeeded.
func (s *stream) next() (item, error) {
	var gapEnd time.Time
	for {
		s.mu.Lock()
		end := s.end
		s.mu.Unlock()
		if end != nil {
			return item{}, end
		}
		call, err := s.current()
		if err != nil {
			return item{}, s.endWith(err)
		}
		c := call.c
		c.mu.Lock()
		if call.draining && call.outcome == nil && s.resume != nil && s.mayTry(call) {
			c.mu.Unlock()
			if s.goesOn(call) {
				continue
			}
			c.mu.Lock()
		}
		if next, ok := call.take(); ok {
			c.mu.Unlock()
			return next, nil
		}
		if call.outcome != nil {
			c.mu.Unlock()
			if s.again(call) {
				continue
			}
			if err := s.result(call, nil); err != nil {
				return item{}, s.endWith(err)
			}
			return item{}, s.endWith(io.EOF)
		}
		if s.opts.gap > 0 && call.hasItems && gapEnd.IsZero() {
			gapEnd = time.Now().Add(s.opts.gap)
		}
		changed := call.waiter()
		c.mu.Unlock()
		if !waitUntil(changed, gapEnd) {
			c.mu.Lock()
			if len(call.inbox) == 0 {
				call.giveUp(fail(CodeDeadlineExceeded, ExecutionMaybe, "no item within %v after the one before (Gap)", s.opts.gap))
			}
			c.mu.Unlock()
		}
	}
}

func (s *stream) endWith(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = err
	}
	return s.end
}

// waitUntil waits for a change. It returns false if the time, if there is one, comes first.
func waitUntil(changed <-chan struct{}, at time.Time) bool {
	if at.IsZero() {
		<-changed
		return true
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
		return false
	}
}

func (s *stream) fails(err *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
	}
}

// send sends an item, as soon as there is credit for it.
func (s *stream) send(value any) error {
	s.mu.Lock()
	req := s.req
	s.mu.Unlock()
	body, err := encodeValue(value)
	if err != nil {
		own := failOwn(CodeInvalidArgument, "the item cannot be encoded: %v", err)
		own.Execution = ExecutionMaybe
		return own.copyFor(req)
	}
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	for {
		call, err := s.current()
		if err != nil {
			return err
		}
		s.mu.Lock()
		saidEnd := s.saidEnd
		s.mu.Unlock()
		if saidEnd {
			return errors.New("farcall: an item is sent after the end")
		}
		c := call.c
		if len(body) > c.terms.MaxFrameBytes {
			own := failOwn(CodeResourceExhausted, "the item has %d bytes; the server takes %d (its max_frame_bytes)", len(body), c.terms.MaxFrameBytes)
			own.Execution = ExecutionMaybe
			return own.copyFor(req)
		}
		c.mu.Lock()
		if s.hasCredit(call) {
			call.push(body)
			keeps := !call.hasItems
			c.mu.Unlock()
			s.keep(body, keeps)
			return nil
		}
		over := call.outcome != nil
		c.mu.Unlock()
		if over {
			if s.madeAgain(call) {
				continue
			}
			if err := s.result(call, nil); err != nil {
				return err
			}
		}
		return ErrStopped
	}
}

// keep keeps an item to send it again. sendMu is held.
func (s *stream) keep(body []byte, keeps bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return
	}
	s.keptBytes += len(body)
	if !keeps || s.keptBytes > maxKept {
		s.lost, s.kept = true, nil
		return
	}
	s.kept = append(s.kept, body)
}

// hasCredit waits until an item may be sent. It returns false if the server takes no more. The lock
// of the connection is held, and released while it waits.
func (s *stream) hasCredit(call *streamCall) bool {
	var stalled time.Time
	for call.sends {
		var until time.Time
		if call.hasRoom() {
			if call.window.check() {
				return true
			}
			if stalled.IsZero() {
				stalled = time.Now().Add(s.client.opts.StreamStall)
			}
			until = stalled
		}
		changed := call.waiter()
		call.c.mu.Unlock()
		inTime := waitUntil(changed, until)
		call.c.mu.Lock()
		if !inTime && call.sends && !call.window.check() {
			call.giveUp(fail(CodeResourceExhausted, ExecutionMaybe, "the server granted no credit within %v (StreamStall)", s.client.opts.StreamStall))
		}
	}
	return false
}

// sayEnd says that no more items come.
func (s *stream) sayEnd() {
	s.mu.Lock()
	s.saidEnd = true
	call := s.call
	s.mu.Unlock()
	call.c.mu.Lock()
	call.end()
	call.c.mu.Unlock()
}

// takeNoMore tells the server to send no more items.
func (s *stream) takeNoMore() {
	s.mu.Lock()
	s.tookAll = true
	if s.end == nil {
		s.end = io.EOF
	}
	call := s.call
	s.mu.Unlock()
	if s.receives {
		call.c.mu.Lock()
		call.stop()
		call.c.mu.Unlock()
	}
}

// finish ends both directions, and waits for the final value.
func (s *stream) finish(reply any) error {
	s.sayEnd()
	s.takeNoMore()
	for {
		call, err := s.current()
		if err != nil {
			return err
		}
		c := call.c
		c.mu.Lock()
		if call.outcome == nil {
			// They may have been said before the call was made again.
			call.end()
			if s.receives {
				call.stop()
			}
			changed := call.waiter()
			c.mu.Unlock()
			<-changed
			continue
		}
		c.mu.Unlock()
		s.sendMu.Lock()
		again := s.madeAgain(call)
		s.sendMu.Unlock()
		if !again {
			return s.result(call, reply)
		}
	}
}

// close cancels the call, if it is not over.
func (s *stream) close(why string) {
	e := fail(CodeCancelled, ExecutionMaybe, "%s", why)
	s.fails(e)
	s.closing.Do(func() { close(s.closed) })
	s.mu.Lock()
	call := s.call
	s.mu.Unlock()
	call.c.mu.Lock()
	call.abandon(e)
	call.c.mu.Unlock()
}

// draining reports whether the server takes no new calls; the call goes on, as long as it lets it.
func (s *stream) draining() bool {
	s.mu.Lock()
	call := s.call
	s.mu.Unlock()
	call.c.mu.Lock()
	defer call.c.mu.Unlock()
	return call.draining
}

// readError ends a call of which an item cannot be read.
func (s *stream) readError(cause error) error {
	e := fail(CodeInternal, ExecutionMaybe, "an item cannot be read: %v", cause)
	e.cause = cause
	s.mu.Lock()
	call, req := s.call, s.req
	s.mu.Unlock()
	call.c.mu.Lock()
	call.abandon(e)
	call.c.mu.Unlock()
	return s.endWith(e.copyFor(req))
}
