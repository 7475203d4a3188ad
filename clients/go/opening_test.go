package farcall

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// head reads a head of HTTP.
func (p *peer) head() string {
	var out strings.Builder
	for !strings.HasSuffix(out.String(), "\r\n\r\n") {
		b, err := p.br.ReadByte()
		if err != nil {
			break
		}
		out.WriteByte(b)
	}
	return out.String()
}

// assertDialFails connects, which must fail with this text.
func assertDialFails(t *testing.T, address, text string, code Code, opts *Options) *Error {
	t.Helper()
	c, err := Dial(soonCtx(t), address, opts)
	if err == nil {
		c.Abort()
		t.Fatalf("%s: it is connected", address)
	}
	e := assertError(t, err, code, ExecutionNotSent)
	if !strings.Contains(err.Error(), text) {
		t.Fatalf("%q in %q", text, err)
	}
	return e
}

func TestOption(t *testing.T) {
	options := make(chan map[string]any, 1)
	server := serve(t, func(p *peer) { options <- p.option; p.ended() })
	c := dialed(t, server.address, &Options{Token: "secret", HandleTimeout: 1500 * time.Microsecond, MaxFrameBytes: 5000, ConnectTimeout: soon})
	got := <-options
	for field, want := range map[string]any{
		"magic_number": 3405691582.0, "version": 1.0, "codec_type": "application/json", "connect_timeout_ms": 120000.0,
		"handle_timeout_ms": 2.0, "max_frame_bytes": 5000.0, "token": "secret", "stream_window": 262144.0,
	} {
		if got[field] != want {
			t.Errorf("%s is %v", field, got[field])
		}
	}
	if terms, _ := c.Terms(); terms.MaxFrameBytes != 4<<20 || terms.MaxInFlight != 1024 || terms.MaxStreams != 256 || terms.StreamWindow != 65536 {
		t.Fatalf("%+v", terms)
	}
	silent := serveWith(t, `,"max_frame_bytes":0,"max_in_flight":0.0`, nil, (*peer).echo)
	if terms, _ := dialed(t, silent.address, nil).Terms(); terms.MaxFrameBytes != 4<<20 || terms.MaxInFlight != 1024 {
		t.Fatalf("%+v", terms)
	}
	if text := jsonOf(c.opts.String()); strings.Contains(text, "secret") {
		t.Fatal(text)
	}
}

// raw is a server that reads the Option, and writes these bytes.
func raw(t *testing.T, answer string, framed bool) string {
	server := serveWith(t, "", func(p *peer) bool {
		if _, err := readFrame(p.br, maxOptionBytes); err != nil {
			return false
		}
		if framed {
			p.write(answer)
		} else {
			p.nc.Write([]byte(answer))
		}
		p.ended()
		return false
	}, (*peer).echo)
	return server.address
}

func TestRefusals(t *testing.T) {
	e := assertDialFails(t, raw(t, `{"version":1,"error":{"code":"unauthenticated","message":"the token is wrong"}}`, true), "the token is wrong", CodeUnauthenticated, nil)
	if e.MayRepeat() {
		t.Fatal(e)
	}
	assertDialFails(t, raw(t, `{"error":{"code":"resource_exhausted","message":"too many \u001b[31m`+strings.Repeat("x", 2000)+`"}}`, true), `too many \x1b[31m`, CodeResourceExhausted, nil)
	assertDialFails(t, raw(t, `{"error":{"code":"strange"}}`, true), "internal", CodeInternal, nil)
	assertDialFails(t, raw(t, `{"error":{}}`, true), ": internal (", CodeInternal, nil)
	assertDialFails(t, raw(t, `{"error":5}`, true), "refused", CodeInternal, nil)
	assertDialFails(t, raw(t, `{}`, true), "is another one", CodeUnavailable, nil)
	assertDialFails(t, raw(t, `{"magic_number":3405691582,"version":2,"codec_type":"application/json"}`, true), "is another one", CodeUnavailable, nil)
	assertDialFails(t, raw(t, `{"magic_number":3405691582,"version":1,"codec_type":"application/json","max_in_flight":-1}`, true), "max_in_flight", CodeUnavailable, nil)
	for _, field := range []string{`"compression":"lz4"`, `"features":"streams"`, `"features":["streams",null]`, `"once_store":1`} {
		name := strings.Split(field, `"`)[1]
		assertDialFails(t, raw(t, `{"magic_number":3405691582,"version":1,"codec_type":"application/json",`+field+`}`, true), name+" in its Option", CodeUnavailable, nil)
	}
	assertDialFails(t, raw(t, `[]`, true), "no JSON object", CodeUnavailable, nil)
	assertDialFails(t, raw(t, "\xff\xff\xff\xff", false), "allowed", CodeUnavailable, nil)
	assertDialFails(t, raw(t, "HTTP/1.1 400 Bad Request\r\n\r\n", false), "it speaks HTTP", CodeUnavailable, nil)
	assertDialFails(t, raw(t, "\x15\x03\x03\x00\x02\x02\x46", false), "it speaks TLS", CodeUnavailable, nil)
}

