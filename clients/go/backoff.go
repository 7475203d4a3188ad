package farcall

import (
	"math"
	"math/rand"
	"time"
)

// gRPC's connection backoff: https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
const (
	firstPause   = time.Second
	pauseFactor  = 1.6
	maxPause     = 2 * time.Minute
	pauseJitter  = 0.2
	maxExponent  = 20 // larger ones exceed maxPause anyway
	healthyAfter = time.Second
)

// backoff is the pause before the next dial, which grows with consecutive failures.
type backoff struct {
	failures int
	until    time.Time
}

// pause returns the time until the next dial is allowed; 0 if it is allowed now.
func (b *backoff) pause(now time.Time) time.Duration {
	if left := b.until.Sub(now); left > 0 {
		return left
	}
	return 0
}

// dialFailed records a failed dial.
func (b *backoff) dialFailed(now time.Time) {
	b.failures++
	b.start(now)
}

// connEnded records the end of a connection. No pause follows one that was healthy: a server that
// closes connections at once is not dialed again at once.
func (b *backoff) connEnded(now time.Time, lasted time.Duration) {
	if lasted >= healthyAfter {
		b.failures = 0
	} else {
		b.failures++
	}
	if b.failures > 1 {
		b.start(now)
	}
}

func (b *backoff) start(now time.Time) {
	exponent := float64(min(b.failures-1, maxExponent))
	pause := math.Min(float64(maxPause), float64(firstPause)*math.Pow(pauseFactor, exponent))
	b.until = now.Add(time.Duration(pause * (1 - pauseJitter + 2*pauseJitter*rand.Float64())))
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
