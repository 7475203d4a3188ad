package farcall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	defaultWeight = 100
	pollWait      = 30 * time.Second
	pollTimeout   = pollWait + 15*time.Second
	// maxListBytes is the size of the largest list that is read from a registry.
	maxListBytes = 64 << 20
	// maxInstances is the number of instances of a service that are used at most, as by the other sources.
	maxInstances = 100_000
	// maxEpoch is the length of an epoch, in bytes: it is sent back in a URL.
	maxEpoch = 128
	// minPoll is the time that a poll without a change takes at least: a registry that does not wait is
	// not asked as fast as it answers.
	minPoll = time.Second
	// pollPause is the first pause after a failure.
	pollPause    = time.Second
	warmingPause = 5 * time.Second
	maxPollPause = 15 * time.Second
)

// source keeps the endpoints of a client as its registry lists them.
type source struct {
	client *Client
	url    string // of the list
	http   *http.Client
	cancel context.CancelFunc

	mu     sync.Mutex
	gone   map[*endpoint]struct{} // finish their calls
	epoch  string
	rev    uint64
	listed map[address]float64
	// held are the addresses that only an earlier epoch had, while the registry waits for its servers.
	held   map[address]float64
	last   error         // of the last poll
	polled chan struct{} // closed after the next poll
}

// instanceList is the answer of the registry's interface.
type instanceList struct {
	Epoch     any        `json:"epoch"`
	Rev       *uint64    `json:"rev"`
	Warming   bool       `json:"warming"`
	Instances []instance `json:"instances"`
}

type instance struct {
	Addr   string  `json:"addr"`
	Weight *uint32 `json:"weight"`
	State  string  `json:"state"`
}

// Discover returns a client of the servers that a registry lists for a service, such as
// shop.Arith at http://127.0.0.1:7100. The list follows the registry as long as the client is open. If
// the registry is down, the client goes on with the list that it has.
//
// Calls go to the server with fewer calls in flight for its weight, of two that are chosen at random.
func Discover(registry, service string, opts *Options) (*Client, error) {
	s, err := opts.settings()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(registry)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("farcall: %q is no URL of a registry, such as http://127.0.0.1:7100", shownName(registry))
	}
	if service == "" {
		service = "~"
	}
	list := url.URL{Scheme: base.Scheme, Host: base.Host, Path: "/v1/services/" + service + "/instances"}
	transport := &http.Transport{MaxIdleConns: 1, TLSClientConfig: s.TLS.Clone()}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{opts: s}
	c.source = &source{
		client: c, url: list.String(), http: &http.Client{
			Transport: transport, Timeout: pollTimeout,
			// Answers come from the registry that was named, and the token goes nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		cancel: cancel, gone: make(map[*endpoint]struct{}), polled: make(chan struct{}),
	}
	go c.source.follow(ctx)
	return c, nil
}

func (s *source) stop() { s.cancel() }

// leaving returns the endpoints that are not listed any more, and finish their calls.
func (s *source) leaving() []*endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*endpoint, 0, len(s.gone))
	for e := range s.gone {
		list = append(list, e)
	}
	return list
}