func TestTokens(t *testing.T) {
	// A connection is open for its client before the server's function of it has run.
	got := make(chan any, 2)
	server := serve(t, func(p *peer) {
		got <- p.option["token"]
		p.echo()
	})
	n := 0
	c := dialed(t, server.address, &Options{TokenFunc: func(context.Context) (string, error) {
		n++
		return strings.Repeat("t", n), nil
	}})
	if token := <-got; token != "t" {
		t.Error(token)
	}
	c.endpoints[0].connections()[0].end("on purpose")
	must(t, c.Call(soonCtx(t), "A.b", nil, nil))
	if token := <-got; token != "tt" {
		t.Error(token)
	}
	assertDialFails(t, server.address, "too long", CodeInvalidArgument, &Options{Token: strings.Repeat("x", 5000)})
	broken := errors.New("no secret here")
	e := assertDialFails(t, server.address, "no secret here", CodeUnavailable, &Options{TokenFunc: func(context.Context) (string, error) { return "", broken }})
	if !errors.Is(e, broken) {
		t.Fatal(e)
	}
}

func TestReconnecting(t *testing.T) {
	server := serve(t, func(p *peer) { p.answer(p.next("request").Seq, "1") }, (*peer).echo)
	c, err := New(server.address, nil)
	must(t, err)
	t.Cleanup(c.Abort)
	if server.connections() != 0 {
		t.Fatal("it connects before the first call")
	}
	must(t, c.Call(soonCtx(t), "A.b", nil, nil))
	eventually(t, "the connection is lost", func() bool { return len(c.endpoints[0].connections()) == 0 })
	must(t, c.Call(soonCtx(t), "A.b", nil, nil))
	server.stop()
	eventually(t, "the connection is lost", func() bool { return len(c.endpoints[0].connections()) == 0 })
	for i := 0; i < 3; i++ {
		// The first one dials, or is told of a pause; the others fail at once.
		e := assertError(t, c.Call(soonCtx(t), "A.b", nil, nil), CodeUnavailable, ExecutionNotSent)
		if !e.MayRepeat() || e.Method != "A.b" {
			t.Fatalf("%+v", e)
		}
	}
	if text := c.Call(soonCtx(t), "A.b", nil, nil).Error(); !strings.Contains(text, "dialed again in") {
		t.Fatal(text)
	}
}

