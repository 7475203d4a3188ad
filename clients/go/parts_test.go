package farcall

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"tcp@127.0.0.1:7001": "tcp@127.0.0.1:7001", "host:1": "tcp@host:1", "[::1]:7001": "tcp@[::1]:7001",
		"unix@/a b": "unix@/a b", "tls@a.example:65535": "tls@a.example:65535", "wss@[fe80::1]:2": "wss@[fe80::1]:2",
		"connect@h:1": "connect@h:1", "http@h:1": "http@h:1", "https@h:1": "https@h:1", "ws@h:1": "ws@h:1",
	} {
		if to, err := parseAddress(text); err != nil || to.String() != want {
			t.Errorf("%s: %v, %v", text, to, err)
		}
	}
	for text, said := range map[string]string{
		"": "no port", "host": "no port", "host:": "no number", "host:0": "no number", "host:65536": "no number",
		"host:+1": "no number", "host:1x": "no number", ":1": "no host", "tcp://h:1/x": "tcp@h:1", "http@http://h:1": "http@h:1",
		"ftp@h:1": "none of tcp", "unix@": "path", "unix@a\x00": "path", "::1:7001": "brackets", "[::x]:1": "IPv6",
		"[1.2.3.4]:1": "IPv6", "tcp:h:1": "scheme@host:port", "a b:1": "name of a host", "a/b:1": "name of a host", "é:1": "name of a host",
	} {
		if to, err := parseAddress(text); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%q: %v, %v", text, to, err)
		}
	}
	for _, addresses := range []string{"", "h:1,", "h:1,h"} {
		if _, err := New(addresses, nil); err == nil {
			t.Error(addresses)
		}
	}
}

func TestOptionsAreTakenOrRefused(t *testing.T) {
	for name, opts := range map[string]Options{
		"negative time":   {PingAfter: -1},
		"small frame":     {MaxFrameBytes: 5},
		"negative window": {StreamWindow: -1},
		"two tokens":      {Token: "x", TokenFunc: func(context.Context) (string, error) { return "", nil }},
	} {
		opts := opts
		if _, err := New("h:1", &opts); err == nil {
			t.Error(name)
		}
	}
	// Every value of a type is taken or refused, and the client works with it.
	server := serve(t, (*peer).echo)
	fields := reflect.TypeOf(Options{})
	for i := 0; i < fields.NumField(); i++ {
		for _, value := range []int64{math.MinInt64, -1, 1, 1000, 1 << 20, math.MaxInt32, math.MaxInt64} {
			var opts Options
			field := reflect.ValueOf(&opts).Elem().Field(i)
			if !field.CanInt() {
				continue
			}
			field.SetInt(value)
			c, err := New(server.address, &opts)
			if err != nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := c.Call(ctx, "A.b", 1, nil); err != nil {
				// A limit of a nanosecond or a byte may end it.
				if CodeOf(err) != CodeDeadlineExceeded && CodeOf(err) != CodeUnavailable {
					t.Errorf("%s = %d: %v", fields.Field(i).Name, value, err)
				}
				if value >= 1<<20 && !strings.HasPrefix(fields.Field(i).Name, "Ping") && fields.Field(i).Type != reflect.TypeOf(time.Duration(0)) {
					t.Errorf("%s = %d: %v", fields.Field(i).Name, value, err)
				}
			}
			cancel()
			c.Abort()
		}
	}
	text := fmt.Sprintf("%v %+v %#v", Options{Token: "secret"}, &Options{Token: "secret"}, Options{Token: "secret"})
	if strings.Contains(text, "secret") {
		t.Fatal(text)
	}
}

func TestTextOfAPeerIsCutAndEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"plain é": "plain é", "a\nb\x1b[31m": `a\nb\x1b[31m`, "\xff": `\xff`, "\u202e": `\u202e`, "it's \"q\" \\": `it's "q" \`,
	} {
		if got := safeText(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	long := safeText(strings.Repeat("é", 1000))
	if len(long) != 1024 || !utf8.ValidString(long) {
		t.Fatal(len(long))
	}
	if long := safeText("x" + strings.Repeat("é", 1000)); len(long) != 1023 {
		t.Fatal(len(long))
	}
}

func TestLongNamesLeaveRoomForWhatIsSaidOfThem(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	e := &Error{Method: long, Code: CodeUnavailable, Execution: ExecutionMaybe, Message: "it is gone"}
	if want := long[:maxName] + "…: it is gone (unavailable, maybe)"; e.Error() != want {
		t.Error(e)
	}
	for _, text := range []string{long, long + "@h:1", "h:" + long, "[" + long + "]:1", long + " :1", long + "://" + long} {
		if _, err := parseAddress(text); err == nil || len(err.Error()) > 600 {
			t.Errorf("%.50s: %d", text, len(err.Error()))
		}
	}
	if _, err := Discover(long, "A", nil); err == nil || len(err.Error()) > 300 {
		t.Error("registry")
	}
	c, err := New("unix@/"+long, nil)
	must(t, err)
	defer c.Abort()
	failure := assertError(t, c.Call(soonCtx(t), long, nil, nil), CodeUnavailable, ExecutionNotSent)
	if text := failure.Error(); len(text) > 500 || !strings.Contains(text, "invalid argument") {
		t.Error(len(text), text)
	}
	if text := c.String(); len(text) > 200 {
		t.Error(len(text))
	}
	if err := c.Call(soonCtx(t), "A.b", nil, nil, WithMetadata(map[string]string{strings.ToUpper(long): ""})); len(err.Error()) > 300 {
		t.Error(len(err.Error()))
	}
}

func TestErrors(t *testing.T) {
	e := &Error{Method: "A.b", Code: CodeUnavailable, Message: "gone", Execution: ExecutionMaybe, Metadata: map[string]string{metaRetryAfter: "1500"}}
	if e.Error() != "A.b: gone (unavailable, maybe)" {
		t.Fatal(e)
	}
	if after, ok := e.RetryAfter(); !ok || after != 1500*time.Millisecond {
		t.Fatal(after)
	}
	for _, bad := range []string{"", "-1", "x", "99999999999999999999"} {
		e.Metadata[metaRetryAfter] = bad
		if _, ok := e.RetryAfter(); ok {
			t.Error(bad)
		}
	}
	if errors.Is(e, context.Canceled) || CodeOf(e) != CodeUnavailable || CodeOf(nil) != "" || CodeOf(errors.New("x")) != CodeInternal {
		t.Fatal(e)
	}
	if e.DecodeDetails(new(int)) == nil {
		t.Fatal("there are no details")
	}
	for _, c := range []struct {
		code       Code
		execution  Execution
		idempotent bool
		may        bool
	}{
		{CodeUnavailable, ExecutionDone, true, false},
		{CodeUnavailable, ExecutionRefused, false, true},
		{CodeUnavailable, ExecutionMaybe, false, false},
		{CodeUnavailable, ExecutionMaybe, true, true},
		{CodeUnavailable, ExecutionNotSent, false, true},
		{CodeInvalidArgument, ExecutionRefused, true, false},
		{CodeUnauthenticated, ExecutionNotSent, true, false},
		{CodePermissionDenied, ExecutionRefused, true, false},
		{CodeResourceExhausted, ExecutionRefused, false, true},
	} {
		if e := (&Error{Code: c.code, Execution: c.execution, idempotent: c.idempotent}); e.MayRepeat() != c.may {
			t.Errorf("%+v", c)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	now := time.Now()
	want := 1.0
	for i := 0; i < 40; i++ {
		b.dialFailed(now)
		pause := b.pause(now).Seconds()
		if pause < want*0.79 || pause > want*1.21 {
			t.Fatal(i, pause)
		}
		want = math.Min(120, want*1.6)
	}
	b.connEnded(now.Add(time.Hour), time.Second)
	if b.pause(now.Add(time.Hour)) != 0 {
		t.Fatal("a pause after a healthy connection")
	}
	b.connEnded(now.Add(time.Hour), 0)
	if b.pause(now.Add(time.Hour)) != 0 {
		t.Fatal("a pause after one short connection")
	}
	b.connEnded(now.Add(time.Hour), 0)
	if b.pause(now.Add(time.Hour)) == 0 {
		t.Fatal("no pause after two short connections")
	}
}

// TestImports: the standard library alone.
func TestImports(t *testing.T) {
	files, err := os.ReadDir(".")
	must(t, err)
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.ImportsOnly)
		must(t, err)
		for _, i := range parsed.Imports {
			if first, _, _ := strings.Cut(strings.Trim(i.Path.Value, `"`), "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", file.Name(), i.Path.Value)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	now := time.Now()
	list := make([]candidate, 3)
	for i := range list {
		list[i] = candidate{newEndpoint(address{host: fmt.Sprint(i)}, nil), float64(100 * (i + 1))}
	}
	count := map[*endpoint]int{}
	for i := 0; i < 30_000; i++ {
		count[choose(list, nil, now)]++
	}
	// Of two drawn by weight the less loaded for its weight: all are idle, so the heavier wins.
	if count[list[2].e] < count[list[1].e] || count[list[1].e] < count[list[0].e] || count[list[0].e] == 0 {
		t.Fatal(count)
	}
	list[2].e.backoff.dialFailed(now)
	tried := map[*endpoint]bool{list[0].e: true}
	for i := 0; i < 100; i++ {
		if choose(list, tried, now) != list[1].e {
			t.Fatal("one that was tried, or cannot be reached")
		}
	}
	tried[list[1].e] = true
	if choose(list, tried, now) != list[2].e {
		t.Fatal("the last one is one that cannot be reached")
	}
	tried[list[2].e] = true
	if choose(list, tried, now) != nil {
		t.Fatal("all were tried")
	}
}
