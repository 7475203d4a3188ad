package farcall

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// The numbers in the comments are the sections of docs/PROTOCOL.md.

const (
	magicNumber = 0xCAFEBABE
	version     = 1
	codecJSON   = "application/json"

	// 8
	maxOptionBytes     = 4 << 10
	maxHeaderBytes     = 64 << 10
	defaultMaxFrame    = 4 << 20
	defaultMaxInFlight = 1024
	defaultMaxStreams  = 256
	maxSeq             = 1<<53 - 1

	// 7
	flagCompressed = 1
	flagOneWay     = 2
	flagIdempotent = 4
	flagStreaming  = 8
	flagStarved    = 16

	// firstRead is what is reserved for a frame before its bytes come: a length alone reserves no more.
	firstRead = 64 << 10
)

// header is a header that was received (4.2).
type header struct {
	kind     string
	seq      uint64
	err      *wireError
	metadata map[string]string
	flags    uint64
}

// wireError is the error of a header, with code and execution by name.
type wireError struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Execution string `json:"execution"`
}

// protocolError is a violation of the protocol by the peer (12.1).
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

func violation(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

// frameTooLarge is a length over the limit (2).
type frameTooLarge struct{ length, limit uint32 }

func (e *frameTooLarge) Error() string {
	return fmt.Sprintf("a frame of %d bytes, where %d are allowed", e.length, e.limit)
}

// decodeHeader decodes a header in JSON. Unknown fields are ignored, and null is a default.
func decodeHeader(data []byte) (header, error) {
	// A map, because a struct would take `KIND` for `kind`.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return header{}, violation("a header is no JSON object: %.100q", data)
	}
	var h header
	if err := stringField(fields["kind"], &h.kind); err != nil || h.kind == "" {
		return header{}, violation("a header has no kind")
	}
	var err error
	if h.seq, err = uintField(fields["seq"], true); err != nil || h.seq > maxSeq {
		return header{}, violation("the seq of a header is no number below 2^53")
	}
	if h.flags, err = uintField(fields["flags"], false); err != nil {
		return header{}, violation("the flags of a header are no integer")
	}
	if _, err = uintField(fields["timeout_ms"], false); err != nil {
		return header{}, violation("the timeout_ms of a header is no integer")
	}
	var method string
	if err := stringField(fields["service_method"], &method); err != nil {
		return header{}, violation("the service_method of a header is no string")
	}
	if raw := fields["metadata"]; !isNull(raw) {
		var values map[string]*string
		if err := json.Unmarshal(raw, &values); err != nil {
			return header{}, violation("the metadata of a header is no map of strings")
		}
		for key, value := range values {
			if value == nil {
				return header{}, violation("the metadata of a header is no map of strings")
			}
			// 10: that of a response with too many pairs is ignored.
			if len(values) <= maxMetadataPairs {
				if h.metadata == nil {
					h.metadata = make(map[string]string, len(values))
				}
				h.metadata[key] = *value
			}
		}
	}
	if raw := fields["error"]; !isNull(raw) {
		if h.err, err = decodeError(raw); err != nil {
			return header{}, err
		}
	}
	return h, nil
}

// decodeError decodes an error. Its code and execution may be unknown, or of another type.
func decodeError(raw json.RawMessage) (*wireError, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, violation("the error of a header is no object")
	}
	e := &wireError{}
	for name, at := range map[string]*string{"code": &e.Code, "message": &e.Message, "execution": &e.Execution} {
		if stringField(fields[name], at) != nil {
			*at = ""
		}
	}
	switch Code(e.Code) {
	case CodeCancelled, CodeDeadlineExceeded, CodeInvalidArgument, CodeUnauthenticated, CodeUnimplemented,
		CodePermissionDenied, CodeResourceExhausted, CodeUnavailable, CodeInternal, CodeApplication:
	default:
		e.Code = string(CodeInternal)
	}
	switch Execution(e.Execution) {
	case ExecutionDone, ExecutionRefused, ExecutionMaybe:
	default:
		e.Execution = string(ExecutionMaybe)
	}
	return e, nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

