package farcall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Client calls the methods of a service. [Dial] and [New] create one.
//
// All calls to a server share one connection. If it is lost, the next call connects again. While a
// server cannot be reached, it is dialed again after a pause of a second, which grows up to two
// minutes, and meanwhile calls to it fail at once.
//
// Its methods may be called by any number of goroutines.
type Client struct {
	opts   *Options
	budget retryBudget
	// pauses is called in place of each pause between tries; nil waits.
	pauses func(time.Duration) bool

	mu        sync.Mutex
	endpoints []*endpoint
	closed    bool
	// source is what the endpoints come from; nil for a fixed list.
	source *source
}

// Dial connects to the server at an address, such as tcp@host:port, unix@/path, tls@host:port,
// http@host:port, connect@host:port, https@host:port, ws@host:port or wss@host:port.
//
// The context is for connecting alone. The caller must close the client.
func Dial(ctx context.Context, address string, opts *Options) (*Client, error) {
	c, err := New(address, opts)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		c.Abort()
		return nil, err
	}
	return c, nil
}

// New returns a client of the servers at these addresses, separated by commas, which connects at
// its first call. Calls go to the server with fewer calls in flight of two that are chosen at
// random, and not to servers that cannot be reached.
func New(addresses string, opts *Options) (*Client, error) {
	s, err := opts.settings()
	if err != nil {
		return nil, err
	}
	c := &Client{opts: s}
	for _, text := range strings.Split(addresses, ",") {
		to, err := parseAddress(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		c.endpoints = append(c.endpoints, newEndpoint(to, s))
	}
	for _, e := range c.endpoints {
		e.weight = defaultWeight
	}
	return c, nil
}

// Connect connects now rather than at the first call.
func (c *Client) Connect(ctx context.Context) error {
	req := &request{}
	if a := c.attempts(req).run(ctx, func(*conn) *answer { return nil }); a != nil {
		return a.failure(req)
	}
	return nil
}

// Call calls a method such as Arith.multiply, waits for its result, and stores that in reply, which
// is a pointer, or nil if the result does not matter.
//
// args is encoded as JSON: a struct or map has the arguments by name, a slice or array in their
// order, nil is none. A failed call returns an [*Error].
//
// The deadline of the context, or the Timeout of the client, travels to the server. If the context
// is cancelled, the method is stopped at the server.
func (c *Client) Call(ctx context.Context, method string, args, reply any, opts ...CallOption) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	req, o, err := c.request(ctx, method, args, opts)
	if err != nil {
		return err
	}
	if o.once {
		if err := req.carryOutOnce(); err != nil {
			return err.copyFor(req)
		}
	}
	a := c.attempts(req).run(ctx, func(at *conn) *answer { return at.call(ctx, req) })
	if err := a.decode(req, reply); err != nil {
		return err
	}
	if o.answer != nil {
		*o.answer = a.header.metadata
	}
	return nil
}

// Notify calls a method one-way: its outcome is not reported. Notify returns when the request is
// handed to the operating system, so that it is not lost if the program ends then.
func (c *Client) Notify(ctx context.Context, method string, args any, opts ...CallOption) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	req, _, err := c.request(ctx, method, args, opts)
	if err != nil {
		return err
	}
	a := c.attempts(req).run(ctx, func(at *conn) *answer {
		if err := at.notify(ctx, req); err != nil {
			return &answer{err: err}
		}
		return nil
	})
	if a != nil {
		return a.failure(req)
	}
	return nil
}

// PendingCall is a call under way, which [Client.Go] began.
type PendingCall struct {
	Method string
	Args   any
	Reply  any
	// Error is the outcome, once the call was sent on Done.
	Error error
	Done  chan *PendingCall
}

