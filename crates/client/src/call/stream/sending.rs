//! [`ItemSink`]: the sending half of a streaming call.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_protocol::stream::{EncodedItem, ItemEncoder};
use farcall_protocol::{Code, Codec, Execution};
use farcall_transport::BufferPool;
use futures::Sink;
use serde::Serialize;

use super::item_turn::ItemTurn;
use super::link::Link;
use super::link_state::{Outcome, Waiter};
use crate::connection::response::DecodeFn;
use crate::error::{CallError, Phase, RpcError};

/// The sending half of a streaming call, a [`futures::Sink`] of items. `R` is the type of the final value, and `E` the error
/// type of the method.
///
/// Dropped before [`ItemSink::finish`] or [`ItemSink::end`], it cancels the call: a loop that broke off is never taken for a
/// complete upload.
///
/// ```
/// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
/// let mut numbers = channel.call::<i64>("Feed.sum", &()).send_items::<i64>().await?;
/// for number in 1..=10 {
///     numbers.send(number).await?;
/// }
/// assert_eq!(numbers.finish().await?, 55);
/// # Ok(())
/// # }
/// ```
pub struct ItemSink<S, R = (), E = Infallible> {
    sending: Sending,
    decode: DecodeFn<R, E>,
    item: PhantomData<fn(S)>,
}

impl<S: Serialize + 'static, R, E> ItemSink<S, R, E> {
    pub(super) const fn new(sending: Sending, decode: DecodeFn<R, E>) -> Self {
        Self { sending, decode, item: PhantomData }
    }

    /// Sends an item, as soon as the server has granted credit for it. `false` if the server wants no more items, because it
    /// has answered or has said so: the item was dropped, and [`ItemSink::finish`] returns the outcome. That is no error, so
    /// a loop that does not end by itself has to look at it. If the future is dropped before it is ready, nothing was sent.
    ///
    /// # Errors
    ///
    /// The call has failed; or the item does not encode or is larger than the server accepts, and the call goes on.
    pub async fn send(&mut self, item: S) -> Result<bool, CallError<E>> {
        self.sending.send_when_ready(item).await.map_err(|error| self.error(error))
    }

    /// Says that no more items come, without waiting for the outcome: for a call whose other half takes items.
    pub fn end(mut self) {
        self.sending.end();
    }

    /// Says that no more items come, and waits for the final value. Items that were sent are delivered before. If the
    /// future is dropped, the call goes on as long as its other half is there.
    ///
    /// # Errors
    ///
    /// The call has failed; the method's own error is [`CallError::Application`].
    pub async fn finish(mut self) -> Result<R, CallError<E>> {
        self.sending.end();
        let outcome = poll_fn(|cx| self.sending.poll_outcome(cx)).await;
        self.decoded(outcome)
    }

    /// Returns `true` if the server drains, or its connection closes: the call goes on, as long as the server lets it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.sending.link.is_draining()
    }

    /// Waits until the server drains, or the call is over.
    pub async fn draining(&self) {
        self.sending.link.draining().await;
    }

    fn error(&self, error: RpcError) -> CallError<E> {
        error_of(self.decode, error)
    }

    fn decoded(&self, outcome: Outcome) -> Result<R, CallError<E>> {
        decoded(self.decode, &self.sending.link, outcome)
    }
}

/// Turns an error of the call into that of its method.
pub(super) fn error_of<R, E>(decode: DecodeFn<R, E>, error: RpcError) -> CallError<E> {
    match decode(Err(error.clone())) {
        Err(error) => error,
        Ok(_) => error.into(),
    }
}

/// Turns the outcome of the call into that of its method.
pub(super) fn decoded<R, E>(
    decode: DecodeFn<R, E>,
    link: &Link,
    outcome: Outcome,
) -> Result<R, CallError<E>> {
    // Errors have their method already, but for those of results that do not decode.
    decode(outcome).map_err(|error| error.of(link.method().to_owned().into()))
}

impl<S: Serialize + 'static, R, E> Sink<S> for ItemSink<S, R, E> {
    type Error = CallError<E>;

    /// Waits for credit. Ready as well if the server wants no more items, which are dropped.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        this.sending.poll_sink_ready(cx).map_err(|error| this.error(error))
    }

    fn start_send(self: Pin<&mut Self>, item: S) -> Result<(), Self::Error> {
        let this = self.get_mut();
        this.sending.start_send(item).map_err(|error| this.error(error))
    }

    /// Returns ready: the connection writes what was sent by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Says that no more items come.
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().sending.end();
        Poll::Ready(Ok(()))
    }
}

