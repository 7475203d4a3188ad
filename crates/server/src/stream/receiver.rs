//! [`Receiver`]: the half of a stream by which a handler receives items from its caller.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_protocol::stream::{ItemBody, ReceivedItem, TakenItems, decode_item};
use futures::Stream;
use serde::de::DeserializeOwned;

use super::call_stream::CallStream;
use super::error::ReceiveError;
use super::item_turn::ItemTurn;

/// Receives items of a streaming call from its caller.
///
/// A handler gets one as its argument. Items come in order; `None` says that the caller has sent all of them, and nothing
/// else: a caller that is gone, or that was cut off, is an error, or the handler is stopped. What the handler does not take,
/// the caller does not send, beyond a window. Dropping it tells the caller to send no more; the call goes on. It is a
/// [`Stream`], too.
///
/// ```
/// use farcall_protocol::Status;
/// use farcall_server::{Receiver, Server};
///
/// let builder = Server::builder().try_stream_in("Feed.sum", async |(): (), mut items: Receiver<i64>| {
///     let mut sum = 0_i64;
///     while let Some(item) = items.recv().await {
///         sum = sum.wrapping_add(item?);
///     }
///     Ok::<_, Status>(sum)
/// });
/// # let _ = builder;
/// ```
pub struct Receiver<T> {
    stream: Arc<CallStream>,
    state: State,
    /// The items that were taken from the stream, and that the handler has not received.
    items: TakenItems,
    received: u64,
    turn: ItemTurn,
    item: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Items may come.
    Open,
    /// No more come.
    Ended,
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    pub(crate) fn new(stream: Arc<CallStream>) -> Self {
        let items = TakenItems::default();
        Self { stream, state: State::Open, items, received: 0, turn: ItemTurn::default(), item: PhantomData }
    }

    /// Receives the next item; `None` if the caller has sent all of them. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The item is not of this type, or the call has ended; no further items come then.
    pub async fn recv(&mut self) -> Option<Result<T, ReceiveError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, ReceiveError>>> {
        if self.state == State::Ended {
            return Poll::Ready(None);
        }
        ready!(self.turn.poll(cx));
        let received = loop {
            if let Some(item) = self.items.take_next() {
                self.turn.count(item.body.len());
                let decoded = decode(&self.stream, self.received, item);
                if let Some(cost) = self.items.due() {
                    self.items.set_credit_at(self.stream.streams.consume(self.stream.seq, cost));
                }
                if self.received == 0 {
                    self.stream.note_first_received();
                }
                self.received += 1;
                self.stream.items.set_received(self.received);
                break decoded;
            }
            match self.stream.streams.poll_items(self.stream.seq, cx) {
                Poll::Ready(Ok(Some(items))) => self.items = items,
                Poll::Ready(Ok(None)) => {
                    self.state = State::Ended;
                    return Poll::Ready(None);
                }
                Poll::Ready(Err(_closed)) => break Err(ReceiveError::Ended),
                Poll::Pending => {
                    self.turn.end();
                    return Poll::Pending;
                }
            }
        };
        if received.is_err() {
            self.stop();
        }
        Poll::Ready(Some(received))
    }
}

/// Decodes the item with this position.
fn decode<T: DeserializeOwned + 'static>(
    stream: &CallStream,
    index: u64,
    item: ReceivedItem<'_>,
) -> Result<T, ReceiveError> {
    let body = if item.compressed { decompress(stream, index, &item.body)? } else { item.body };
    let codec = &stream.streams.settings().codec;
    decode_item(codec, &body).map_err(|error| ReceiveError::Decode { index, error })
}

#[cold]
fn decompress<'a>(
    stream: &CallStream,
    index: u64,
    body: &ItemBody<'_>,
) -> Result<ItemBody<'a>, ReceiveError> {
    let Some(compression) = stream.streams.compression() else {
        return Err(ReceiveError::NoCompression { index });
    };
    match compression.decompress(&body.to_bytes(), stream.streams.receive_limit()) {
        Ok(plain) => Ok(plain.into()),
        Err(error) => Err(ReceiveError::Compression { index, error }),
    }
}

impl<T> Receiver<T> {
    /// Tells the caller to send no more, and drops what has arrived. The call goes on.
    pub fn stop(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
            self.items = TakenItems::default();
            self.stream.streams.stop(self.stream.seq);
        }
    }
}

impl<T: DeserializeOwned + 'static> Stream for Receiver<T> {
    type Item = Result<T, ReceiveError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl<T> Drop for Receiver<T> {
    /// Tells a caller that still sends that nothing is read: it would wait for credit.
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("seq", &self.stream.seq)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}
