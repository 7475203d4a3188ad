package farcall

import (
	"context"
	"math"
	"math/rand"
	"strconv"
	"sync"
	"time"
)

const (
	// maxTries is the number of tries that count before a call fails.
	maxTries = 3
	// maxGoaways is the number of goaways that count as no tries of one call. Each connection refuses a
	// request that takes longer to arrive than a connection lasts, and its call must end.
	maxGoaways = 20
	// maxRetryAfter is the longest time that a server may ask to wait for.
	maxRetryAfter = 30 * time.Second
	// The longest pause before the second try, and before any: it doubles with each. The pause is a
	// random part of it.
	firstRetryPause = 20 * time.Millisecond
	maxRetryPause   = time.Second
	// retryShare is the share of a client's calls that may be made again, and retryFloor the number of
	// tries in a second that always may, of those that retryWindow has.
	retryShare  = 0.2
	retryFloor  = 10.0
	retryWindow = 10 * time.Second
)

// retryBudget is the number of tries that the calls of a client may repeat together: a share of its
// calls, or a small number if that is more, so that tries do not add load to servers that have too
// much. Requests that no server has begun with cost it nothing, unless one refused them for its load.
type retryBudget struct {
	mu sync.Mutex
	at time.Time
	// added are the calls since then; calls and tries those before it, older ones with less weight.
	added        int
	calls, tries float64
}

// deposit counts a call.
func (b *retryBudget) deposit() {
	b.mu.Lock()
	b.added++
	b.mu.Unlock()
}

// withdraw withdraws one try. It returns false if none is left.
func (b *retryBudget) withdraw(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	window, recent := retryWindow.Seconds(), float64(b.added)
	passed := now.Sub(b.at).Seconds()
	if b.at.IsZero() {
		passed = 0
	}
	if passed > window {
		// Of calls over a longer time than the window, the part within it counts.
		recent *= window / passed
	}
	kept := 1 - math.Min(passed, window)/window
	b.calls = b.calls*kept + recent
	b.tries *= kept
	b.at, b.added = now, 0
	if math.Max(retryShare*b.calls, retryFloor*window)-b.tries < 1 {
		return false
	}
	b.tries++
	return true
}

// attempts are the tries of one call so far.
//
// Tries that cost no server more than to read them do not count, and cost the budget nothing: those
// that were not sent, and those that a goaway has refused, up to a bound.
type attempts struct {
	c     *Client
	req   *request
	tried map[*endpoint]bool
	// bound is the endpoint that may have carried out the call; others would not know of it.
	bound                          *endpoint
	counted, free, goaways, pauses int
	// last is the outcome of the last try, which went over at to e after began; maybe is that of one
	// that may have been carried out.
	last, maybe *answer
	e           *endpoint
	at          *conn
	began       time.Time
}

// attempts counts a call, and returns its tries, of which none is made yet.
func (c *Client) attempts(req *request) *attempts {
	c.budget.deposit()
	return &attempts{c: c, req: req, tried: map[*endpoint]bool{}}
}

// run sends the request by a function, and again while that has no second effect and may help. Its
// answer is that of the function, or why there was no connection.
func (a *attempts) run(ctx context.Context, send func(*conn) *answer) *answer {
	for {
		e, several, err := a.pick(ctx)
		if err != nil {
			if a.last == nil {
				a.last = &answer{err: err}
			}
			return a.outcome()
		}
		a.req.countAttempt()
		at, err := e.connected(ctx)
		if err != nil {
			a.last = &answer{err: err}
			if several && err.Code == CodeUnavailable {
				a.tried[e] = true
				continue
			}
			return a.outcome()
		}
		a.e, a.at, a.began = e, at, time.Now()
		if a.req.once != nil {
			if err := a.req.once.check(at.terms.OnceStore); err != nil {
				a.last = &answer{err: err}
				return a.outcome()
			}
		}
		if a.last = send(at); a.last == nil {
			return nil
		}
		if !a.again(ctx) {
			return a.outcome()
		}
	}
}

