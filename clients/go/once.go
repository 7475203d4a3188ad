package farcall

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

const (
	// maxRepeatAge is the time after its first try for which a call is repeated. Servers keep answers
	// for longer.
	maxRepeatAge = 2 * time.Minute
	// maxStoreName is the longest name of a store, in bytes; more is cut off.
	maxStoreName = 128

	metaKey  = "farcall-idempotency-key"
	metaOnce = "farcall-once"
)

// once is where the tries of one call have gone that may have been carried out (10.1).
type once struct {
	tried bool
	// store is that of the server that knows of them, and since when the first one was sent.
	store string
	since time.Time
}

// check checks that a try at a server with this store carries the call out once.
func (o *once) check(store string) *Error {
	switch {
	case store == "":
		return failOwn(CodeUnimplemented, "it is to be carried out once, and no method of the server is so")
	case !o.tried:
		return nil
	case store != o.store:
		return failOwn(CodeUnavailable, "it may have been carried out, and the server does not know: it has restarted, or is another one")
	case time.Since(o.since) > maxRepeatAge:
		return failOwn(CodeUnavailable, "it may have been carried out over %v ago, and the server may not know any more", maxRepeatAge)
	}
	return nil
}

// mayBeDone notes that a try which was sent then may have been carried out.
func (o *once) mayBeDone(store string, sentAt time.Time) {
	if !o.tried {
		o.tried, o.store, o.since = true, store, sentAt
	}
}

// carryOutOnce has the server carry the call out once; its caller may have set a key.
func (r *request) carryOutOnce() *Error {
	if r.metadata == nil {
		r.metadata = map[string]string{}
	}
	if r.metadata[metaKey] == "" {
		var key [16]byte
		if _, err := rand.Read(key[:]); err != nil {
			return failOwn(CodeInternal, "there is no key for the call: %v", err)
		}
		r.metadata[metaKey] = hex.EncodeToString(key[:])
	}
	r.metadata[metaOnce] = "1"
	if len(r.metadata) > maxMetadataPairs {
		return failOwn(CodeInvalidArgument, "the metadata leaves no room for the key: it has %d pairs", len(r.metadata))
	}
	r.once = &once{}
	return nil
}
