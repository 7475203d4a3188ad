package farcall

import (
	"context"
	"runtime"
)

const dropped = "the caller dropped it"

// ItemStream is a call of a method that sends items of type T. [Receive] and [Resume] make one.
type ItemStream[T any] struct {
	s     *stream
	taken func(T)
}

// Receive calls a method that sends items. Its arguments and errors are those of [Client.Call].
//
// The context is for the whole call: when it ends, the method is stopped. The Timeout of the client
// is for the first item alone. The caller takes items until an error, or closes the stream.
func Receive[T any](ctx context.Context, c *Client, method string, args any, opts ...CallOption) (*ItemStream[T], error) {
	s, err := openStream(ctx, c, method, args, opts, true, false)
	if err != nil {
		return nil, err
	}
	return newItemStream[T](s), nil
}

// Resume is [Receive] for a stream that goes on by itself when its server stops or is lost: after
// returns the arguments of another call, which begin behind the last item that was taken. As far as
// these say where to begin, no item is lost and none comes twice. While a server stops, the next call is
// made before the one so far is let go. After 10 calls in a row without an item the stream ends.
func Resume[T any](ctx context.Context, c *Client, method string, args any, after func(last T) any, opts ...CallOption) (*ItemStream[T], error) {
	s, err := openStream(ctx, c, method, args, opts, true, false)
	if err != nil {
		return nil, err
	}
	var last *T
	first := s.req.body
	items := newItemStream[T](s)
	// Both are called with the lock of the stream.
	s.resume = func() ([]byte, error) {
		if last == nil {
			return first, nil
		}
		return encodeArgs(after(*last))
	}
	items.taken = func(item T) {
		s.mu.Lock()
		defer s.mu.Unlock()
		last, s.fruitless = &item, 0
	}
	return items, nil
}

func newItemStream[T any](s *stream) *ItemStream[T] {
	i := &ItemStream[T]{s: s}
	// A caller that forgets the call must not leave it running at the server.
	runtime.SetFinalizer(i, func(i *ItemStream[T]) { go i.s.close(dropped) })
	return i
}

// Recv returns the next item. It returns io.EOF after the last one, and only if the method succeeded:
// a stream that was cut returns an [*Error].
func (i *ItemStream[T]) Recv() (T, error) {
	value, err := recv[T](i.s)
	if err == nil && i.taken != nil {
		i.taken(value)
	}
	runtime.KeepAlive(i)
	return value, err
}

// Stop takes no more items, and tells the server so. The call goes on: Finish returns its outcome.
func (i *ItemStream[T]) Stop() { i.s.takeNoMore() }

// Finish stores the final value in reply, without the items that were not taken, or returns the error of the call.
func (i *ItemStream[T]) Finish(reply any) error {
	defer runtime.KeepAlive(i)
	return i.s.finish(reply)
}

// Draining reports whether the server is stopping. It lets the call go on for some time.
func (i *ItemStream[T]) Draining() bool { return i.s.draining() }

// Close cancels the call, if it is not over.
func (i *ItemStream[T]) Close() { i.s.close("the caller closed it") }

// Upload is a call of a method that takes items of type T. [Send] makes one.
type Upload[T any] struct{ s *stream }

// Send calls a method that takes items. The context is for the whole call. The caller calls Finish
// when all items were sent, or Close.
func Send[T any](ctx context.Context, c *Client, method string, args any, opts ...CallOption) (*Upload[T], error) {
	s, err := openStream(ctx, c, method, args, opts, false, true)
	if err != nil {
		return nil, err
	}
	u := &Upload[T]{s}
	runtime.SetFinalizer(u, func(u *Upload[T]) { go u.s.close(dropped) })
	return u, nil
}

// Send sends an item, as soon as the server has credit for it. It returns [ErrStopped] if the server
// takes no more, and the error of a call that has failed. An item that cannot be encoded, or that is larger
// than the server accepts, is an error too, and the call goes on.
func (u *Upload[T]) Send(item T) error {
	defer runtime.KeepAlive(u)
	return u.s.send(item)
}

// Finish says that all items were sent, and stores the final value in reply, or returns the error of the call.
func (u *Upload[T]) Finish(reply any) error {
	defer runtime.KeepAlive(u)
	return u.s.finish(reply)
}

// Draining reports whether the server is stopping. It lets the call go on for some time.
func (u *Upload[T]) Draining() bool { return u.s.draining() }

// Close cancels the call, if it is not over: an upload that broke off does not look like a complete one.
func (u *Upload[T]) Close() { u.s.close("the caller closed it") }

// Duplex is a call of a method that takes items of type S and sends items of type R. [Exchange] makes
// one. One goroutine may send while another one receives.
type Duplex[S, R any] struct{ s *stream }

// Exchange calls a method that takes items and sends items. The context is for the whole call.
func Exchange[S, R any](ctx context.Context, c *Client, method string, args any, opts ...CallOption) (*Duplex[S, R], error) {
	s, err := openStream(ctx, c, method, args, opts, true, true)
	if err != nil {
		return nil, err
	}
	d := &Duplex[S, R]{s}
	runtime.SetFinalizer(d, func(d *Duplex[S, R]) { go d.s.close(dropped) })
	return d, nil
}

// Send sends an item, as [Upload.Send] does.
func (d *Duplex[S, R]) Send(item S) error {
	defer runtime.KeepAlive(d)
	return d.s.send(item)
}

// Recv returns the next item, as [ItemStream.Recv] does.
func (d *Duplex[S, R]) Recv() (R, error) {
	defer runtime.KeepAlive(d)
	return recv[R](d.s)
}

// End says that no more items come. Those of the server are still received.
func (d *Duplex[S, R]) End() { d.s.sayEnd() }

// Stop takes no more items, and tells the server so. The call goes on.
func (d *Duplex[S, R]) Stop() { d.s.takeNoMore() }

// Finish ends both directions, and stores the final value in reply, or returns the error of the call.
func (d *Duplex[S, R]) Finish(reply any) error {
	defer runtime.KeepAlive(d)
	return d.s.finish(reply)
}

// Draining reports whether the server is stopping. It lets the call go on for some time.
func (d *Duplex[S, R]) Draining() bool { return d.s.draining() }

// Close cancels the call, if it is not over.
func (d *Duplex[S, R]) Close() { d.s.close("the caller closed it") }

func recv[T any](s *stream) (T, error) {
	var value T
	next, err := s.next()
	if err != nil {
		return value, err
	}
	if err := decodeBody(next.body, next.flags, &value); err != nil {
		var none T
		return none, s.readError(err)
	}
	return value, nil
}
