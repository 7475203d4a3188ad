//! [`OpenStream`]: a streaming call that was sent over a connection, as its caller sees it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use farcall_protocol::stream::{
    EncodedItem, ItemBody, ReceivedItem, StreamClosed, StreamSnapshot, TakenItems,
};
use farcall_protocol::{Code, Codec, Execution, Negotiated, Seq};
use farcall_runtime::time::Instant;
use farcall_transport::Address;

use super::handle::Handle;
use super::pending::loss_error;
use super::response::{Response, decompress};
use super::streams::{FirstSign, Streams};
use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// A streaming call that was sent. Dropping it cancels the call at the server, unless it has ended.
pub(crate) struct OpenStream {
    handle: Arc<Handle>,
    seq: Seq,
}

impl OpenStream {
    pub(super) const fn new(handle: Arc<Handle>, seq: Seq) -> Self {
        Self { handle, seq }
    }

    /// Returns the address of the server.
    pub(crate) fn endpoint(&self) -> &Address {
        self.handle.endpoint()
    }

    /// Returns the codec of its items.
    pub(crate) fn codec(&self) -> &Codec {
        &self.handle.negotiated().codec
    }

    /// Takes the next items. `None` if no more come: the outcome is there, or will be.
    pub(crate) fn poll_items(&self, cx: &mut Context<'_>) -> Poll<Option<TakenItems>> {
        self.streams().poll_items(self.seq, cx)
    }

    /// Accounts for those of the items that the caller has taken, if credit is due for them, or no more are left.
    #[inline]
    pub(crate) fn account(&self, items: &mut TakenItems) {
        let spare = items.take_spare();
        if let Some(cost) = items.due() {
            items.set_credit_at(self.streams().consume(self.seq, cost, spare));
        }
    }

    /// Returns the encoded value of an item.
    ///
    /// # Errors
    ///
    /// The body of the item does not decompress.
    #[inline]
    pub(crate) fn value<'a>(&self, item: ReceivedItem<'a>) -> Result<ItemBody<'a>, RpcError> {
        if !item.compressed {
            return Ok(item.body);
        }
        match decompress(&item.body.to_bytes(), &self.handle) {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(self.unreadable(&error.to_string()).with_source(error)),
        }
    }

    /// Creates the error of an item that cannot be read.
    pub(crate) fn unreadable(&self, reason: &str) -> RpcError {
        let message = format!("an item cannot be read: {reason}");
        RpcError::new(Code::Internal, Execution::Maybe, Phase::Answer, message).at(self.endpoint())
    }

    /// Waits until an item can be sent. `false` if the server takes no more.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        self.streams().poll_ready(self.seq, cx)
    }

    /// Ends a wait of [`OpenStream::poll_ready`] without an item.
    pub(crate) fn stop_waiting(&self) {
        self.streams().stop_waiting(self.seq);
    }

    /// Sends an item, after [`OpenStream::poll_ready`]. It is compressed if that was agreed on and saves bytes.
    ///
    /// # Errors
    ///
    /// The item is larger than the server accepts. The call goes on.
    pub(crate) fn send(&self, item: EncodedItem<'_>) -> Result<(), RpcError> {
        let Negotiated { compression, send_limit, .. } = self.handle.negotiated();
        // The limit holds for the size before compression, too.
        let (size, limit) = (item.len(), send_limit.get());
        if size > limit {
            return Err(self.too_large(size, limit));
        }
        let compressed = match (&item, compression) {
            // A small one is not worth it.
            (EncodedItem::Body(body), Some(one)) => one.compress(&body.clone().into_bytes()),
            _ => None,
        };
        let sent = match compressed {
            Some(compressed) => self.streams().send(self.seq, EncodedItem::Body(compressed.into()), true),
            None => self.streams().send(self.seq, item, false),
        };
        sent.map_err(|error| self.too_large(error.size, error.limit))
    }

    #[cold]
    fn too_large(&self, size: usize, limit: usize) -> RpcError {
        let message = format!(
            "an item of {size} bytes is over the server's limit of {limit} bytes (its `Limits::max_frame_bytes`)"
        );
        RpcError::new(Code::ResourceExhausted, Execution::Maybe, Phase::Write, message).at(self.endpoint())
    }

    /// Tells the server that no more items come.
    pub(crate) fn end(&self) {
        self.streams().end(self.seq);
    }

    /// Tells the server that no more items are read.
    pub(crate) fn stop(&self) {
        self.streams().stop(self.seq);
    }

    /// Waits for the first item or the outcome.
    pub(crate) async fn first(&self) -> FirstSign {
        poll_fn(|cx| self.streams().poll_first(self.seq, cx)).await
    }

    /// Returns when the first item or the response has to be there, if the connection's options limit that.
    pub(crate) fn answer_deadline(&self) -> Option<Deadline> {
        let limit = self.handle.shared().answer_timeout?;
        Some(Deadline::after(Instant::now(), limit))
    }

    /// Waits for the outcome. Items that arrived before it may still be taken.
    pub(crate) async fn outcome(&self) -> Result<Response, RpcError> {
        poll_fn(|cx| {
            let outcome = ready!(self.streams().poll_outcome(self.seq, cx));
            Poll::Ready(match outcome {
                Some(Ok(reply)) => Response::from_reply(reply, Arc::clone(&self.handle)),
                Some(Err(loss)) => Err(loss_error(loss, None, &self.handle)),
                None => Err(cancelled().at(self.endpoint())),
            })
        })
        .await
    }

    /// Waits until the connection takes no more calls: the server drains, or this side has closed it.
    pub(crate) async fn closing(&self) {
        loop {
            // Created before the check, so that a change in between is noticed.
            let closing = self.streams().closing.notified();
            if !self.handle.shared().is_open() {
                return;
            }
            closing.await;
        }
    }

    /// Returns the state of the stream, while it has one.
    pub(crate) fn snapshot(&self) -> Option<StreamSnapshot> {
        self.streams().snapshot(self.seq)
    }

    /// Cancels the call, unless it has ended, and drops the items that were not taken.
    pub(crate) fn cancel(&self) {
        if let Some(request_end) = self.streams().abandon(self.seq) {
            self.handle.shared().cancel(self.seq, request_end);
        }
    }

    fn streams(&self) -> &Streams {
        self.handle.shared().streams.get().expect("a stream was opened, so there are some")
    }
}

impl Drop for OpenStream {
    /// Cancels the call if its caller leaves before the response, and frees what is kept for it.
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Creates the error of a call that was cancelled on this side.
pub(crate) fn cancelled() -> RpcError {
    let message = "the call was cancelled on this side";
    RpcError::new(Code::Cancelled, Execution::Maybe, Phase::Wait, message)
}