impl<S, R, E> fmt::Debug for ItemSink<S, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSink").field("method", &self.sending.link.method()).finish_non_exhaustive()
    }
}

/// The sending half of a call, whatever its types are.
pub(super) struct Sending {
    codec: Codec,
    encoder: ItemEncoder,
    pub(super) link: Arc<Link>,
    /// `true` once it said that no more items come.
    ended: bool,
    /// `true` if the server wants the item that a sink was made ready for.
    wanted: bool,
    turn: ItemTurn,
}

impl Sending {
    pub(super) fn new(codec: Codec, link: Arc<Link>) -> Self {
        Self {
            codec,
            encoder: ItemEncoder::default(),
            link,
            ended: false,
            wanted: false,
            turn: ItemTurn::default(),
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, RpcError>> {
        let permission = ready!(self.turn.poll(cx));
        let wanted = if self.ended { Ok(false) } else { ready!(self.link.poll_ready(cx)) };
        // The size of the item is not known yet.
        self.turn.spend(permission, usize::MAX);
        Poll::Ready(wanted)
    }

    /// Sends an item as soon as there is credit for it. `false` if no more are wanted.
    pub(super) async fn send_when_ready<S: Serialize + 'static>(
        &mut self,
        item: S,
    ) -> Result<bool, RpcError> {
        let Self { codec, encoder, link, turn, ended, .. } = self;
        if *ended {
            turn.pass().await;
            return Ok(false);
        }
        // Encoded before there is credit, so that it is done once.
        let item = match encode(codec, encoder, link, item) {
            Ok(item) => item,
            Err(error) => {
                turn.pass().await;
                return Err(error);
            }
        };
        let len = item.len();
        let mut item = Some(item);
        let mut wait = Wait { link, has_begun: false };
        let sent = poll_fn(|cx| {
            let permission = ready!(turn.poll(cx));
            let polled = link.poll_send(&mut item, cx);
            wait.has_begun = polled.is_pending();
            if polled.is_ready() {
                turn.spend(permission, len);
            }
            polled
        });
        sent.await.map_err(|error| of_method(link, error))
    }

    fn send<S: Serialize + 'static>(&mut self, item: S) -> Result<(), RpcError> {
        let Self { codec, encoder, link, .. } = self;
        let item = encode(codec, encoder, link, item)?;
        link.send(item).map_err(|error| of_method(link, error))
    }

    pub(super) fn poll_sink_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        self.wanted = ready!(self.poll_ready(cx))?;
        Poll::Ready(Ok(()))
    }

    pub(super) fn start_send<S: Serialize + 'static>(&mut self, item: S) -> Result<(), RpcError> {
        if self.wanted { self.send(item) } else { Ok(()) }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        self.link.end();
    }

    pub(super) fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.link.poll_outcome(Waiter::Sender, cx)
    }
}

fn encode<'a, S: Serialize + 'static>(
    codec: &Codec,
    encoder: &'a mut ItemEncoder,
    link: &Link,
    item: S,
) -> Result<EncodedItem<'a>, RpcError> {
    encoder.encode(codec, &BufferPool, item).map_err(|error| {
        let message = format!("an item of `{}`: {error}", link.method());
        let (code, execution) = (Code::InvalidArgument, Execution::Maybe);
        RpcError::new(code, execution, Phase::Prepare, message).with_source(error)
    })
}

fn of_method(link: &Link, error: RpcError) -> RpcError {
    error.of(link.method().to_owned().into())
}

/// A wait for credit.
struct Wait<'a> {
    link: &'a Link,
    has_begun: bool,
}

impl Drop for Wait<'_> {
    /// Ends the wait if its future is dropped: a caller that gives an item up waits for no credit.
    fn drop(&mut self) {
        if self.has_begun {
            self.link.stop_waiting();
        }
    }
}

impl Drop for Sending {
    /// Cancels the call if this half did not say that no more items come.
    fn drop(&mut self) {
        self.link.drop_half(self.ended);
    }
}