func stringField(raw json.RawMessage, at *string) error {
	if isNull(raw) {
		return nil
	}
	return json.Unmarshal(raw, at)
}

var errNoUint = errors.New("no unsigned integer")

// uintField decodes an integer in any form that JSON has for it, such as 6, 6.0 and 0.6e1.
func uintField(raw json.RawMessage, required bool) (uint64, error) {
	if isNull(raw) {
		if required {
			return 0, errNoUint
		}
		return 0, nil
	}
	if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
		return n, nil
	}
	if raw[0] == '"' {
		return 0, errNoUint
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < 0 || f != math.Trunc(f) || f > maxSeq {
		return 0, errNoUint
	}
	return uint64(f), nil
}

// requestHead is a header of a request in two parts; the time that is left is written between
// them at the moment when it is sent (9).
type requestHead struct {
	before, after []byte
	deadline      bool
}

func encodeRequestHead(seq uint64, method string, metadata map[string]string, flags uint64, deadline bool) requestHead {
	h := requestHead{deadline: deadline}
	h.before = append(h.before, `{"kind":"request","seq":`...)
	h.before = strconv.AppendUint(h.before, seq, 10)
	h.before = append(h.before, `,"service_method":`...)
	h.before = appendString(h.before, method)
	if len(metadata) > 0 {
		h.after = append(h.after, `,"metadata":`...)
		data, _ := json.Marshal(metadata) // a map of strings always has a form
		h.after = append(h.after, data...)
	}
	if flags != 0 {
		h.after = append(h.after, `,"flags":`...)
		h.after = strconv.AppendUint(h.after, flags, 10)
	}
	h.after = append(h.after, '}')
	return h
}

// maxTimeoutField is the length of the longest timeout_ms.
const maxTimeoutField = len(`,"timeout_ms":9007199254740991`)

// maxLen returns the length that the header has at most.
func (h *requestHead) maxLen() int {
	n := len(h.before) + len(h.after)
	if h.deadline {
		n += maxTimeoutField
	}
	return n
}

// appendFrame appends the header as a frame; 0 ms is no deadline.
func (h *requestHead) appendFrame(out []byte, timeoutMs uint64) []byte {
	at := len(out)
	out = append(out, 0, 0, 0, 0)
	out = append(out, h.before...)
	if timeoutMs > 0 {
		out = append(out, `,"timeout_ms":`...)
		out = strconv.AppendUint(out, timeoutMs, 10)
	}
	out = append(out, h.after...)
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out
}

// encodeMessage returns a message without metadata, as two frames.
func encodeMessage(kind string, seq uint64, e *wireError, flags uint64, body []byte) []byte {
	out := make([]byte, 4, 64+len(body))
	out = append(out, `{"kind":"`...)
	out = append(out, kind...)
	out = append(out, `","seq":`...)
	out = strconv.AppendUint(out, seq, 10)
	if e != nil {
		out = append(out, `,"error":`...)
		data, _ := json.Marshal(e) // strings alone always have a form
		out = append(out, data...)
	}
	if flags != 0 {
		out = append(out, `,"flags":`...)
		out = strconv.AppendUint(out, flags, 10)
	}
	out = append(out, '}')
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return appendFrame(out, body)
}

func appendFrame(out, payload []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	return append(out, payload...)
}

func appendString(out []byte, text string) []byte {
	data, _ := json.Marshal(text) // a string always has a form
	return append(out, data...)
}

// readFrame reads a frame, whose length is checked before memory is reserved for it. io.EOF is the
// end of the stream before the frame.
func readFrame(r *bufio.Reader, limit uint32) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(prefix[:])
	if length > limit {
		return nil, &frameTooLarge{length, limit}
	}
	if length <= firstRead {
		data := make([]byte, length)
		_, err := io.ReadFull(r, data)
		return data, unexpected(err)
	}
	var data bytes.Buffer
	data.Grow(firstRead)
	_, err := io.CopyN(&data, r, int64(length))
	return data.Bytes(), unexpected(err)
}

// unexpected turns the end of the stream into one within a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
