package farcall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Code is the kind of a failure.
type Code string

// The codes of failed calls.
const (
	// CodeCancelled: the caller, or a shutdown of the server, stopped the call.
	CodeCancelled Code = "cancelled"
	// CodeDeadlineExceeded: the deadline passed, in the client or at the server.
	CodeDeadlineExceeded Code = "deadline_exceeded"
	// CodeInvalidArgument: the arguments are not what the method takes, or cannot be encoded.
	CodeInvalidArgument Code = "invalid_argument"
	// CodeUnauthenticated: the token is missing or wrong.
	CodeUnauthenticated Code = "unauthenticated"
	// CodeUnimplemented: there is no such service or method.
	CodeUnimplemented Code = "unimplemented"
	// CodePermissionDenied: this client may not call the method.
	CodePermissionDenied Code = "permission_denied"
	// CodeResourceExhausted: a limit was reached: calls in flight, rate, size.
	CodeResourceExhausted Code = "resource_exhausted"
	// CodeUnavailable: there is no connection, it was lost, or the server is stopping.
	CodeUnavailable Code = "unavailable"
	// CodeInternal: an error of the server, or an unknown code.
	CodeInternal Code = "internal"
	// CodeApplication: the method itself returned an error; Details has its value.
	CodeApplication Code = "application"
)

// Execution says whether the method of a failed call may have run.
type Execution string

// The executions of failed calls.
const (
	// ExecutionDone: the method ran to its end.
	ExecutionDone Execution = "done"
	// ExecutionRefused: the server never started the method.
	ExecutionRefused Execution = "refused"
	// ExecutionMaybe: the method may have run, in part or to its end.
	ExecutionMaybe Execution = "maybe"
	// ExecutionNotSent: no byte of the request left this process.
	ExecutionNotSent Execution = "not_sent"
)

const (
	// maxText is the limit of a peer's text in output, in bytes (section 11.4).
	maxText = 1024
	// maxName is the limit of a name or an address in output, in bytes: the reason stands behind it.
	maxName          = 128
	metaRetryAfter   = "farcall-retry-after-ms"
	metaAttempt      = "farcall-attempt"
	metaResume       = "farcall-resume"
	maxMetadataPairs = 1024
)

// Error is the failure of a call. Its text is safe to print: what a server wrote is cut and escaped.
//
// [errors.Is] with [context.Canceled] and [context.DeadlineExceeded] is true for the codes
// [CodeCancelled] and [CodeDeadlineExceeded], also where the server ended the call.
type Error struct {
	// Method is the called method; empty if connecting failed.
	Method string
	// Code is the kind of the failure.
	Code Code
	// Message is for humans. A server's text is unchanged here; Error returns it cut and escaped.
	Message string
	// Execution says whether the method may have run.
	Execution Execution
	// Metadata is that of the response.
	Metadata map[string]string
	// Details is the error value of the method, as JSON, if Code is CodeApplication.
	Details json.RawMessage

	cause      error
	idempotent bool
	// ownFault is true if the call itself is the cause, such as its size.
	ownFault bool
	// byGoaway is true if the server said goaway before it began the call. One that refuses a call for
	// its load answers it.
	byGoaway bool
}

// Error returns the method, the message, the code and the execution.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = string(e.Code)
	}
	if e.Method != "" {
		text = shownName(e.Method) + ": " + text
	}
	return fmt.Sprintf("%s (%s, %s)", safeText(text), e.Code, e.Execution)
}

// Unwrap returns the error of the operating system or of the context, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether the code is the one that a context's error stands for.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == CodeCancelled
	case context.DeadlineExceeded:
		return e.Code == CodeDeadlineExceeded
	}
	return false
}

// MayRepeat reports whether the call may be made again without a second effect, and another try
// can have another outcome: the method was not started, or the call was made with [Idempotent].
func (e *Error) MayRepeat() bool {
	switch e.Code {
	case CodeInvalidArgument, CodeUnauthenticated, CodePermissionDenied, CodeCancelled, CodeDeadlineExceeded:
		return false
	}
	switch e.Execution {
	case ExecutionNotSent:
		return !e.ownFault
	case ExecutionRefused:
		return true
	case ExecutionMaybe:
		return e.idempotent
	}
	return false
}

// RetryAfter returns the time to wait before another try, if the server sent one.
func (e *Error) RetryAfter() (time.Duration, bool) {
	ms, err := strconv.ParseUint(e.Metadata[metaRetryAfter], 10, 42)
	return time.Duration(ms) * time.Millisecond, err == nil
}

// DecodeDetails decodes the error value that the method returned.
func (e *Error) DecodeDetails(value any) error {
	if len(e.Details) == 0 {
		return errors.New("farcall: the error has no details")
	}
	return json.Unmarshal(e.Details, value)
}

// CodeOf returns the code of an error, CodeInternal for one of another package, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Code
	}
	return CodeInternal
}

// fail creates an error.
func fail(code Code, execution Execution, format string, args ...any) *Error {
	return &Error{Code: code, Execution: execution, Message: fmt.Sprintf(format, args...)}
}

// failOwn creates an error of which the call itself is the cause.
func failOwn(code Code, format string, args ...any) *Error {
	e := fail(code, ExecutionNotSent, format, args...)
	e.ownFault = true
	return e
}

// ended returns the error of a call whose context has ended.
func ended(ctx context.Context, execution Execution, doing string) *Error {
	e := &Error{Code: CodeCancelled, Execution: execution, Message: "the caller cancelled it", cause: ctx.Err()}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Message = CodeDeadlineExceeded, "its time ran out"
	}
	if doing != "" {
		e.Message += " (" + doing + ")"
	}
	return e
}

// copyFor returns a copy of an error that several callers get, for one of them.
func (e *Error) copyFor(req *request) *Error {
	own := *e
	own.Method, own.idempotent = req.method, req.flags&flagIdempotent != 0
	return &own
}

// shownName returns the beginning of a name or an address, for messages.
func shownName(name string) string {
	if len(name) <= maxName {
		return name
	}
	return cut(name, maxName) + "…"
}

// cut returns at most max bytes of a text, cut between two characters.
func cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	end := max
	for end > max-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// safeText returns a peer's text, cut and escaped, for output and logs.
func safeText(text string) string {
	text = cut(text, maxText)
	var out strings.Builder
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				fmt.Fprintf(&out, "\\x%02x", text[i])
				continue
			}
		}
		if unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return out.String()
}
