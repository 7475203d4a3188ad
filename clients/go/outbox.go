package farcall

import "time"

const (
	// maxQueued is the number of bytes of requests that wait to be written; further callers wait.
	maxQueued = 256 << 10
	// maxBatch is the number of bytes of requests that one write takes.
	maxBatch = 64 << 10
	// maxBatchItems is the number of bytes up to which items are added to a write, so that they hold
	// nothing else back for longer. An item of any size passes if nothing else waits.
	maxBatchItems = 64 << 10
	// maxPiece is the number of bytes of a larger batch that are written at once, so that a peer is
	// seen to take some of them.
	maxPiece = 16 << 10
	// keptBatch is the size of the largest buffer that is kept for the next write.
	keptBatch = 1 << 20
)

// message is a request, or something that must not overtake one.
type message struct {
	head     requestHead
	deadline time.Time // zero is none
	body     []byte
	raw      []byte // a message without a time, instead of head and body
	size     int
	seq      uint64
	// written is closed when it was handed to the operating system, or dropped.
	written chan struct{}
	state   messageState
}

type messageState int

const (
	messageQueued messageState = iota
	messageTaken               // some of its bytes may have left this process
	messageDropped
)

// outbox is what a connection is going to write, under the lock of the connection. What is urgent
// goes first, then requests in the order of their numbers, then items (18.6).
type outbox struct {
	urgent  []byte // bounded: pings and pongs by their rate, the others by calls and their windows
	queue   []*message
	queued  int    // bytes in queue
	taken   uint64 // the highest number of a request that was taken from queue
	filled  uint64 // the bytes of all writes
	items   schedule
	room    chan struct{} // closed when queue has room again
	writing []*message    // those of the write under way
}

// send adds a message of a call behind the call's request; 0 is no call.
func (o *outbox) send(seq uint64, raw []byte) {
	if seq <= o.taken {
		o.urgent = append(o.urgent, raw...)
		return
	}
	o.push(&message{raw: raw, size: len(raw), seq: 0})
}

func (o *outbox) push(m *message) {
	o.queue = append(o.queue, m)
	o.queued += m.size
}

// drop takes back a message of which no byte has left. It returns false if it is too late.
func (o *outbox) drop(m *message) bool {
	if m.state == messageQueued {
		m.state = messageDropped
		o.queued -= m.size
		m.body, m.raw = nil, nil
		close(m.written)
		o.signalRoom()
	}
	return m.state == messageDropped
}

func (o *outbox) signalRoom() {
	if o.room != nil && o.queued <= maxQueued/2 {
		close(o.room)
		o.room = nil
	}
}

// fill appends the bytes of the next write.
func (o *outbox) fill(out []byte, now time.Time) []byte {
	out = append(out, o.urgent...)
	o.urgent = o.urgent[:0]
	if cap(o.urgent) > maxBatch {
		o.urgent = nil
	}
	for len(o.queue) > 0 && len(out) < maxBatch {
		m := o.queue[0]
		o.queue[0] = nil
		o.queue = o.queue[1:]
		if m.state == messageDropped {
			continue
		}
		out = o.take(out, m, now)
	}
	o.signalRoom()
	if len(o.queue) > 0 {
		return out
	}
	o.queue = nil
	for {
		room := uint64(maxBatchItems)
		if len(out) == 0 {
			room = 1 << 62
		} else if len(out) >= maxBatchItems {
			break
		} else {
			room -= uint64(len(out))
		}
		call := o.items.next(room)
		if call == nil {
			break
		}
		out = call.popItem(out)
	}
	return out
}

func (o *outbox) take(out []byte, m *message, now time.Time) []byte {
	o.queued -= m.size
	if m.seq > o.taken {
		o.taken = m.seq
	}
	if m.raw == nil {
		var ms uint64
		if !m.deadline.IsZero() {
			left := m.deadline.Sub(now)
			if left < time.Millisecond {
				// 9: nothing is sent with less. Its caller sees that its time is up.
				m.state = messageDropped
				close(m.written)
				return out
			}
			ms = milliseconds(left)
		}
		out = m.head.appendFrame(out, ms)
		out = appendFrame(out, m.body)
	} else {
		out = append(out, m.raw...)
	}
	m.state, m.body, m.raw = messageTaken, nil, nil
	if m.written != nil {
		o.writing = append(o.writing, m)
	}
	return out
}

// wrote ends the write under way.
func (o *outbox) wrote() {
	for i, m := range o.writing {
		close(m.written)
		o.writing[i] = nil
	}
	o.writing = o.writing[:0]
}

// writeLoop writes until the connection ends.
func (c *conn) writeLoop() {
	var batch []byte
	for {
		c.mu.Lock()
		batch = c.out.fill(batch[:0], time.Now())
		c.out.filled += uint64(len(batch))
		if len(batch) == 0 {
			c.out.wrote() // marks without bytes
		}
		c.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-c.dead:
				return
			}
		}
		err := c.write(batch)
		c.mu.Lock()
		if err != nil {
			c.endLocked("the connection was lost: " + err.Error())
			c.mu.Unlock()
			return
		}
		c.out.wrote()
		c.mu.Unlock()
		if cap(batch) > keptBatch {
			batch = nil
		}
	}
}

// write writes a batch, and counts what the operating system takes of it.
func (c *conn) write(batch []byte) error {
	for len(batch) > 0 {
		piece := batch
		if len(batch) > maxBatch {
			piece = batch[:maxPiece]
		}
		n, err := c.nc.Write(piece)
		if err != nil {
			return err
		}
		c.taken.Add(uint64(n))
		batch = batch[n:]
	}
	return nil
}

// wakeWriter lets the writer see what was added.
func (c *conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