func TestConnectTimeout(t *testing.T) {
	hold := make(chan struct{})
	server := serveWith(t, "", func(*peer) bool { <-hold; return false }, (*peer).echo)
	t.Cleanup(func() { close(hold) })
	assertDialFails(t, server.address, "ConnectTimeout", CodeUnavailable, &Options{ConnectTimeout: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, server.address, nil)
	assertError(t, err, CodeDeadlineExceeded, ExecutionNotSent)
	// Close while it dials.
	c, err := New(server.address, nil)
	must(t, err)
	call := c.Go(soonCtx(t), "A.b", nil, nil, nil)
	eventually(t, "it dials", func() bool { return server.connections() == 3 })
	must(t, c.Close(soonCtx(t)))
	<-call.Done
	assertError(t, call.Error, CodeUnavailable, ExecutionNotSent)
}

func TestUpgrade(t *testing.T) {
	head := make(chan string, 1)
	accept := "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nUPGRADE: Farcall\r\n\r\n"
	server := serveWith(t, "", func(p *peer) bool {
		head <- p.head()
		io.WriteString(p.nc, accept)
		return true
	}, (*peer).echo)
	address := "http" + strings.TrimPrefix(server.address, "tcp")
	must(t, dialed(t, address, nil).Call(soonCtx(t), "A.b", nil, nil))
	host := strings.TrimPrefix(server.address, "tcp@")
	if got := <-head; got != "GET /_farcall_ HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: farcall\r\n\r\n" {
		t.Fatalf("%q", got)
	}
	for answer, text := range map[string]string{
		"HTTP/1.1 404 Not Found\r\n\r\n":                                 "404 Not Found to an upgrade",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n": "something else",
		"SSH-2.0-OpenSSH\r\n":                                            "does not speak HTTP",
		"":                                                               "closed the connection",
		"HTTP/1.1 101 X\r\nA: " + strings.Repeat("x", 20_000) + "\r\n\r\n": "over 16384 bytes",
		"HTTP/1.1 200 \x1b[31m" + strings.Repeat("x", 3000) + "\r\n\r\n":   `\x1b`,
		"HTTP/1.1 101 X\r\nUpgrade: farcall\r\n\r\n\x00\x00\x00\x02[]":     "no JSON object",
		"HTTP/1.1 101 X\r\nUpgrade: farcall\r\nA: b":                       "EOF",
		"\x15\x03\x03\x00\x02\x02\x46" + strings.Repeat("\x00", 100):       "does not speak HTTP",
		strings.Repeat("HTTP/1.1 ", 10_000):                                "over 16384 bytes",
	} {
		answer := answer
		server := serveWith(t, "", func(p *peer) bool {
			p.head()
			io.WriteString(p.nc, answer)
			if strings.HasSuffix(answer, "[]") {
				p.ended()
			}
			return false
		}, (*peer).echo)
		assertDialFails(t, "http"+strings.TrimPrefix(server.address, "tcp"), text, CodeUnavailable, nil)
	}
}

func TestConnect(t *testing.T) {
	head := make(chan string, 1)
	server := serveWith(t, "", func(p *peer) bool {
		head <- p.head()
		io.WriteString(p.nc, "HTTP/1.1 200 OK\r\n\r\n")
		return true
	}, (*peer).echo)
	must(t, dialed(t, "connect"+strings.TrimPrefix(server.address, "tcp"), nil).Call(soonCtx(t), "A.b", nil, nil))
	if got := <-head; !strings.HasPrefix(got, "CONNECT /_farcall_ HTTP/1.1\r\nHost: 127.0.0.1:") {
		t.Fatalf("%q", got)
	}
	server = serveWith(t, "", func(p *peer) bool {
		p.head()
		io.WriteString(p.nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		return false
	}, (*peer).echo)
	assertDialFails(t, "connect"+strings.TrimPrefix(server.address, "tcp"), "200 OK to CONNECT", CodeUnavailable, nil)
}

// webSocketServer answers the opening, and then does this.
func webSocketServer(t *testing.T, then func(*peer) bool) string {
	server := serveWith(t, "", func(p *peer) bool {
		_, key, _ := strings.Cut(p.head(), "Sec-WebSocket-Key: ")
		sum := sha1.Sum([]byte(strings.TrimSpace(key) + webSocketGUID))
		io.WriteString(p.nc, "HTTP/1.1 101 X\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
			base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
		return then(p)
	}, (*peer).echo)
	return "ws" + strings.TrimPrefix(server.address, "tcp")
}

// readWebSocketFrame returns the opcode and the unmasked bytes of a short frame.
func (p *peer) readWebSocketFrame() (byte, []byte) {
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		return 0, nil
	}
	length := int(head[1] & 0x7f)
	if length == 126 {
		var more [2]byte
		io.ReadFull(p.br, more[:])
		length = int(more[0])<<8 | int(more[1])
	}
	data := make([]byte, length+4)
	io.ReadFull(p.br, data)
	for i := range data[4:] {
		data[4+i] ^= data[i&3]
	}
	return head[0], data[4:]
}

func TestWebSocketsOfHostileServers(t *testing.T) {
	for name, attack := range map[string]struct {
		frames string
		status uint16
	}{
		"text":                 {"\x81\x01x", statusUnsupported},
		"masked":               {"\x82\x81aaaax", statusProtocol},
		"reserved bits":        {"\xc2\x01x", statusProtocol},
		"unknown opcode":       {"\x83\x01x", statusProtocol},
		"unknown control":      {"\x8b\x01x", statusProtocol},
		"lone continuation":    {"\x80\x01x", statusProtocol},
		"message in a message": {"\x02\x01\x00\x82\x01x", statusProtocol},
		"long ping":            {"\x89\x7e\x00\x80", statusProtocol},
		"split ping":           {"\x09\x01x", statusProtocol},
		"impossible length":    {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", statusProtocol},
		"flood of pings":       {strings.Repeat("\x89\x00", 1100), statusPolicy},
		"flood of nothing":     {strings.Repeat("\x82\x00", 1100), statusPolicy},
	} {
		attack := attack
		t.Run(name, func(t *testing.T) {
			closed := make(chan uint16, 1)
			address := webSocketServer(t, func(p *peer) bool {
				p.readWebSocketFrame()
				io.WriteString(p.nc, attack.frames)
				for {
					op, data := p.readWebSocketFrame()
					if op == 0 || op == 0x88 {
						closed <- uint16(data[0])<<8 | uint16(data[1])
						return false
					}
				}
			})
			assertDialFails(t, address, "WebSocket", CodeUnavailable, nil)
			if status := <-closed; status != attack.status {
				t.Fatal(status)
			}
		})
	}
	address := webSocketServer(t, func(p *peer) bool {
		p.readWebSocketFrame()
		io.WriteString(p.nc, "\x88\x02\x03\xe8")
		p.readWebSocketFrame()
		return false
	})
	assertDialFails(t, address, "closed the connection", CodeUnavailable, nil)
	server := serveWith(t, "", func(p *peer) bool {
		p.head()
		io.WriteString(p.nc, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		return false
	}, (*peer).echo)
	assertDialFails(t, "ws"+strings.TrimPrefix(server.address, "tcp"), "does not fit the key", CodeUnavailable, nil)
}

// TestWebSocketBordersMeanNothing: an Option in frames of a byte, with pings between them.
func TestWebSocketBordersMeanNothing(t *testing.T) {
	address := webSocketServer(t, func(p *peer) bool {
		p.readWebSocketFrame()
		option := appendFrame(nil, []byte(`{"magic_number":3405691582,"version":1,"codec_type":"application/json"}`))
		var out []byte
		for i, b := range option {
			switch {
			case i == 0:
				out = append(out, 0x02, 1, b)
			case i%2 == 0:
				out = append(out, 0x00, 1, b, 0x89, 1, 'p')
			default:
				out = append(out, 0x00, 1, b)
			}
		}
		out = append(out, 0x80, 0)
		p.nc.Write(out)
		for {
			if op, _ := p.readWebSocketFrame(); op != 0x8a {
				p.nc.Write([]byte{0x88, 0}) // to the goaway
				return false
			}
		}
	})
	c := dialed(t, address, nil)
	must(t, c.Close(soonCtx(t)))
}

func TestTLS(t *testing.T) {
	files := newCertificates(t)
	files.sign("server", "DNS:localhost,IP:127.0.0.1")
	files.sign("client", "DNS:client.example")
	authority, err := os.ReadFile(files.path("ca.pem"))
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	own, err := tls.LoadX509KeyPair(files.path("client.pem"), files.path("client.key"))
	must(t, err)
	secure := []string{"--tls-cert", files.path("server.pem"), "--tls-key", files.path("server.key"), "--tls-client-ca", files.path("ca.pem")}
	tokens := files.path("tokens")
	must(t, os.WriteFile(tokens, []byte("web q8mXe01rHsZ9\n"), 0o600))
	d := startDemo(t, append([]string{"--listen", "tls@127.0.0.1:0", "--token-file", tokens}, secure...)...)
	address := d.addresses[0]
	good := Options{TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, Token: "q8mXe01rHsZ9"}
	must(t, dialed(t, address, &good).Call(soonCtx(t), "Arith.multiply", []int{6, 7}, nil))

	wrong := good
	wrong.Token = "wrong"
	assertDialFails(t, address, "token", CodeUnauthenticated, &wrong)
	wrong = good
	wrong.TLS = &tls.Config{Certificates: good.TLS.Certificates}
	e := assertDialFails(t, address, "certificate", CodeUnavailable, &wrong)
	var unknown x509.UnknownAuthorityError
	if !errors.As(e, &unknown) {
		t.Fatalf("%#v", e.cause)
	}
	wrong.TLS = &tls.Config{RootCAs: roots, Certificates: good.TLS.Certificates, ServerName: "other.example"}
	assertDialFails(t, address, "other.example", CodeUnavailable, &wrong)
	wrong.TLS = &tls.Config{RootCAs: roots}
	assertDialFails(t, address, "", CodeUnavailable, &wrong)

	// Servers of another kind.
	where := strings.TrimPrefix(address, "tls@")
	assertDialFails(t, "tcp@"+where, "it speaks TLS", CodeUnavailable, &good)
	plain := strings.TrimPrefix(serve(t, (*peer).echo).address, "tcp@")
	assertDialFails(t, "tls@"+plain, "", CodeUnavailable, &Options{TLS: good.TLS, ConnectTimeout: 5 * time.Second})
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: loadPair(t, files, "server")})
	must(t, err)
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err == nil {
			io.Copy(io.Discard, nc.(net.Conn))
		}
	}()
	assertDialFails(t, "tls@"+ln.Addr().String(), "did not agree on farcall/1", CodeUnavailable, &good)
}

func loadPair(t *testing.T, files *certificates, name string) []tls.Certificate {
	pair, err := tls.LoadX509KeyPair(files.path(name+".pem"), files.path(name+".key"))
	must(t, err)
	return []tls.Certificate{pair}
}
