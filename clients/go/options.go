package farcall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"time"
)

// Options are the settings of a [Client]. A field that is zero has its default, and nil is the
// default of all of them.
type Options struct {
	// Token is a bearer credential. Default: none.
	Token string
	// TokenFunc returns the credential for each connection, instead of Token. Its error fails the
	// calls that wait for the connection.
	TokenFunc func(context.Context) (string, error)
	// RegistryToken is a bearer credential for the registry of [Discover]. Default: none.
	RegistryToken string
	// TLS has the trusted authorities, a client certificate, and the name of the server for tls@,
	// https@ and wss@. Default: the authorities of the system, and the host of the address.
	TLS *tls.Config
	// Timeout is the time limit of calls whose context has no deadline, and of streams until their
	// first item. Default: no limit.
	Timeout time.Duration
	// ConnectTimeout is the time limit from the first packet to the end of the handshake. Default: 10 s.
	ConnectTimeout time.Duration
	// HandleTimeout is the longest time for which the server runs a method. Default: the server's.
	HandleTimeout time.Duration
	// MaxFrameBytes is the size of the largest answer; a larger one fails its call. Default: 4 MiB.
	MaxFrameBytes int
	// MaxWaiting is the number of calls that may wait for a connection, or for a slot on it; one more
	// fails at once. Default: 10,000.
	MaxWaiting int
	// PingAfter is the silence after which the server is pinged. Default: 10 s.
	PingAfter time.Duration
	// PingTimeout is the further silence after which the connection is dead. Default: 5 s.
	PingTimeout time.Duration
	// StreamWindow is the number of bytes of items that a server may send to each stream before some
	// are taken. Default: 256 KiB.
	StreamWindow int
	// MaxStreamWindow is the number of bytes to which that grows for a stream that needs it. Default: 16 MiB.
	MaxStreamWindow int
	// MaxStreamGrowth is the number of bytes by which all windows of a connection may grow. Default: 64 MiB.
	MaxStreamGrowth int
	// StreamStall is the time for which an item may wait until the server takes it. Default: 60 s.
	StreamStall time.Duration
}

const (
	maxFrameLimit  = math.MaxInt32
	minFrameLimit  = 1024
	maxMillisecond = 1<<53 - 1
)

// settings returns the options with their defaults.
func (o *Options) settings() (*Options, error) {
	var s Options
	if o != nil {
		s = *o
	}
	if s.Token != "" && s.TokenFunc != nil {
		return nil, errors.New("farcall: Token and TokenFunc are both set")
	}
	for _, d := range []struct {
		name string
		at   *time.Duration
		def  time.Duration
	}{
		{"Timeout", &s.Timeout, 0},
		{"ConnectTimeout", &s.ConnectTimeout, 10 * time.Second},
		{"HandleTimeout", &s.HandleTimeout, 0},
		{"PingAfter", &s.PingAfter, 10 * time.Second},
		{"PingTimeout", &s.PingTimeout, 5 * time.Second},
		{"StreamStall", &s.StreamStall, time.Minute},
	} {
		if *d.at < 0 {
			return nil, fmt.Errorf("farcall: %s is negative: %v", d.name, *d.at)
		}
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	for _, n := range []struct {
		name          string
		at            *int
		def, min, max int
	}{
		{"MaxFrameBytes", &s.MaxFrameBytes, 4 << 20, minFrameLimit, maxFrameLimit},
		{"MaxWaiting", &s.MaxWaiting, 10_000, 1, math.MaxInt},
		{"StreamWindow", &s.StreamWindow, 256 << 10, 1, maxFrameLimit},
		{"MaxStreamWindow", &s.MaxStreamWindow, 16 << 20, 1, maxFrameLimit},
		{"MaxStreamGrowth", &s.MaxStreamGrowth, 64 << 20, 1, math.MaxInt},
	} {
		if *n.at == 0 {
			*n.at = n.def
		}
		if *n.at < n.min || *n.at > n.max {
			return nil, fmt.Errorf("farcall: %s is %d; it is a number from %d to %d", n.name, *n.at, n.min, n.max)
		}
	}
	if s.TLS != nil {
		s.TLS = s.TLS.Clone()
	}
	return &s, nil
}

// String returns nothing of the options, because one of them is a credential.
func (o Options) String() string { return "farcall.Options{...}" }

// GoString is String.
func (o Options) GoString() string { return o.String() }

// CallOption is an option of one call.
type CallOption func(*callOptions)

type callOptions struct {
	metadata    map[string]string
	idempotent  bool
	once        bool
	answer      *map[string]string
	firstWithin time.Duration
	gap         time.Duration
}

// WithMetadata sends strings to the server, with keys in lower case.
func WithMetadata(metadata map[string]string) CallOption {
	return func(o *callOptions) { o.metadata = metadata }
}

// Idempotent tells that two calls have the same effect as one, also at two servers.
func Idempotent() CallOption {
	return func(o *callOptions) { o.idempotent = true }
}

// Once has the server carry a [Client.Call] out once, by a key, and repeats the call if its connection
// breaks, at the server that knows of its first try: up to three times, for two minutes. The method must
// be declared once there. [WithMetadata] may set the key, farcall-idempotency-key. Other kinds of calls
// ignore it.
func Once() CallOption {
	return func(o *callOptions) { o.once = true }
}

// AnswerMetadata stores the metadata of a successful response. That of a failed call is in its [Error].
func AnswerMetadata(into *map[string]string) CallOption {
	return func(o *callOptions) { o.answer = into }
}

// FirstWithin is the time limit for the first item, or the response, of a stream. Default: the
// Timeout of the client.
func FirstWithin(limit time.Duration) CallOption {
	return func(o *callOptions) { o.firstWithin = limit }
}

// Gap is the time limit for an item of a stream after the one before it. It counts while the
// caller waits. Default: no limit.
func Gap(limit time.Duration) CallOption {
	return func(o *callOptions) { o.gap = limit }
}