// Go begins a call and returns at once, as in net/rpc. When the call is over, it is sent on done,
// which must be buffered; nil creates a channel. For most programs a goroutine with Call is simpler.
func (c *Client) Go(ctx context.Context, method string, args, reply any, done chan *PendingCall, opts ...CallOption) *PendingCall {
	if done == nil {
		done = make(chan *PendingCall, 1)
	} else if cap(done) == 0 {
		panic("farcall: the channel for finished calls is not buffered")
	}
	p := &PendingCall{Method: method, Args: args, Reply: reply, Done: done}
	go func() {
		p.Error = c.Call(ctx, method, args, reply, opts...)
		done <- p
	}()
	return p
}

// Ping returns the time until a server's answer to a ping. It waits first if many pings were sent
// lately, because servers limit their rate.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	var took time.Duration
	var failed error
	req := &request{}
	a := c.attempts(req).run(ctx, func(at *conn) *answer {
		took, failed = at.ping(ctx)
		return nil
	})
	if a != nil {
		failed = a.failure(req)
	}
	return took, failed
}

// InFlight returns the number of calls in flight, with cancelled ones that the server has not ended.
func (c *Client) InFlight() int {
	n := 0
	for _, e := range c.list() {
		n += e.inFlight()
	}
	return n
}

// Terms returns what a server stated at its last handshake; false before the first one.
func (c *Client) Terms() (Terms, bool) {
	for _, e := range c.list() {
		e.mu.Lock()
		terms := e.terms
		e.mu.Unlock()
		if terms != nil {
			return *terms, true
		}
	}
	return Terms{}, false
}

// Close accepts no more calls, waits until those in flight are answered, and closes. When the
// context ends first, the calls that are left fail, and Close returns the context's error.
func (c *Client) Close(ctx context.Context) error {
	c.shut()
	var wait sync.WaitGroup
	list := c.list()
	errs := make([]error, len(list))
	for i, e := range list {
		wait.Add(1)
		go func(i int, e *endpoint) {
			defer wait.Done()
			errs[i] = e.close(ctx)
		}(i, e)
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Abort closes at once. Calls in flight fail as unavailable, maybe.
func (c *Client) Abort() {
	c.shut()
	for _, e := range c.list() {
		e.mu.Lock()
		e.closed = true
		if e.dialing != nil {
			e.dialing.cancel()
		}
		e.mu.Unlock()
		for _, at := range e.connections() {
			at.end("the client was closed")
		}
	}
}

func (c *Client) shut() {
	c.mu.Lock()
	c.closed = true
	s := c.source
	c.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

func (c *Client) list() []*endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := append([]*endpoint(nil), c.endpoints...)
	if c.source != nil {
		list = append(list, c.source.leaving()...)
	}
	return list
}

// limited adds the timeout of the client to a context without a deadline.
func (c *Client) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || c.opts.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.Timeout)
}

// request checks and encodes a call.
func (c *Client) request(ctx context.Context, method string, args any, opts []CallOption) (*request, *callOptions, error) {
	var o callOptions
	for _, set := range opts {
		set(&o)
	}
	req := &request{method: method}
	req.deadline, _ = ctx.Deadline()
	if o.idempotent {
		req.flags |= flagIdempotent
	}
	body, err := encodeArgs(args)
	if err == nil {
		err = checkMetadata(method, o.metadata)
	}
	if err == nil && (o.firstWithin < 0 || o.gap < 0) {
		err = failOwn(CodeInvalidArgument, "a time limit is negative")
	}
	if err != nil {
		var own *Error
		errors.As(err, &own)
		return nil, nil, own.copyFor(req)
	}
	req.body = body
	if len(o.metadata) > 0 {
		req.metadata = make(map[string]string, len(o.metadata)+1)
		for key, value := range o.metadata {
			req.metadata[key] = value
		}
	}
	return req, &o, nil
}

