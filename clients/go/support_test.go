package farcall

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon is the limit for what happens soon, on a busy machine as well. Only a test that fails waits so long.
const soon = 2 * time.Minute

// soonCtx returns a context that ends with the test.
func soonCtx(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until the condition is true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	end := time.Now().Add(soon)
	for !condition() {
		if time.Now().After(end) {
			t.Fatalf("in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// assertError returns the error of a call, which must have this code and one of the executions.
func assertError(t testing.TB, err error, code Code, executions ...Execution) *Error {
	t.Helper()
	var own *Error
	if !errors.As(err, &own) {
		t.Fatalf("an *Error with %s, and not %T: %v", code, err, err)
	}
	if own.Code != code {
		t.Fatalf("%s, and not %v", code, err)
	}
	for _, e := range executions {
		if own.Execution == e {
			return own
		}
	}
	t.Fatalf("one of %v, and not %v", executions, err)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen is a message as a server sees it.
type seen struct {
	Kind          string            `json:"kind"`
	Seq           uint64            `json:"seq"`
	ServiceMethod string            `json:"service_method"`
	TimeoutMs     uint64            `json:"timeout_ms"`
	Error         *wireError        `json:"error"`
	Metadata      map[string]string `json:"metadata"`
	Flags         uint64            `json:"flags"`

	body []byte
}

// peer is the server's end of a connection.
type peer struct {
	t      testing.TB
	nc     net.Conn
	br     *bufio.Reader
	option map[string]any
	mu     sync.Mutex
	kinds  []string
}

// read reads the next message; an error is the end of the connection.
func (p *peer) read() (seen, error) {
	var m seen
	head, err := readFrame(p.br, maxHeaderBytes)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(head, &m); err != nil {
		return m, err
	}
	if m.body, err = readFrame(p.br, 1<<30); err != nil {
		return m, err
	}
	p.mu.Lock()
	p.kinds = append(p.kinds, m.Kind)
	p.mu.Unlock()
	return m, nil
}

// next reads the next message, which must be of this kind.
func (p *peer) next(kind string) seen {
	m, err := p.read()
	if err != nil || m.Kind != kind {
		panic(scriptError{fmt.Sprintf("a %s, and not %+v (%v)", kind, m, err)})
	}
	return m
}

// nextRequest reads the next request, and ignores what comes before it.
func (p *peer) nextRequest() seen {
	for {
		m, err := p.read()
		if err != nil {
			panic(scriptError{"a request"})
		}
		if m.Kind == "request" {
			return m
		}
	}
}

type scriptError struct{ text string }

// write sends frames.
func (p *peer) write(frames ...string) {
	var out []byte
	for _, f := range frames {
		out = appendFrame(out, []byte(f))
	}
	p.nc.Write(out)
}

// send sends a message.
func (p *peer) send(kind string, seq uint64, body string, more ...string) {
	p.write(fmt.Sprintf(`{"kind":%q,"seq":%d%s}`, kind, seq, strings.Join(more, "")), body)
}

func (p *peer) answer(seq uint64, body string) { p.send("response", seq, body) }

func (p *peer) fail(seq uint64, code Code, execution Execution) {
	p.send("response", seq, "", fmt.Sprintf(`,"error":{"code":%q,"message":"on purpose","execution":%q}`, code, execution))
}

// ended waits until the client has closed, and ignores what it sends before.
func (p *peer) ended() {
	for {
		if _, err := p.read(); err != nil {
			return
		}
	}
}

// answerCancels answers cancels until the client has closed.
func (p *peer) answerCancels() {
	for {
		m, err := p.read()
		if err != nil {
			return
		}
		if m.Kind == "cancel" {
			p.fail(m.Seq, CodeCancelled, ExecutionMaybe)
		}
		if m.Kind == "goaway" {
			return
		}
	}
}

// echo answers each request with its arguments.
func (p *peer) echo() {
	for {
		m, err := p.read()
		if err != nil || m.Kind == "goaway" {
			return
		}
		if m.Kind == "request" && m.Flags&flagOneWay == 0 {
			p.answer(m.Seq, string(m.body))
		}
	}
}

// fakeServer runs a script on each connection after its handshake. Each connection has the next
// script; the last one repeats.
type fakeServer struct {
	t       testing.TB
	ln      net.Listener
	address string
	scripts []func(*peer)
	terms   string
	opening func(*peer) bool
	mu      sync.Mutex
	conns   []net.Conn
	count   int
	wait    sync.WaitGroup
}

func serve(t testing.TB, scripts ...func(*peer)) *fakeServer {
	return serveWith(t, `,"features":["streams"]`, nil, scripts...)
}

// serveWith has these further fields in its Option, and does this before the handshake.
func serveWith(t testing.TB, terms string, opening func(*peer) bool, scripts ...func(*peer)) *fakeServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &fakeServer{t: t, ln: ln, address: "tcp@" + ln.Addr().String(), scripts: scripts, terms: terms, opening: opening}
	s.wait.Add(1)
	go s.accept()
	t.Cleanup(s.stop)
	return s
}

func (s *fakeServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *fakeServer) accept() {
	defer s.wait.Done()
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		script := s.scripts[min(s.count, len(s.scripts)-1)]
		s.count++
		s.conns = append(s.conns, nc)
		s.mu.Unlock()
		s.wait.Add(1)
		go s.run(nc, script)
	}
}

func (s *fakeServer) run(nc net.Conn, script func(*peer)) {
	defer s.wait.Done()
	defer nc.Close()
	defer func() {
		if e, is := recover().(scriptError); is {
			s.t.Errorf("the server expected %s", e.text)
		}
	}()
	p := &peer{t: s.t, nc: nc, br: bufio.NewReader(nc)}
	if s.opening != nil && !s.opening(p) {
		return
	}
	data, err := readFrame(p.br, maxOptionBytes)
	if err != nil {
		return
	}
	if err := json.Unmarshal(data, &p.option); err != nil {
		s.t.Errorf("an Option: %v", err)
	}
	s.mu.Lock()
	terms := s.terms
	s.mu.Unlock()
	p.write(`{"magic_number":3405691582,"version":1,"codec_type":"application/json"` + terms + `}`)
	script(p)
}

func (s *fakeServer) stop() {
	s.ln.Close()
	s.mu.Lock()
	for _, nc := range s.conns {
		nc.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

// dialed returns a client that is aborted at the end of the test.
func dialed(t testing.TB, address string, opts *Options) *Client {
	t.Helper()
	c, err := Dial(soonCtx(t), address, opts)
	must(t, err)
	t.Cleanup(c.Abort)
	return c
}

// demo is the demo's server as a process.
type demo struct {
	cmd       *exec.Cmd
	addresses []string // in the order of the options, HTTP last
}

// demoProgram is made by cargo build -p demo.
func demoProgram() string {
	if program := os.Getenv("FARCALL_DEMO"); program != "" {
		return program
	}
	return filepath.Join("..", "..", "target", "debug", "demo")
}

// startDemo starts a server; without the program, the test is skipped, unless FARCALL_DEMO names it.
func startDemo(t testing.TB, options ...string) *demo {
	t.Helper()
	if _, err := os.Stat(demoProgram()); err != nil {
		if os.Getenv("FARCALL_DEMO") != "" {
			t.Fatal(err)
		}
		t.Skip("cargo build -p demo makes the server for this test")
	}
	d := &demo{cmd: exec.Command(demoProgram(), append([]string{"server"}, options...)...)}
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	must(t, d.cmd.Start())
	t.Cleanup(d.kill)
	lines := bufio.NewScanner(out)
	for _, option := range options {
		if option != "--listen" && option != "--http" && option != "--https" {
			continue
		}
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening ") {
			t.Fatalf("the demo printed %q", lines.Text())
		}
		where := strings.TrimRight(strings.Fields(lines.Text())[1], "/")
		d.addresses = append(d.addresses, strings.Replace(where, "://", "@", 1))
	}
	go func() {
		for lines.Scan() {
		}
	}()
	return d
}

func (d *demo) kill() {
	if d.cmd.ProcessState == nil {
		d.cmd.Process.Kill()
		d.cmd.Wait()
	}
}

// certificates are an authority and certificates that it signed, made by the program openssl.
type certificates struct {
	t   testing.TB
	dir string
}

func newCertificates(t testing.TB) *certificates {
	c := &certificates{t, t.TempDir()}
	c.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-keyout", c.path("ca.key"), "-out", c.path("ca.pem"), "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign")
	return c
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

// sign creates name.pem and name.key.
func (c *certificates) sign(name, names string) {
	c.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-keyout", c.path(name+".key"), "-out", c.path(name+".csr"), "-subj", "/CN="+name)
	must(c.t, os.WriteFile(c.path(name+".ext"), []byte("subjectAltName="+names+"\n"), 0o600))
	c.openssl("x509", "-req", "-CA", c.path("ca.pem"), "-CAkey", c.path("ca.key"), "-CAcreateserial",
		"-in", c.path(name+".csr"), "-out", c.path(name+".pem"), "-extfile", c.path(name+".ext"))
}

func (c *certificates) openssl(args ...string) {
	c.t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("openssl: %v\n%s", err, out)
	}
}

// all returns the items of a stream up to its end.
func all[T any](t testing.TB, items interface{ Recv() (T, error) }) []T {
	t.Helper()
	var list []T
	for {
		item, err := items.Recv()
		if err == io.EOF {
			return list
		}
		must(t, err)
		list = append(list, item)
	}
}

func jsonOf(value any) string {
	var out bytes.Buffer
	_ = json.NewEncoder(&out).Encode(value)
	return strings.TrimSpace(out.String())
}
