package farcall

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

const (
	alpnFarcall = "farcall/1"
	alpnHTTP    = "http/1.1"
	// maxHeadBytes is the size of the largest head of an HTTP answer.
	maxHeadBytes = 16 << 10
	readBuffer   = 32 << 10
	rpcPath      = "/_farcall_"
)

// processStart is what the times of received bytes count from, on the monotonic clock.
var processStart = time.Now()

// link is an open byte stream, with what was read of it already.
type link struct {
	nc    net.Conn
	br    *bufio.Reader
	heard *atomic.Int64
}

// hearing notes when bytes arrive.
type hearing struct {
	r     io.Reader
	heard *atomic.Int64
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.heard.Store(int64(time.Since(processStart)))
	}
	return n, err
}

func newLink(nc net.Conn) *link {
	l := &link{nc: nc, heard: new(atomic.Int64)}
	l.heard.Store(int64(time.Since(processStart)))
	l.br = bufio.NewReaderSize(&hearing{nc, l.heard}, readBuffer)
	return l
}

// dial opens a connection up to the end of its handshake.
func dial(ctx context.Context, to address, opts *Options) (*link, Terms, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.ConnectTimeout)
	defer cancel()
	token := opts.Token
	if opts.TokenFunc != nil {
		var err error
		if token, err = opts.TokenFunc(ctx); err != nil {
			return nil, Terms{}, fmt.Errorf("no token for the connection: %w", err)
		}
	}
	var dialer net.Dialer
	network, where := "tcp", ""
	if to.scheme == "unix" {
		network, where = "unix", to.path
	} else {
		where = to.authority()
	}
	raw, err := dialer.DialContext(ctx, network, where)
	if err != nil {
		return nil, Terms{}, err
	}
	// What follows is ended by closing the socket.
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
			raw.Close()
		case <-done:
		}
	}()
	l, terms, err := open(ctx, raw, to, opts, token)
	close(done)
	<-watched
	if err == nil {
		err = ctx.Err()
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, Terms{}, err
	}
	return l, terms, nil
}

// open does the opening of the scheme (15) and the handshake (3).
func open(ctx context.Context, raw net.Conn, to address, opts *Options, token string) (*link, Terms, error) {
	nc := raw
	if to.encrypted() {
		secured, err := startTLS(ctx, raw, to, opts.TLS)
		if err != nil {
			return nil, Terms{}, err
		}
		nc = secured
	}
	l := newLink(nc)
	var err error
	switch to.scheme {
	case "http", "https":
		err = upgrade(l, to)
	case "connect":
		err = connect(l, to)
	case "ws", "wss":
		l, err = openWebSocket(l, to)
	}
	if err != nil {
		return nil, Terms{}, err
	}
	terms, err := shakeHands(l.nc, l.br, optionOf(opts, token))
	return l, terms, err
}

func startTLS(ctx context.Context, raw net.Conn, to address, config *tls.Config) (net.Conn, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{alpnFarcall}
	if to.scheme != "tls" {
		config.NextProtos = []string{alpnHTTP}
	}
	if config.ServerName == "" {
		config.ServerName = to.host
	}
	nc := tls.Client(raw, config)
	if err := nc.HandshakeContext(ctx); err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) {
			return nil, violation("it does not speak TLS there: try tcp@, or http@")
		}
		return nil, err
	}
	if to.scheme == "tls" && nc.ConnectionState().NegotiatedProtocol != alpnFarcall {
		return nil, violation("it speaks TLS, but did not agree on %s inside", alpnFarcall)
	}
	return nc, nil
}

// upgrade upgrades from HTTP (15.1). Bytes after the head are kept.
func upgrade(l *link, to address) error {
	head := "GET " + rpcPath + " HTTP/1.1\r\nHost: " + to.authority() + "\r\nConnection: Upgrade\r\nUpgrade: farcall\r\n\r\n"
	status, fields, err := exchangeHeads(l, head)
	if err != nil {
		return err
	}
	if status != "101" {
		return violation("it answered %s to an upgrade", safeText(fields[""]))
	}
	if !strings.EqualFold(fields["upgrade"], "farcall") {
		return violation("it upgrades to something else than farcall")
	}
	return nil
}

// connect opens by CONNECT, as Go's net/rpc does (15.2).
func connect(l *link, to address) error {
	status, fields, err := exchangeHeads(l, "CONNECT "+rpcPath+" HTTP/1.1\r\nHost: "+to.authority()+"\r\n\r\n")
	if err != nil {
		return err
	}
	_, sized := fields["content-length"]
	_, encoded := fields["transfer-encoding"]
	if status != "200" || sized || encoded {
		return violation("it answered %s to CONNECT", safeText(fields[""]))
	}
	return nil
}

var errNotHTTP = violation("it does not speak HTTP: try tcp@, or https@ if it is encrypted")

// exchangeHeads sends a head, and returns the status of the answer and its fields by their names in
// lower case; the field "" is the first line without its version.
func exchangeHeads(l *link, head string) (string, map[string]string, error) {
	if _, err := io.WriteString(l.nc, head); err != nil {
		return "", nil, err
	}
	left := maxHeadBytes
	line := func() (string, error) {
		var out []byte
		for {
			part, err := l.br.ReadSlice('\n')
			if left -= len(part); left < 0 {
				return "", violation("the head of its answer is over %d bytes", maxHeadBytes)
			}
			out = append(out, part...)
			if err == bufio.ErrBufferFull {
				continue
			}
			return strings.TrimRight(string(out), "\r\n"), err
		}
	}
	first, err := line()
	if err == io.EOF && first == "" {
		return "", nil, violation("it closed the connection before it answered")
	}
	if !strings.HasPrefix(first, "HTTP/1.") {
		if err != nil && err != io.EOF {
			return "", nil, err
		}
		return "", nil, errNotHTTP
	}
	_, rest, _ := strings.Cut(first, " ")
	fields := map[string]string{"": rest}
	for {
		text, err := line()
		if err != nil {
			return "", nil, unexpected(err)
		}
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ":")
		if name != "" {
			fields[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	status, _, _ := strings.Cut(rest, " ")
	return status, fields, nil
}
