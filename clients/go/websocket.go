package farcall

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// The opcodes and statuses of RFC 6455.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	statusProtocol    = 1002
	statusUnsupported = 1003
	statusPolicy      = 1008

	// The number of frames without data that the server may send in each window.
	maxEmptyFrames = 1024
	emptyWindow    = 10 * time.Second

	webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	// closeTimeout is the time that a Close of ours may take to be written.
	closeTimeout = time.Second
)

// openWebSocket opens a WebSocket, whose binary messages carry the byte stream (15.3).
func openWebSocket(l *link, to address) (*link, error) {
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	key := base64.StdEncoding.EncodeToString(nonce[:])
	status, fields, err := exchangeHeads(l, "GET "+rpcPath+" HTTP/1.1\r\nHost: "+to.authority()+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(key + webSocketGUID))
	if status != "101" || !strings.EqualFold(fields["upgrade"], "websocket") {
		return nil, violation("it answered %s to the opening of a WebSocket", safeText(fields[""]))
	}
	if fields["sec-websocket-accept"] != base64.StdEncoding.EncodeToString(sum[:]) {
		return nil, violation("its Sec-WebSocket-Accept does not fit the key")
	}
	ws := &webSocket{Conn: l.nc, r: l.br}
	return &link{nc: ws, br: bufio.NewReaderSize(ws, readBuffer), heard: l.heard}, nil
}

// webSocket is the client's side of a WebSocket as a byte stream.
type webSocket struct {
	net.Conn
	r *bufio.Reader

	// For the reader.
	left       uint64 // bytes of the frame under way
	inMessage  bool
	empty      int
	emptySince time.Time

	mu        sync.Mutex // of writing
	pongMu    sync.Mutex
	pong      []byte // the answer to the last ping, while it is being written
	ponging   bool
	saidClose sync.Once
}

// Read reads bytes of binary messages, and answers what else comes.
func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		if err := w.nextFrame(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > w.left {
		p = p[:w.left]
	}
	n, err := w.r.Read(p)
	w.left -= uint64(n)
	return n, unexpected(err)
}

func (w *webSocket) nextFrame() error {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return err
	}
	final, op, length := head[0]&0x80 != 0, head[0]&0x0f, uint64(head[1]&0x7f)
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return w.refuse(statusProtocol, "a frame that is masked, or has reserved bits")
	}
	var err error
	switch length {
	case 126:
		var more [2]byte
		_, err = io.ReadFull(w.r, more[:])
		length = uint64(binary.BigEndian.Uint16(more[:]))
	case 127:
		var more [8]byte
		_, err = io.ReadFull(w.r, more[:])
		length = binary.BigEndian.Uint64(more[:])
	}
	if err != nil {
		return unexpected(err)
	}
	if op >= opClose {
		return w.control(op, final, length)
	}
	switch {
	case op == opText:
		return w.refuse(statusUnsupported, "a text message")
	case op != opBinary && op != opContinuation, (op == opContinuation) != w.inMessage, length > 1<<63-1:
		return w.refuse(statusProtocol, "a frame that RFC 6455 forbids")
	}
	w.inMessage = !final
	w.left = length
	if length == 0 {
		return w.countEmpty()
	}
	return nil
}

func (w *webSocket) control(op byte, final bool, length uint64) error {
	if !final || length > 125 {
		return w.refuse(statusProtocol, "a control frame that RFC 6455 forbids")
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(w.r, data); err != nil {
		return unexpected(err)
	}
	switch op {
	case opPing:
		w.sendPong(data)
		return w.countEmpty()
	case opPong:
		return w.countEmpty()
	case opClose:
		w.sendClose(data)
		return io.EOF
	}
	return w.refuse(statusProtocol, "a frame of an unknown kind")
}

func (w *webSocket) countEmpty() error {
	now := time.Now()
	if now.Sub(w.emptySince) > emptyWindow {
		w.emptySince, w.empty = now, 0
	}
	if w.empty++; w.empty > maxEmptyFrames {
		return w.refuse(statusPolicy, "too many frames without data")
	}
	return nil
}

// refuse ends the stream with a status.
func (w *webSocket) refuse(status uint16, what string) error {
	w.sendClose(binary.BigEndian.AppendUint16(nil, status))
	return violation("it sent %s in its WebSocket", what)
}

// sendPong answers a ping without delaying the reader. One pong may answer several pings.
func (w *webSocket) sendPong(data []byte) {
	w.pongMu.Lock()
	defer w.pongMu.Unlock()
	w.pong = data
	if w.ponging {
		return
	}
	w.ponging = true
	go func() {
		for {
			w.pongMu.Lock()
			data := w.pong
			w.pong = nil
			w.ponging = data != nil
			w.pongMu.Unlock()
			if data == nil {
				return
			}
			_ = w.writeFrame(opPong, data) // the reader or the writer sees the error
		}
	}()
}

func (w *webSocket) sendClose(data []byte) {
	w.saidClose.Do(func() {
		_ = w.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		_ = w.writeFrame(opClose, data) // the stream ends in any case
	})
}

// Write writes a binary message.
func (w *webSocket) Write(p []byte) (int, error) {
	if err := w.writeFrame(opBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says Close, if that was not said, and closes the socket.
func (w *webSocket) Close() error {
	w.sendClose(binary.BigEndian.AppendUint16(nil, 1000))
	return w.Conn.Close()
}

func (w *webSocket) writeFrame(op byte, data []byte) error {
	out := make([]byte, 0, 14+len(data))
	out = append(out, 0x80|op)
	switch n := len(data); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = append(out, 0x80|126)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	default:
		out = append(out, 0x80|127)
		out = binary.BigEndian.AppendUint64(out, uint64(n))
	}
	var mask [4]byte
	if _, err := rand.Read(mask[:]); err != nil {
		return fmt.Errorf("a mask: %w", err)
	}
	out = append(out, mask[:]...)
	for i, b := range data {
		out = append(out, b^mask[i&3])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.Conn.Write(out)
	return err
}