func checkMetadata(method string, metadata map[string]string) error {
	if method == "" || !utf8.ValidString(method) {
		return failOwn(CodeInvalidArgument, "a method is a text such as Arith.multiply")
	}
	if len(metadata) > maxMetadataPairs {
		return failOwn(CodeInvalidArgument, "the metadata has %d pairs; %d are allowed", len(metadata), maxMetadataPairs)
	}
	for key, value := range metadata {
		if key == "" || key != strings.ToLower(key) || !utf8.ValidString(key) {
			return failOwn(CodeInvalidArgument, "the key %q of the metadata is not in lower case", shownName(key))
		}
		if !utf8.ValidString(value) {
			return failOwn(CodeInvalidArgument, "the value of %q in the metadata is not UTF-8", shownName(key))
		}
	}
	return nil
}

// pick chooses an endpoint for a call, and tells whether there are others to try.
func (c *Client) pick(ctx context.Context, tried map[*endpoint]bool) (*endpoint, bool, *Error) {
	c.mu.Lock()
	if c.source != nil && len(c.endpoints) == 0 && !c.closed {
		c.mu.Unlock()
		if err := c.source.ready(ctx); err != nil {
			return nil, false, err
		}
		c.mu.Lock()
	}
	closed, list := c.closed, make([]candidate, 0, len(c.endpoints))
	for _, e := range c.endpoints {
		list = append(list, candidate{e, e.weight})
	}
	c.mu.Unlock()
	if closed {
		return nil, false, errClosed
	}
	if len(list) == 1 && c.source == nil {
		return list[0].e, false, nil
	}
	e := choose(list, tried, time.Now())
	if e == nil {
		return nil, false, fail(CodeUnavailable, ExecutionNotSent, "no endpoint of %d can be reached", len(list))
	}
	return e, true, nil
}

// Service is a service as it describes itself.
type Service struct {
	Name    string   `json:"name"`
	Doc     string   `json:"doc"`
	Methods []Method `json:"methods"`
}

// Method is a method as it describes itself; its name is without its service's.
type Method struct {
	Name       string  `json:"name"`
	Doc        string  `json:"doc"`
	Params     []Param `json:"params"`
	Returns    string  `json:"returns"`
	Idempotent bool    `json:"idempotent"`
	// Once is true if calls with one key are carried out once.
	Once    bool `json:"once"`
	Streams struct {
		In  bool `json:"in"`
		Out bool `json:"out"`
	} `json:"streams"`
}

// Param is a parameter of a method.
type Param struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// MethodStats are counts and times of a method, for the whole server; times are in microseconds.
type MethodStats struct {
	Name     string `json:"name"`
	Calls    uint64 `json:"calls"`
	Errors   uint64 `json:"errors"`
	InFlight uint64 `json:"in_flight"`
	P50      uint64 `json:"p50_us"`
	P90      uint64 `json:"p90_us"`
	P99      uint64 `json:"p99_us"`
	Max      uint64 `json:"max_us"`
	// The items that its handlers have sent and received, in open streams too.
	ItemsSent     uint64 `json:"items_sent"`
	ItemsReceived uint64 `json:"items_received"`
}

// Services returns the services of the server and their methods.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	var services []Service
	err := c.Call(ctx, "farcall.services", nil, &services, Idempotent())
	return services, err
}

// Health returns the status of a service, or of the server for "": serving or draining.
func (c *Client) Health(ctx context.Context, service string) (string, error) {
	var args any
	if service != "" {
		args = map[string]string{"service": service}
	}
	var health struct {
		Status string `json:"status"`
	}
	err := c.Call(ctx, "farcall.health", args, &health, Idempotent())
	return health.Status, err
}

// Stats returns counts and times of each method, for the whole server.
func (c *Client) Stats(ctx context.Context) ([]MethodStats, error) {
	var stats []MethodStats
	err := c.Call(ctx, "farcall.stats", nil, &stats, Idempotent())
	return stats, err
}

// String returns the addresses.
func (c *Client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.endpoints))
	for _, e := range c.endpoints {
		names = append(names, shownName(e.to.String()))
	}
	return fmt.Sprintf("farcall.Client(%s)", strings.Join(names, ","))
}
