package farcall

import (
	"container/list"
	"context"
	"sync"
)

// slots are the places of calls in flight on a connection, taken in the order of the callers. All
// is under the lock of the connection.
type slots struct {
	free       int
	maxWaiting int
	waiting    list.List // of *slotWaiter, at most maxWaiting
}

type slotWaiter struct {
	ready chan struct{}
	err   *Error
}

// acquire takes a slot, or waits for one with the lock released. Its errors are not_sent.
func (s *slots) acquire(ctx context.Context, mu *sync.Mutex) *Error {
	if s.free > 0 && s.waiting.Len() == 0 {
		s.free--
		return nil
	}
	if s.waiting.Len() >= s.maxWaiting {
		return fail(CodeResourceExhausted, ExecutionNotSent, "%d calls wait already (MaxWaiting)", s.maxWaiting)
	}
	w := &slotWaiter{ready: make(chan struct{})}
	at := s.waiting.PushBack(w)
	mu.Unlock()
	select {
	case <-w.ready:
		mu.Lock()
		return w.err
	case <-ctx.Done():
	}
	mu.Lock()
	select {
	case <-w.ready:
		if w.err != nil {
			return w.err
		}
		s.release() // it was given at this moment
	default:
		s.waiting.Remove(at)
	}
	return ended(ctx, ExecutionNotSent, "waiting for a slot among the calls in flight")
}

// release gives a slot to the first that waits.
func (s *slots) release() {
	if at := s.waiting.Front(); at != nil {
		s.waiting.Remove(at)
		close(at.Value.(*slotWaiter).ready)
		return
	}
	s.free++
}

// fail ends all waiting with an error.
func (s *slots) fail(err *Error) {
	for at := s.waiting.Front(); at != nil; at = s.waiting.Front() {
		s.waiting.Remove(at)
		w := at.Value.(*slotWaiter)
		w.err = err
		close(w.ready)
	}
}
