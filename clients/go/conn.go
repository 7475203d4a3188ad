package farcall

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// closeAfterGoaway is the time that a server has to close after its goaway and its last answer.
const closeAfterGoaway = 5 * time.Second

// request is a request to send.
type request struct {
	method   string
	body     []byte
	metadata map[string]string
	flags    uint64
	// deadline is that of the whole call; zero is none.
	deadline time.Time
	// tries is the number of times that it was sent before.
	tries int
	// once is where they have gone, if the server carries the call out once.
	once *once
}

// conn is one connection after its handshake, and the calls on it.
type conn struct {
	nc    net.Conn
	br    *bufio.Reader
	opts  *Options
	terms Terms
	began time.Time
	onEnd func(*conn)
	wake  chan struct{}
	// dead is closed when the connection has ended.
	dead  chan struct{}
	heard *atomic.Int64 // the time of the last byte, in ns since processStart
	taken atomic.Uint64 // the bytes that the operating system has taken to write

	mu sync.Mutex
	// refusal is why new calls are refused; nil while they are accepted.
	refusal     *Error
	refusedFrom time.Time
	ended       bool
	goawaySent  bool
	lastSeq     uint64
	calls       map[uint64]*pending // bounded by the slots
	slots       slots
	streamSlots slots
	growth      growth
	out         outbox
	pings       pings
	drainTimer  *time.Timer
	shrinkTimer *time.Timer
}

// pending is a call in flight. It stays until its response, though its caller has gone (5.3).
type pending struct {
	seq       uint64
	msg       *message
	answered  chan *answer // of one
	stream    *streamCall  // nil for a plain call
	abandoned bool
}

func newConn(link *link, terms Terms, opts *Options, onEnd func(*conn)) *conn {
	c := &conn{
		nc: link.nc, br: link.br, heard: link.heard, opts: opts, terms: terms, began: time.Now(), onEnd: onEnd,
		wake: make(chan struct{}, 1), dead: make(chan struct{}), calls: make(map[uint64]*pending),
	}
	c.slots = slots{free: terms.MaxInFlight, maxWaiting: opts.MaxWaiting}
	c.streamSlots = slots{free: terms.MaxStreams, maxWaiting: opts.MaxWaiting}
	c.growth.left = uint64(opts.MaxStreamGrowth)
	c.pings.waiting = make(map[uint64]chan struct{})
	return c
}

func (c *conn) start() {
	go c.readLoop()
	go c.writeLoop()
	go c.keepAlive()
}

// open reports whether it accepts new calls.
func (c *conn) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal == nil
}

// took returns why it takes no new calls, and for how long it took them; nil if it still does.
func (c *conn) took() (*Error, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal, c.refusedFrom.Sub(c.began)
}

func (c *conn) inFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// call sends a request and waits for its answer.
func (c *conn) call(ctx context.Context, req *request) *answer {
	p, err := c.send(ctx, req, nil)
	if err != nil {
		return &answer{err: err}
	}
	select {
	case got := <-p.answered:
		return got
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case got := <-p.answered:
		return got // at this moment
	default:
	}
	return &answer{err: ended(ctx, c.abandon(p), "")}
}

// notify sends a one-way request, and waits until it is handed to the operating system: nothing
// else would tell that it was lost.
func (c *conn) notify(ctx context.Context, req *request) *Error {
	one := *req
	one.flags |= flagOneWay
	p, err := c.send(ctx, &one, nil)
	if err != nil {
		return err
	}
	defer func() {
		c.mu.Lock()
		c.slots.release()
		c.mu.Unlock()
	}()
	select {
	case <-p.msg.written:
	case <-ctx.Done():
	case <-c.dead:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-p.msg.written:
		if p.msg.state == messageTaken {
			return nil
		}
		return fail(CodeDeadlineExceeded, ExecutionNotSent, "its time ran out")
	default:
	}
	execution := ExecutionMaybe
	if c.out.drop(p.msg) {
		execution = ExecutionNotSent
	}
	if c.ended {
		return fail(CodeUnavailable, execution, "%s", c.refusal.Message)
	}
	return ended(ctx, execution, "")
}

// flush waits until all requests and goaways so far are handed to the operating system.
func (c *conn) flush(ctx context.Context) *Error {
	c.mu.Lock()
	mark := &message{raw: []byte{}, written: make(chan struct{})}
	c.out.push(mark)
	c.mu.Unlock()
	c.wakeWriter()
	for written := mark.written; ; {
		select {
		case <-written:
			return nil
		case <-ctx.Done():
			return ended(ctx, ExecutionMaybe, "flushing")
		case <-c.dead:
			c.mu.Lock()
			defer c.mu.Unlock()
			return fail(CodeUnavailable, ExecutionMaybe, "%s", c.refusal.Message)
		}
	}
}

