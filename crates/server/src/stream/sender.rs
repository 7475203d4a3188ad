//! [`Sender`]: the half of a stream by which a handler sends items to its caller.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_protocol::stream::{EncodedItem, ItemEncoder};
use farcall_protocol::{Compression, Part, TooLarge};
use farcall_transport::BufferPool;
use futures::Sink;
use serde::Serialize;

use super::call_stream::CallStream;
use super::error::SendError;
use super::item_turn::ItemTurn;

/// Sends items of a streaming call to its caller.
///
/// A handler gets one as its argument. Items are sent in order, before the handler's result, and as the caller takes
/// them: [`Sender::send`] waits while too many are on their way. Dropping it has no effect on the call, which ends with the
/// handler. It is a [`Sink`], too.
///
/// ```
/// use farcall_server::{Sender, Server};
///
/// #[derive(serde::Deserialize)]
/// struct Count {
///     from: u64,
///     to: u64,
/// }
///
/// let builder = Server::builder().stream_out("Feed.count", async |count: Count, mut out: Sender<u64>| {
///     let mut sent = 0;
///     for n in count.from..count.to {
///         if out.send(n).await.is_err() {
///             break; // the caller takes no more
///         }
///         sent += 1;
///     }
///     sent
/// });
/// # let _ = builder;
/// ```
pub struct Sender<T> {
    stream: Arc<CallStream>,
    encoder: ItemEncoder,
    sent: u64,
    turn: ItemTurn,
    item: PhantomData<fn(T)>,
}

impl<T: Serialize + 'static> Sender<T> {
    pub(crate) fn new(stream: Arc<CallStream>) -> Self {
        Self {
            stream,
            encoder: ItemEncoder::default(),
            sent: 0,
            turn: ItemTurn::default(),
            item: PhantomData,
        }
    }

    /// Sends an item, as soon as the caller's credit allows it. If the returned future is dropped before it is ready, the
    /// item was not sent.
    ///
    /// # Errors
    ///
    /// The caller takes no more items, the call has ended, or the item cannot be encoded, or is larger than a frame of the
    /// caller may be. After the last two, further items can be sent.
    pub async fn send(&mut self, item: T) -> Result<(), SendError> {
        let Self { stream, encoder, turn, .. } = self;
        poll_fn(|cx| turn.poll(cx)).await;
        // Encoded before there is credit, so that it is done once.
        let encoded = Some(encode(stream, encoder, turn, item)?);
        let mut waiting = Waiting { stream, encoded };
        poll_fn(|cx| {
            let Waiting { stream, encoded } = &mut waiting;
            let sent = stream.streams.poll_send(stream.seq, encoded, cx);
            if sent.is_pending() {
                turn.end();
            }
            sent
        })
        .await?;
        drop(waiting);
        self.note_item();
        Ok(())
    }

    fn note_item(&mut self) {
        if self.sent == 0 {
            self.stream.note_first_item();
        }
        self.sent += 1;
        self.stream.items.set_sent(self.sent);
    }
}

/// Encodes an item, and counts it, as well as one that does not encode: a handler that goes on all the same has its turns, too.
/// Returns `true` with it if it is compressed.
fn encode<'a, T: Serialize + 'static>(
    stream: &CallStream,
    encoder: &'a mut ItemEncoder,
    turn: &mut ItemTurn,
    item: T,
) -> Result<(EncodedItem<'a>, bool), SendError> {
    let settings = stream.streams.settings();
    let encoded = encoder.encode(&settings.codec, &BufferPool, item);
    turn.count(encoded.as_ref().map_or(usize::MAX, EncodedItem::len));
    let item = encoded?;
    let (len, limit) = (item.len(), settings.send_limit.get());
    if len > limit {
        // The limit holds for the size before compression, too.
        return Err(TooLarge::new(Part::Body, len, limit).into());
    }
    if len >= Compression::MIN_BYTES
        && let Some(compression) = stream.streams.compression()
        && let Some(compressed) = compression.compress(&item.to_body().into_bytes())
    {
        return Ok((EncodedItem::Body(compressed.into()), true));
    }
    Ok((item, false))
}

/// An item that waits for credit.
struct Waiting<'a> {
    stream: &'a CallStream,
    /// `None` once it was sent.
    encoded: Option<(EncodedItem<'a>, bool)>,
}

impl Drop for Waiting<'_> {
    /// Ends the wait of a handler that has given up the item: else the time would count until the call is given up.
    fn drop(&mut self) {
        if self.encoded.is_some() {
            self.stream.streams.stop_waiting(self.stream.seq);
        }
    }
}

impl<T: Serialize + 'static> Sink<T> for Sender<T> {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = &mut *self;
        ready!(this.turn.poll(cx));
        let ready = this.stream.streams.poll_ready(this.stream.seq, cx);
        match ready {
            Poll::Pending => this.turn.end(),
            // There will be no item to count.
            Poll::Ready(Err(_)) => this.turn.count(0),
            Poll::Ready(Ok(())) => {}
        }
        ready.map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), SendError> {
        let Self { stream, encoder, turn, .. } = &mut *self;
        let (item, compressed) = encode(stream, encoder, turn, item)?;
        stream.streams.send(stream.seq, item, compressed)?;
        self.note_item();
        Ok(())
    }

    /// Ready at once: items leave by themselves.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    /// Ready at once: the stream ends with the handler.
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("seq", &self.stream.seq).finish_non_exhaustive()
    }
}