// again waits until the call is made again after its last try. It returns false if it is not.
func (a *attempts) again(ctx context.Context) bool {
	pause, again := a.next()
	if again && pause > 0 && !a.c.sleep(ctx, pause) {
		a.last = &answer{err: ended(ctx, ExecutionNotSent, "")}
		return false
	}
	return again
}

// pick chooses the endpoint of a try, and tells whether there are others to try.
func (a *attempts) pick(ctx context.Context) (*endpoint, bool, *Error) {
	if a.bound != nil {
		return a.bound, false, nil
	}
	return a.c.pick(ctx, a.tried)
}

// next returns the pause before the call is made again after its last try, and whether it is.
func (a *attempts) next() (time.Duration, bool) {
	failed, _ := a.last.failure(a.req).(*Error)
	if failed == nil {
		return 0, false
	}
	if a.req.once != nil && (failed.Execution == ExecutionMaybe || failed.Execution == ExecutionDone) {
		a.req.once.mayBeDone(a.at.terms.OnceStore, a.began)
	}
	left := failed.Code == CodeUnavailable && !failed.ownFault && !a.at.open()
	if failed.Execution != ExecutionNotSent {
		a.req.tries++
	}
	if a.isFree(failed) {
		if failed.byGoaway {
			a.move(a.e)
		}
		// Each of these tries has a connection of its own, and those are dialed with pauses.
		if a.free++; a.free <= maxTries {
			return 0, left
		}
		return a.randomPause(), left
	}
	a.counted++
	var pause time.Duration
	switch failed.Execution {
	case ExecutionRefused:
		asked, asks := failed.RetryAfter()
		switch {
		case !asks && !left || !failed.MayRepeat() || failed.Code == CodeUnimplemented:
			return 0, false
		case a.move(a.e) || !asks:
			pause = a.randomPause()
		case asked > maxRetryAfter:
			return 0, false
		default:
			pause = time.Duration(float64(asked) * (1 + rand.Float64()/4))
		}
	case ExecutionMaybe:
		a.maybe = a.last
		if a.req.once == nil || !left {
			return 0, false
		}
		a.bound = a.e
		pause = a.randomPause()
	default:
		return 0, false
	}
	inTime := a.req.deadline.IsZero() || time.Until(a.req.deadline) > pause
	return pause, a.counted < maxTries && inTime && a.c.budget.withdraw(time.Now())
}

// isFree reports whether a try that failed so cost no server more than to read it.
func (a *attempts) isFree(failed *Error) bool {
	if failed.byGoaway {
		a.goaways++
		return a.goaways <= maxGoaways
	}
	return failed.Execution == ExecutionNotSent
}

// move has the next try go to another endpoint that was not tried. If there is none, it returns false,
// and the next one may go to any.
func (a *attempts) move(e *endpoint) bool {
	a.tried[e] = true
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.bound == nil {
		for _, other := range a.c.endpoints {
			if !a.tried[other] {
				return true
			}
		}
	}
	a.tried = map[*endpoint]bool{}
	return false
}

// outcome is the last answer, unless that hides that an earlier try may have been carried out.
func (a *attempts) outcome() *answer {
	failed, _ := a.last.failure(a.req).(*Error)
	undone := failed != nil && (failed.Execution == ExecutionRefused || failed.Execution == ExecutionNotSent)
	if a.maybe != nil && undone {
		return a.maybe
	}
	return a.last
}

func (a *attempts) randomPause() time.Duration {
	longest := math.Min(float64(maxRetryPause), float64(firstRetryPause)*math.Pow(2, float64(a.pauses)))
	a.pauses++
	return time.Duration(longest * rand.Float64())
}

// sleep waits, and returns false if the context ends before.
func (c *Client) sleep(ctx context.Context, pause time.Duration) bool {
	if c.pauses != nil {
		return c.pauses(pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// countAttempt tells the server which attempt it is, unless it is the first (10).
func (r *request) countAttempt() {
	if r.tries == 0 || len(r.metadata) >= maxMetadataPairs {
		return
	}
	metadata := map[string]string{}
	for key, value := range r.metadata {
		metadata[key] = value
	}
	metadata[metaAttempt] = strconv.Itoa(r.tries + 1)
	r.metadata = metadata
}