// send takes a slot and queues the request. If it fails, nothing was sent. A stream is begun with it.
func (c *conn) send(ctx context.Context, req *request, stream *streamCall) (*pending, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusal != nil {
		return nil, c.refusal
	}
	if len(req.body) > c.terms.MaxFrameBytes {
		return nil, failOwn(CodeResourceExhausted, "the arguments have %d bytes; the server takes %d (its max_frame_bytes)", len(req.body), c.terms.MaxFrameBytes)
	}
	places := &c.slots
	if stream != nil {
		if places = &c.streamSlots; !c.terms.Streams {
			return nil, failOwn(CodeUnimplemented, "the server has not agreed on streams in the handshake")
		} else if c.terms.MaxStreams == 0 {
			return nil, failOwn(CodeResourceExhausted, "the server runs no streaming calls (its max_streams is 0)")
		}
	}
	if err := places.acquire(ctx, &c.mu); err != nil {
		return nil, err
	}
	p, err := c.queue(ctx, req, stream)
	if err != nil {
		places.release()
	}
	return p, err
}

// queue waits for room in the outbox, and adds the request with the next number.
func (c *conn) queue(ctx context.Context, req *request, stream *streamCall) (*pending, *Error) {
	for c.refusal == nil && c.out.queued > maxQueued {
		if c.out.room == nil {
			c.out.room = make(chan struct{})
		}
		room := c.out.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		case <-c.dead:
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return nil, ended(ctx, ExecutionNotSent, "the server reads too slowly")
		}
	}
	if c.refusal != nil {
		return nil, c.refusal
	}
	if c.lastSeq >= maxSeq {
		c.sayGoaway(nil, "its numbers are used up")
		return nil, c.refusal
	}
	limited := !req.deadline.IsZero()
	if ctx.Err() != nil || limited && time.Until(req.deadline) < time.Millisecond {
		e := ended(ctx, ExecutionNotSent, "")
		if ctx.Err() == nil {
			e.Code, e.Message = CodeDeadlineExceeded, "its time ran out"
		}
		return nil, e
	}
	seq := c.lastSeq + 1
	m := &message{
		head:     encodeRequestHead(seq, req.method, req.metadata, req.flags, limited),
		deadline: req.deadline, body: req.body, seq: seq, written: make(chan struct{}),
	}
	most := min(maxHeaderBytes, c.terms.MaxFrameBytes)
	if n := m.head.maxLen(); n > most {
		return nil, failOwn(CodeResourceExhausted, "the header has %d bytes; %d are allowed", n, most)
	}
	m.size = m.head.maxLen() + len(m.body) + 8
	c.lastSeq = seq
	p := &pending{seq: seq, msg: m, answered: make(chan *answer, 1), stream: stream}
	if req.flags&flagOneWay == 0 || stream != nil {
		c.calls[seq] = p
	}
	if stream != nil {
		stream.begin(c, p)
	}
	c.out.push(m)
	c.wakeWriter()
	return p, nil
}

// abandon cancels a call whose caller has gone, and says whether it may have begun. The lock is held.
func (c *conn) abandon(p *pending) Execution {
	if c.calls[p.seq] != p || p.abandoned {
		return ExecutionMaybe
	}
	if c.out.drop(p.msg) {
		c.remove(p)
		return ExecutionNotSent
	}
	p.abandoned = true
	c.out.send(p.seq, encodeMessage("cancel", p.seq, nil, 0, nil))
	c.wakeWriter()
	return ExecutionMaybe
}

// remove ends the bookkeeping of a call.
func (c *conn) remove(p *pending) {
	delete(c.calls, p.seq)
	if p.stream != nil {
		c.streamSlots.release()
	} else {
		c.slots.release()
	}
	if c.refusal != nil && len(c.calls) == 0 && !c.ended && c.drainTimer == nil {
		// The server closes; it is not waited for without end.
		c.drainTimer = time.AfterFunc(closeAfterGoaway, func() { c.end("the server did not close after its last answer") })
	}
}

// settle gives a call its outcome.
func (c *conn) settle(p *pending, a *answer) {
	c.remove(p)
	if p.stream != nil {
		p.stream.finish(a)
		return
	}
	if !p.abandoned {
		p.answered <- a
	}
}

// shut refuses new calls.
func (c *conn) shut(why string) {
	if c.refusal == nil {
		c.refusal = fail(CodeUnavailable, ExecutionNotSent, "%s", why)
		c.refusedFrom = time.Now()
		c.slots.fail(c.refusal)
		c.streamSlots.fail(c.refusal)
		if c.out.room != nil {
			close(c.out.room)
			c.out.room = nil
		}
	}
}

