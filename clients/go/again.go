package farcall

import "context"

// again makes a call that is over once more, or goes on from its last item, if it may be.
func (s *stream) again(call *streamCall) bool {
	s.sendMu.Lock()
	made := s.madeAgain(call)
	s.sendMu.Unlock()
	return made || s.resume != nil && s.goesOn(call)
}

// untilClosed returns a context that ends with that of the stream, with the time for its first item, and
// when its caller lets go of it.
func (s *stream) untilClosed() (context.Context, context.CancelFunc) {
	var ctx context.Context
	var cancel context.CancelFunc
	if s.firstUntil.IsZero() {
		ctx, cancel = context.WithCancel(s.ctx)
	} else {
		ctx, cancel = context.WithDeadline(s.ctx, s.firstUntil)
	}
	go func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// madeAgain makes a call again that failed before anything came of it. It returns false if the
// outcome stays. sendMu is held.
func (s *stream) madeAgain(call *streamCall) bool {
	call.c.mu.Lock()
	outcome, hasItems := call.outcome, call.hasItems
	call.c.mu.Unlock()
	s.mu.Lock()
	isOther, kept := s.call != call, s.kept
	stays := hasItems || s.lost || s.failure != nil
	s.mu.Unlock()
	if isOther || stays || s.failed == call {
		return isOther
	}
	ctx, cancel := s.untilClosed()
	defer cancel()
	s.attempts.last = outcome
	again := s.attempts.again(ctx)
	failed := s.attempts.last.err
	if again {
		failed = s.open(ctx)
	} else if s.attempts.last == outcome {
		s.failed = call
		return false
	}
	if failed == nil {
		s.repeat(kept)
		return true
	}
	if s.resume != nil && failed.Code == CodeUnavailable {
		return false // it goes on once the server is there again
	}
	s.fails(failed.copyFor(s.req))
	return true
}

// repeat does again what was done before the call was made again.
func (s *stream) repeat(kept [][]byte) {
	s.mu.Lock()
	call, saidEnd, tookAll := s.call, s.saidEnd, s.tookAll
	s.mu.Unlock()
	call.c.mu.Lock()
	defer call.c.mu.Unlock()
	for _, body := range kept {
		if !s.hasCredit(call) {
			return
		}
		call.push(body)
	}
	if saidEnd {
		call.end()
	}
	if tookAll && s.receives {
		call.stop()
	}
}