// ready waits until there are endpoints. It fails with the error of the registry, or if the list is empty.
func (s *source) ready(ctx context.Context) *Error {
	s.mu.Lock()
	polled, last, epoch := s.polled, s.last, s.epoch
	s.mu.Unlock()
	if last == nil && epoch == "" {
		select {
		case <-polled:
			s.mu.Lock()
			last = s.last
			s.mu.Unlock()
		case <-ctx.Done():
			return ended(ctx, ExecutionNotSent, "waiting for the registry")
		}
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	switch {
	case len(s.client.endpoints) > 0:
		return nil
	case last != nil:
		e := fail(CodeUnavailable, ExecutionNotSent, "the registry: %v", last)
		e.cause = last
		return e
	}
	return fail(CodeUnavailable, ExecutionNotSent, "the registry lists no server for this service")
}

// follow polls the registry until the client is closed.
func (s *source) follow(ctx context.Context) {
	defer s.http.CloseIdleConnections()
	pause := time.Duration(0)
	for {
		began := time.Now()
		changed, err := s.poll(ctx)
		s.mu.Lock()
		s.last = err
		close(s.polled)
		s.polled = make(chan struct{})
		s.mu.Unlock()
		wait := pollPause/10 - time.Since(began) // changes that come together are one
		if err != nil {
			if pause *= 2; pause == 0 {
				pause = pollPause
			} else if pause > maxPollPause {
				pause = maxPollPause
			}
			wait = time.Duration(float64(pause) * (1 - pauseJitter*rand.Float64()))
		} else {
			pause = 0
			if !changed {
				wait = minPoll - time.Since(began)
			}
			s.mu.Lock()
			if s.held != nil {
				wait = warmingPause
			}
			s.mu.Unlock()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// poll waits for a list that is newer, and reports whether there is one. Only one that is well-formed
// replaces the one so far.
func (s *source) poll(ctx context.Context) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	epoch, rev := s.epoch, s.rev
	if s.held != nil {
		epoch = "" // the end of warming is no change, so that it is asked for
	}
	s.mu.Unlock()
	query := url.Values{"include": {"stale"}}
	if epoch != "" {
		query.Set("epoch", epoch)
		query.Set("rev", strconv.FormatUint(rev, 10))
		query.Set("wait", pollWait.String())
	}
	req.URL.RawQuery = query.Encode()
	if s.client.opts.RegistryToken != "" {
		req.Header.Set("Authorization", "Bearer "+s.client.opts.RegistryToken)
	}
	answer, err := s.http.Do(req)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotModified {
		return false, nil
	}
	if answer.StatusCode != http.StatusOK {
		text := "it answered " + safeText(answer.Status)
		if to := answer.Header.Get("Location"); to != "" && answer.StatusCode/100 == 3 {
			text += ", a redirect to " + safeText(shownName(to)) + ", which is not followed"
		}
		return false, errors.New(text)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxListBytes+1))
	if err != nil {
		return false, err
	}
	if len(data) > maxListBytes {
		return false, fmt.Errorf("its list is over %d bytes", maxListBytes)
	}
	var list instanceList
	if err := json.Unmarshal(data, &list); err != nil {
		return false, fmt.Errorf("its list is not well-formed: %s", shownName(err.Error()))
	}
	if list.Epoch == nil || list.Rev == nil || list.Instances == nil || len(fmt.Sprint(list.Epoch)) > maxEpoch {
		return false, errors.New("its list is not well-formed")
	}
	if len(list.Instances) > maxInstances {
		return false, fmt.Errorf("its list has %d instances; at most %d are used", len(list.Instances), maxInstances)
	}
	changed := fmt.Sprint(list.Epoch) != epoch || *list.Rev != rev
	s.update(s.adopt(&list))
	return changed, nil
}

// adopt notes a list, and returns the addresses to call. A registry that has started without its
// state may miss servers: those of an earlier epoch are held until it had time to hear of them.
func (s *source) adopt(list *instanceList) map[address]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch, listed := fmt.Sprint(list.Epoch), list.addresses()
	if !list.Warming {
		s.held = nil
	} else if epoch != s.epoch && s.epoch != "" {
		held := make(map[address]float64, len(s.held)+len(s.listed))
		for _, earlier := range []map[address]float64{s.held, s.listed} {
			for to, weight := range earlier {
				held[to] = weight
			}
		}
		s.held = held
	}
	s.epoch, s.rev, s.listed = epoch, *list.Rev, listed
	all := make(map[address]float64, len(listed)+len(s.held))
	for _, part := range []map[address]float64{s.held, listed} {
		for to, weight := range part {
			all[to] = weight
		}
	}
	return all
}

// addresses returns the weights of the addresses to call: those that are up, or else stale ones.
func (l *instanceList) addresses() map[address]float64 {
	for _, state := range []string{"up", "stale"} {
		found := map[address]float64{}
		for _, i := range l.Instances {
			weight := float64(defaultWeight)
			if i.Weight != nil {
				weight = float64(*i.Weight)
			}
			to, err := parseAddress(i.Addr)
			if err == nil && weight > 0 && (i.State == state || i.State == "" && state == "up") {
				found[to] += weight
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// update replaces the endpoints. Those that stay keep their connections.
func (s *source) update(listed map[address]float64) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	var next []*endpoint
	for _, e := range c.endpoints {
		if weight, stays := listed[e.to]; stays {
			e.weight = weight
			delete(listed, e.to)
			next = append(next, e)
		} else {
			s.leave(e)
		}
	}
	for to, weight := range listed {
		e := newEndpoint(to, c.opts)
		e.weight = weight
		next = append(next, e)
	}
	c.endpoints = next
}

// leave lets an endpoint finish its calls.
func (s *source) leave(e *endpoint) {
	s.mu.Lock()
	s.gone[e] = struct{}{}
	s.mu.Unlock()
	go func() {
		_ = e.close(context.Background())
		s.mu.Lock()
		delete(s.gone, e)
		s.mu.Unlock()
	}()
}

// candidate is an endpoint that may get a call.
type candidate struct {
	e      *endpoint
	weight float64
}

// choose returns the less loaded of two endpoints that are chosen at random by their weights. Those
// that cannot be dialed for now come last; nil if all were tried.
func choose(list []candidate, tried map[*endpoint]bool, now time.Time) *endpoint {
	var usable, paused []candidate
	for _, c := range list {
		if tried[c.e] {
			continue
		}
		if c.e.paused(now) {
			paused = append(paused, c)
		} else {
			usable = append(usable, c)
		}
	}
	if len(usable) == 0 {
		usable = paused
	}
	if len(usable) == 0 {
		return nil
	}
	a, b := draw(usable), draw(usable)
	if a.e != b.e && float64(b.e.inFlight()+1)/b.weight < float64(a.e.inFlight()+1)/a.weight {
		return b.e
	}
	return a.e
}

func draw(list []candidate) candidate {
	sum := 0.0
	for _, c := range list {
		sum += c.weight
	}
	at := rand.Float64() * sum
	for _, c := range list {
		if at -= c.weight; at < 0 {
			return c
		}
	}
	return list[len(list)-1]
}

// paused reports whether it has no connection and may not be dialed yet.
func (e *endpoint) paused(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checkCurrent()
	return e.current == nil && e.dialing == nil && e.backoff.pause(now) > 0
}
