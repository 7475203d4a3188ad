package farcall

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Terms are what the server stated in its handshake.
type Terms struct {
	// MaxFrameBytes is the size of the largest frame that it accepts.
	MaxFrameBytes int
	// MaxInFlight is the number of calls that it runs at once for one connection.
	MaxInFlight int
	// HandleTimeout is the time limit of a method; 0 is no limit.
	HandleTimeout time.Duration
	// Streams is true if it knows streaming calls.
	Streams bool
	// MaxStreams is the number of streaming calls that it runs at once for one connection.
	MaxStreams int
	// StreamWindow is the number of bytes of items that it takes from each stream before it grants more.
	StreamWindow int
	// OnceStore is the name of the store with the keys of calls that it carries out once; "" if it has none.
	OnceStore string
}

// option is the Option of a client (3.2).
type option struct {
	MagicNumber      uint32   `json:"magic_number"`
	Version          int      `json:"version"`
	CodecType        string   `json:"codec_type"`
	ConnectTimeoutMs uint64   `json:"connect_timeout_ms,omitempty"`
	HandleTimeoutMs  uint64   `json:"handle_timeout_ms,omitempty"`
	MaxFrameBytes    int      `json:"max_frame_bytes,omitempty"`
	Token            string   `json:"token,omitempty"`
	Features         []string `json:"features,omitempty"`
	StreamWindow     int      `json:"stream_window,omitempty"`
}

func optionOf(o *Options, token string) option {
	return option{
		MagicNumber: magicNumber, Version: version, CodecType: codecJSON,
		ConnectTimeoutMs: milliseconds(o.ConnectTimeout), HandleTimeoutMs: milliseconds(o.HandleTimeout),
		MaxFrameBytes: o.MaxFrameBytes, Token: token,
		Features: []string{"streams"}, StreamWindow: o.StreamWindow,
	}
}

// milliseconds returns whole milliseconds, rounded up, as far as JSON is exact.
func milliseconds(d time.Duration) uint64 {
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	if ms > maxMillisecond {
		ms = maxMillisecond
	}
	return ms
}

// shakeHands sends the Option, and returns the terms in the server's.
func shakeHands(w io.Writer, r *bufio.Reader, own option) (Terms, error) {
	data, err := encodeValue(own)
	if err != nil {
		return Terms{}, fmt.Errorf("the token: %w", err)
	}
	if len(data) > maxOptionBytes {
		return Terms{}, failOwn(CodeInvalidArgument, "the token is too long for a handshake")
	}
	if _, err := w.Write(appendFrame(nil, data)); err != nil {
		return Terms{}, err
	}
	answered, err := readOption(r)
	if err != nil {
		return Terms{}, err
	}
	if raw := answered["error"]; !isNull(raw) {
		e, err := decodeError(raw)
		if err != nil {
			e = &wireError{Code: string(CodeInternal), Message: "it refused the connection"}
		}
		if e.Message == "" {
			e.Message = e.Code
		}
		return Terms{}, fail(Code(e.Code), ExecutionNotSent, "%s", e.Message)
	}
	var codec string
	magic, err1 := uintField(answered["magic_number"], true)
	spoken, err2 := uintField(answered["version"], true)
	err3 := stringField(answered["codec_type"], &codec)
	if err1 != nil || err2 != nil || err3 != nil || magic != magicNumber || spoken != version || codec != codecJSON {
		return Terms{}, violation("the magic_number, version or codec_type in its Option is another one")
	}
	if !isNull(answered["compression"]) {
		return Terms{}, violation("compression in its Option was not offered")
	}
	return termsOf(answered)
}

// readOption reads the Option of the server, without checking its fields.
func readOption(r *bufio.Reader) (map[string]json.RawMessage, error) {
	data, err := readFrame(r, maxOptionBytes)
	var tooLarge *frameTooLarge
	switch {
	case errors.As(err, &tooLarge):
		// Probably four bytes of another protocol instead of a length.
		begins := binary.BigEndian.AppendUint32(nil, tooLarge.length)
		if string(begins) == "HTTP" {
			return nil, violation("it speaks HTTP there, which http@ is for")
		}
		if begins[0] == 0x15 && begins[1] == 3 {
			return nil, violation("it speaks TLS there, which tls@ is for")
		}
		return nil, violation("its Option is %v", err)
	case err == io.EOF:
		return nil, violation("it closed the connection before its Option")
	case err != nil:
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return nil, violation("its Option is no JSON object")
	}
	return fields, nil
}

func termsOf(fields map[string]json.RawMessage) (Terms, error) {
	var t Terms
	for _, f := range []struct {
		name string
		at   *int
		def  int
	}{
		{"max_frame_bytes", &t.MaxFrameBytes, defaultMaxFrame},
		{"max_in_flight", &t.MaxInFlight, defaultMaxInFlight},
		{"stream_window", &t.StreamWindow, defaultStreamWindow},
	} {
		n, err := uintField(fields[f.name], false)
		if err != nil {
			return Terms{}, violation("%s in its Option is no count", f.name)
		}
		// 0 says no more than no value does, but of a stated window of 0 nothing may be spent before the first credit (18.3).
		if n == 0 && (f.name != "stream_window" || isNull(fields[f.name])) {
			n = uint64(f.def)
		}
		*f.at = clampInt(n)
	}
	ms, err := uintField(fields["handle_timeout_ms"], false)
	if err != nil {
		return Terms{}, violation("handle_timeout_ms in its Option is no count")
	}
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		ms = 0 // a limit of centuries is none
	}
	t.HandleTimeout = time.Duration(ms) * time.Millisecond
	if raw := fields["once_store"]; !isNull(raw) {
		if err := stringField(raw, &t.OnceStore); err != nil {
			return Terms{}, violation("once_store in its Option is no text")
		}
		if len(t.OnceStore) > maxStoreName {
			t.OnceStore = t.OnceStore[:maxStoreName]
		}
	}
	if raw := fields["features"]; !isNull(raw) {
		var features []*string
		if err := json.Unmarshal(raw, &features); err != nil {
			return Terms{}, violation("features in its Option is no list of strings")
		}
		for _, feature := range features {
			if feature == nil {
				return Terms{}, violation("features in its Option is no list of strings")
			}
			t.Streams = t.Streams || *feature == "streams"
		}
	}
	if t.Streams {
		t.MaxStreams = defaultMaxStreams
		if !isNull(fields["max_streams"]) {
			n, err := uintField(fields["max_streams"], false)
			if err != nil {
				return Terms{}, violation("max_streams in its Option is no count")
			}
			t.MaxStreams = clampInt(n)
		}
	}
	return t, nil
}

func clampInt(n uint64) int {
	if n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(n)
}
