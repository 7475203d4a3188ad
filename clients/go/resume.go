package farcall

import (
	"time"
)

const (
	// maxFruitless is the number of calls in a row without an item, after which a stream that is
	// resumed ends with the last error.
	maxFruitless     = 10
	firstResumePause = 50 * time.Millisecond
	maxResumePause   = 5 * time.Second
)

// mayTry notes that a call of a draining server is going to be replaced. That is tried once.
func (s *stream) mayTry(call *streamCall) bool {
	if s.stays == call {
		return false
	}
	s.stays = call
	return true
}

// goesOn calls the method again from the last item on, and lets go of the call so far. It returns
// false if that call stays, which is still open if its server drains.
func (s *stream) goesOn(call *streamCall) bool {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	call.c.mu.Lock()
	outcome := call.outcome
	call.c.mu.Unlock()
	drains := outcome == nil
	if !drains && CodeOf(outcome.failure(s.req)) != CodeUnavailable {
		return false
	}
	for {
		s.mu.Lock()
		fruitless := s.fruitless
		s.mu.Unlock()
		if fruitless >= maxFruitless || fruitless > 0 && !s.pause(fruitless) {
			return false
		}
		s.mu.Lock()
		if s.failure != nil || s.tookAll || s.call != call {
			defer s.mu.Unlock()
			return s.failure != nil || s.call != call
		}
		s.fruitless++
		body, err := s.resume()
		req := *s.req
		req.body, req.tries = body, 0
		s.req, s.attempts = &req, s.client.attempts(&req)
		s.limitFirst()
		s.mu.Unlock()
		if err != nil {
			own := failOwn(CodeInvalidArgument, "the arguments to go on with: %v", err)
			own.Execution = ExecutionMaybe
			s.fails(own)
			return true
		}
		failed := s.open(s.ctx)
		if failed == nil {
			call.c.mu.Lock()
			call.abandon(fail(CodeCancelled, ExecutionMaybe, "it went on elsewhere"))
			call.c.mu.Unlock()
			return true
		}
		switch {
		case failed.Code != CodeUnavailable && failed.Code != CodeDeadlineExceeded:
			s.fails(failed)
			return true
		case drains:
			return false // it may last until there is another server
		case failed.Code == CodeDeadlineExceeded || failed.ownFault:
			s.fails(failed)
			return true
		}
	}
}

// pause waits before another call. It returns false if the stream has ended meanwhile.
func (s *stream) pause(fruitless int) bool {
	pause := firstResumePause << (fruitless - 1)
	if pause > maxResumePause {
		pause = maxResumePause
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	case <-s.closed:
		return false
	}
}
