//! [`Exchange`]: a streaming call that sends items and takes items.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Sink, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::receiving::{ItemStream, Receiving};
use super::sending::{ItemSink, Sending, error_of};
use crate::connection::response::DecodeFn;
use crate::error::CallError;

/// A streaming call that sends items of type `S` and takes items of type `I`: a [`futures::Sink`] and a
/// [`futures::Stream`] in one. `R` is the type of the final value, and `E` the error type of the method.
///
/// [`Exchange::split`] makes halves of it for two tasks, without which a task that waits to send takes no items meanwhile.
/// Dropped before its end, it cancels the call.
///
/// ```
/// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
/// let mut echo = channel.call::<u64>("Feed.echo", &()).exchange::<Vec<u8>, Vec<u8>>().await?;
/// echo.send(vec![1, 2, 3]).await?;
/// assert_eq!(echo.next().await.unwrap()?, [1, 2, 3]);
/// echo.end();
/// assert_eq!(echo.finish().await?, 1);
/// # Ok(())
/// # }
/// ```
pub struct Exchange<S, I, R = (), E = Infallible> {
    sending: Sending,
    items: ItemStream<I, R, E>,
    decode: DecodeFn<R, E>,
    item: PhantomData<fn(S)>,
}

impl<S: Serialize + 'static, I: DeserializeOwned + 'static, R, E> Exchange<S, I, R, E> {
    pub(super) const fn new(sending: Sending, receiving: Receiving, decode: DecodeFn<R, E>) -> Self {
        Self { sending, items: ItemStream::new(receiving, decode), decode, item: PhantomData }
    }

    /// Sends an item. See [`ItemSink::send`].
    ///
    /// # Errors
    ///
    /// As for [`ItemSink::send`].
    pub async fn send(&mut self, item: S) -> Result<bool, CallError<E>> {
        self.sending.send_when_ready(item).await.map_err(|error| error_of(self.decode, error))
    }

    /// Takes the next item. See [`ItemStream::next`].
    ///
    /// # Errors
    ///
    /// As for [`ItemStream::next`].
    pub async fn next(&mut self) -> Option<Result<I, CallError<E>>> {
        self.items.next().await
    }

    /// Says that no more items are sent. Items can still be taken.
    pub fn end(&mut self) {
        self.sending.end();
    }

    /// Sends no more items, takes none, and waits for the final value. See [`ItemStream::finish`].
    ///
    /// # Errors
    ///
    /// As for [`ItemStream::finish`].
    pub async fn finish(mut self) -> Result<R, CallError<E>> {
        self.sending.end();
        self.items.finish().await
    }

    /// Returns a half for sending and one for taking items. Either of them cancels the call if it is dropped before its
    /// end, and either returns the final value.
    #[must_use]
    pub fn split(self) -> (ItemSink<S, R, E>, ItemStream<I, R, E>) {
        (ItemSink::new(self.sending, self.decode), self.items)
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
}

impl<S, I: DeserializeOwned + 'static, R, E> Stream for Exchange<S, I, R, E> {
    type Item = Result<I, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().items).poll_next(cx)
    }
}

impl<S: Serialize + 'static, I, R, E> Sink<S> for Exchange<S, I, R, E> {
    type Error = CallError<E>;

    /// Waits for credit. Ready as well if the server wants no more items, which are dropped.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        this.sending.poll_sink_ready(cx).map_err(|error| error_of(this.decode, error))
    }

    fn start_send(self: Pin<&mut Self>, item: S) -> Result<(), Self::Error> {
        let this = self.get_mut();
        this.sending.start_send(item).map_err(|error| error_of(this.decode, error))
    }

    /// Returns ready: the connection writes what was sent by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Says that no more items are sent.
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().sending.end();
        Poll::Ready(Ok(()))
    }
}

impl<S, I, R, E> fmt::Debug for Exchange<S, I, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("method", &self.sending.link.method()).finish_non_exhaustive()
    }
}