// sayGoaway refuses new calls, and tells the server that none come.
func (c *conn) sayGoaway(e *wireError, why string) {
	c.shut(why)
	if !c.goawaySent && !c.ended {
		c.goawaySent = true
		c.out.send(c.lastSeq, encodeMessage("goaway", c.lastSeq, e, 0, nil))
		c.wakeWriter()
	}
}

// close accepts no new calls, waits for the answers to the others, and ends. It returns the error
// of the context if some are not answered by then.
func (c *conn) close(ctx context.Context) error {
	c.mu.Lock()
	c.sayGoaway(nil, "the client was closed")
	c.mu.Unlock()
	select {
	case <-c.dead:
		return nil
	case <-ctx.Done():
	}
	open := c.inFlight()
	c.end("the client was closed before all was answered")
	if open == 0 {
		return nil
	}
	return ctx.Err()
}

// end ends the connection at once.
func (c *conn) end(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(why)
}

func (c *conn) endLocked(why string) {
	if c.ended {
		return
	}
	c.ended = true
	// An earlier goaway says more than the end of the stream.
	c.shut(why)
	why = c.refusal.Message
	for _, p := range c.calls {
		execution := ExecutionMaybe
		if c.out.drop(p.msg) {
			execution = ExecutionNotSent
		}
		c.settle(p, &answer{err: fail(CodeUnavailable, execution, "%s", why)})
	}
	for _, t := range []*time.Timer{c.drainTimer, c.shrinkTimer} {
		if t != nil {
			t.Stop()
		}
	}
	close(c.dead)
	go func() {
		c.nc.Close()
		c.onEnd(c)
	}()
}

func (c *conn) readLoop() {
	err := c.read()
	var tooLarge *frameTooLarge
	var broken *protocolError
	why := err.Error()
	switch {
	case err == io.EOF:
		why = "the server closed it"
	case errors.As(err, &tooLarge):
		why = "the server sent " + why
		c.mu.Lock()
		c.sayGoaway(&wireError{string(CodeResourceExhausted), err.Error(), string(ExecutionMaybe)}, "the connection was lost: "+why)
		c.mu.Unlock()
		c.flushBriefly()
	case errors.As(err, &broken):
		why = "the server broke the protocol: " + why
	}
	c.end("the connection was lost: " + why)
}

// flushBriefly lets a goaway leave before the connection is closed.
func (c *conn) flushBriefly() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.flush(ctx) // the connection ends in any case
}

func (c *conn) read() error {
	most := uint32(c.opts.MaxFrameBytes)
	headerMost := uint32(min(maxHeaderBytes, c.opts.MaxFrameBytes))
	for {
		head, err := readFrame(c.br, headerMost)
		if err != nil {
			return err
		}
		h, err := decodeHeader(head)
		if err != nil {
			return err
		}
		body, err := readFrame(c.br, most)
		if err != nil {
			return unexpected(err)
		}
		if err := c.handle(h, body); err != nil {
			return err
		}
	}
}

func (c *conn) handle(h header, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch h.kind {
	case "response":
		if p := c.calls[h.seq]; p != nil {
			c.settle(p, &answer{header: h, body: body})
		}
	case "ping":
		if !c.pings.mayReceive(time.Now()) {
			return violation("it sent more than %d pings in %v", maxPings, pingWindow)
		}
		c.out.send(0, encodeMessage("pong", h.seq, nil, 0, nil))
		c.wakeWriter()
	case "pong":
		if waiting := c.pings.waiting[h.seq]; waiting != nil {
			delete(c.pings.waiting, h.seq)
			close(waiting)
		}
	case "goaway":
		c.goaway(h)
	case "item", "credit", "stop":
		if c.terms.Streams {
			return c.handleStream(h, body)
		}
		return violation("it sent a message of kind %s, on which it had not agreed", h.kind)
	default:
		return violation("a server does not send a message of kind %.50q", h.kind)
	}
	return nil
}

// goaway handles the boundary of a server that stops (5.5).
func (c *conn) goaway(h header) {
	why := "it takes no more calls (unavailable)"
	if h.err != nil {
		why = h.err.Message + " (" + h.err.Code + ")"
	}
	c.shut("the server said goaway: " + why)
	for _, p := range c.calls {
		if p.seq > h.seq {
			e := fail(CodeUnavailable, ExecutionRefused, "%s", c.refusal.Message)
			if e.byGoaway = !c.out.drop(p.msg); !e.byGoaway {
				e.Execution = ExecutionNotSent
			}
			c.settle(p, &answer{err: e})
		} else if p.stream != nil {
			p.stream.drain()
		}
	}
	if len(c.calls) == 0 && c.drainTimer == nil {
		c.drainTimer = time.AfterFunc(closeAfterGoaway, func() { c.end(c.refusal.Message) })
	}
}
