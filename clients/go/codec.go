package farcall

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth is the number of levels to which a value nests in JSON (6.3).
const maxDepth = 127

// encodeValue encodes a value. What JSON cannot carry is an error, never another value.
func encodeValue(value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return data, checkEncoded(data)
}

// encodeArgs encodes the arguments of a method; nil is an empty body.
func encodeArgs(args any) ([]byte, error) {
	if args == nil {
		return nil, nil
	}
	data, err := encodeValue(args)
	if err != nil {
		return nil, failOwn(CodeInvalidArgument, "the arguments cannot be encoded: %v", err)
	}
	return data, nil
}

var errNotUTF8 = errors.New("a string is not UTF-8, or escapes U+FFFD; use []byte for bytes")

// checkEncoded finds what encoding/json lets pass: it replaces what is not UTF-8 by the escape of U+FFFD.
func checkEncoded(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			if i+6 <= len(data) && string(data[i+1:i+6]) == "ufffd" {
				return errNotUTF8
			}
			i++ // the escaped character
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("it nests deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// answer is the response to a call, or the reason why there is none.
type answer struct {
	header header
	body   []byte
	err    *Error
}

// failure returns the error of the call; nil is a success.
func (a *answer) failure(req *request) error {
	switch {
	case a.err != nil:
		return a.err.copyFor(req)
	case a.header.err != nil:
		e := a.header.err
		own := &Error{
			Method: req.method, Code: Code(e.Code), Message: e.Message, Execution: Execution(e.Execution),
			Metadata: a.header.metadata, idempotent: req.flags&flagIdempotent != 0,
		}
		if a.header.flags&flagCompressed == 0 && json.Valid(a.body) {
			own.Details = a.body
		}
		return own
	}
	return nil
}

// decode stores the result; reply may be nil.
func (a *answer) decode(req *request, reply any) error {
	if err := a.failure(req); err != nil {
		return err
	}
	err := decodeBody(a.body, a.header.flags, reply)
	if err == nil {
		return nil
	}
	own := fail(CodeInternal, ExecutionDone, "the result cannot be read: %v", err)
	own.Metadata, own.cause = a.header.metadata, err
	return own.copyFor(req)
}

var (
	errCompressed = errors.New("it is compressed, which was not agreed on")
	errNoJSON     = errors.New("it is no JSON")
	errNoText     = errors.New("it is not UTF-8")
)

// decodeBody decodes a result or an item; into nil, it only checks that it is JSON, or empty.
func decodeBody(body []byte, flags uint64, into any) error {
	switch {
	case flags&flagCompressed != 0:
		return errCompressed
	case !utf8.Valid(body):
		return errNoText // encoding/json would replace it
	case into != nil:
		return json.Unmarshal(body, into)
	case len(body) > 0 && !json.Valid(body):
		return errNoJSON
	}
	return nil
}
