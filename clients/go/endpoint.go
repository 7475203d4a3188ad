package farcall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// endpoint is one server: its connection for new calls, and those that finish their calls.
type endpoint struct {
	to     address
	opts   *Options
	weight float64 // under the lock of the client

	mu      sync.Mutex
	current *conn
	conns   map[*conn]struct{}
	dialing *dialing
	waiting int
	backoff backoff
	lastErr *Error
	terms   *Terms
	closed  bool
}

// dialing is an attempt to connect, for which many callers may wait.
type dialing struct {
	done   chan struct{}
	cancel context.CancelFunc
	conn   *conn
	err    *Error
}

var errClosed = &Error{Code: CodeUnavailable, Execution: ExecutionNotSent, Message: "the client was closed", ownFault: true}

func newEndpoint(to address, opts *Options) *endpoint {
	return &endpoint{to: to, opts: opts, conns: make(map[*conn]struct{})}
}

// connected returns the connection for new calls, and connects if there is none. While the server
// cannot be reached, it fails at once.
func (e *endpoint) connected(ctx context.Context) (*conn, *Error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, errClosed
	}
	e.checkCurrent()
	if e.current != nil {
		defer e.mu.Unlock()
		return e.current, nil
	}
	d := e.dialing
	if d == nil {
		if pause := e.backoff.pause(time.Now()); pause > 0 {
			defer e.mu.Unlock()
			own := *e.lastErr
			own.Message += fmt.Sprintf(" (dialed again in %.1f s)", pause.Seconds())
			return nil, &own
		}
		var dialCtx context.Context
		d = &dialing{done: make(chan struct{})}
		// Not the caller's context: others wait for it too.
		dialCtx, d.cancel = context.WithCancel(context.Background())
		e.dialing = d
		go e.dial(dialCtx, d)
	}
	if e.waiting >= e.opts.MaxWaiting {
		defer e.mu.Unlock()
		return nil, fail(CodeResourceExhausted, ExecutionNotSent, "%d calls wait already (MaxWaiting)", e.waiting)
	}
	e.waiting++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
	}()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, ended(ctx, ExecutionNotSent, "connecting to "+shownName(e.to.String()))
	}
}

func (e *endpoint) dial(ctx context.Context, d *dialing) {
	defer d.cancel()
	link, terms, err := dial(ctx, e.to, e.opts)
	e.mu.Lock()
	defer e.mu.Unlock()
	defer close(d.done)
	e.dialing = nil
	if err == nil && e.closed {
		link.nc.Close()
		err = context.Canceled
	}
	if err != nil {
		d.err = e.dialError(err)
		e.lastErr = d.err
		e.backoff.dialFailed(time.Now())
		return
	}
	c := newConn(link, terms, e.opts, e.connEnded)
	e.current, e.terms, d.conn = c, &terms, c
	e.conns[c] = struct{}{}
	c.start()
}

func (e *endpoint) dialError(err error) *Error {
	if e.closed {
		return errClosed
	}
	var own *Error
	if errors.As(err, &own) {
		copied := *own
		copied.Message = fmt.Sprintf("connecting to %s: %s", shownName(e.to.String()), own.Message)
		return &copied
	}
	text := err.Error()
	// The texts of these begin with the address, which is told already, and may be long.
	var op *net.OpError
	if errors.As(err, &op) {
		text = op.Err.Error()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		text = "looking the name up: " + dns.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no connection within %v (ConnectTimeout)", e.opts.ConnectTimeout)
	}
	failure := fail(CodeUnavailable, ExecutionNotSent, "connecting to %s: %s", shownName(e.to.String()), text)
	if !errors.Is(err, context.DeadlineExceeded) {
		failure.cause = err
	}
	return failure
}

// checkCurrent forgets the current connection if it takes no new calls. A server that says goaway at
// once has served no one, however long calls keep the connection open.
func (e *endpoint) checkCurrent() {
	if e.current == nil {
		return
	}
	if refusal, lasted := e.current.took(); refusal != nil {
		e.current = nil
		e.lastErr = fail(CodeUnavailable, ExecutionNotSent, "%s: %s", shownName(e.to.String()), refusal.Message)
		e.backoff.connEnded(time.Now(), lasted)
	}
}

func (e *endpoint) connEnded(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	e.checkCurrent()
}

// inFlight returns the number of calls in flight.
func (e *endpoint) inFlight() int {
	n := 0
	for _, c := range e.connections() {
		n += c.inFlight()
	}
	return n
}

func (e *endpoint) connections() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*conn, 0, len(e.conns))
	for c := range e.conns {
		list = append(list, c)
	}
	return list
}

// close accepts no more calls, and waits for the answers to the others.
func (e *endpoint) close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	if e.dialing != nil {
		e.dialing.cancel()
	}
	e.mu.Unlock()
	var first error
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, c := range e.connections() {
		wait.Add(1)
		go func(c *conn) {
			defer wait.Done()
			if err := c.close(ctx); err != nil {
				mu.Lock()
				first = err
				mu.Unlock()
			}
		}(c)
	}
	wait.Wait()
	return first
}
