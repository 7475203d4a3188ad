//! [`InvokedStream`] and [`InvokedInput`]: the two sides of a streaming call that came over no connection, as its caller
//! has them.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::stream::StreamClosed;
use farcall_protocol::{ByteStr, Flags, Header, Kind, Part, TooLarge};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::local_peer::{InvokedEvent, LocalPeer};
use crate::service::handler::Response;
use crate::stream::call_stream::Cut;

/// A streaming call that came over no connection: its items, and then its response.
/// [`ServerHandle::invoke_stream`](crate::ServerHandle::invoke_stream) makes it. Dropping it stops the handler.
///
/// What it is not asked for holds the handler back, and ends the call after
/// [`Limits::stream_stall`](crate::Limits::stream_stall).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_protocol::Codec;
/// use farcall_server::{Invocation, InvokedEvent, Sender, Server};
///
/// let server = Server::builder()
///     .stream_out("Feed.count", async |to: u64, mut out: Sender<u64>| {
///         for n in 0..to {
///             let _ = out.send(n).await;
///         }
///     })
///     .build()?;
/// let invocation = Invocation::new("Feed.count", Codec::Json, "3".into());
/// let mut stream = server.handle().invoke_stream(invocation).await;
/// let mut items = Vec::new();
/// while let Some(InvokedEvent::Item(item)) = stream.next().await {
///     items.push(item);
/// }
/// assert_eq!(items, ["0", "1", "2"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it stops the handler"]
pub struct InvokedStream {
    source: Source,
    input: Option<InvokedInput>,
}

enum Source {
    Call(RunningCall),
    /// The call was refused. `None` once the response was taken.
    Refused(Option<Response>),
}

/// A call in flight, which its caller gives up by dropping this.
struct RunningCall {
    peer: Arc<LocalPeer>,
    /// `None` if the call had ended at once.
    watch: Option<JoinHandle<()>>,
}

impl InvokedStream {
    /// Creates the stream of a call that runs, or has ended.
    pub(super) fn new(peer: Arc<LocalPeer>, watch: Option<JoinHandle<()>>) -> Self {
        let input = peer.stream().takes.then(|| InvokedInput { peer: Arc::clone(&peer), over: false });
        Self { source: Source::Call(RunningCall { peer, watch }), input }
    }

    /// Creates the stream of a call that was refused.
    pub(super) const fn refused(response: Response) -> Self {
        Self { source: Source::Refused(Some(response)), input: None }
    }

    /// Takes the side that sends items to the handler, once. `None` if its method takes none, or the call was refused.
    /// If it is never taken, the handler gets no items, and no end of them.
    pub const fn take_input(&mut self) -> Option<InvokedInput> {
        self.input.take()
    }

    /// Returns the next item, or the response behind the last one; `None` behind that. Cancel-safe.
    pub async fn next(&mut self) -> Option<InvokedEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for what [`InvokedStream::next`] returns.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<InvokedEvent>> {
        match &mut self.source {
            Source::Call(call) => call.peer.poll_next(cx),
            Source::Refused(response) => Poll::Ready(response.take().map(InvokedEvent::Response)),
        }
    }
}

impl Drop for RunningCall {
    /// Stops the handler, if it runs.
    fn drop(&mut self) {
        self.peer.calls().cancel(self.peer.stream().seq);
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// The side of a streaming call that sends items to its handler. Dropping it before [`InvokedInput::finish`] stops the call:
/// a sender that broke off must not look like one that has sent everything.
pub struct InvokedInput {
    peer: Arc<LocalPeer>,
    /// `true` once it makes no difference to the call if this is dropped.
    over: bool,
}

/// The error of an item that was not sent to a handler.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InputError {
    /// The handler takes no more items; the call goes on.
    #[error("the method takes no more items")]
    Stopped,
    /// The call has ended.
    #[error("the call has ended")]
    Ended,
    /// The handler took no item for this time.
    #[error("an item waited {0:?} for the method to take it: the server's `stream_stall`")]
    Stalled(Duration),
    /// The item is larger than a frame may be.
    #[error("the item: {0}")]
    TooLarge(TooLarge),
}

impl From<TooLarge> for InputError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}

impl From<StreamClosed> for InputError {
    fn from(closed: StreamClosed) -> Self {
        match closed {
            StreamClosed::Stopped => Self::Stopped,
            StreamClosed::Ended => Self::Ended,
        }
    }
}

impl InvokedInput {
    /// Returns the size of the largest item, in bytes: [`Limits::max_frame_bytes`](crate::Limits::max_frame_bytes).
    #[must_use]
    pub fn max_item_bytes(&self) -> usize {
        self.peer.stream().streams.receive_limit().get()
    }

    /// Sends an encoded item, as soon as the handler has taken enough of those before it.
    ///
    /// # Errors
    ///
    /// The item was not sent. After [`InputError::Stopped`] and [`InputError::Ended`] no further one can be.
    pub async fn send(&mut self, item: Bytes) -> Result<(), InputError> {
        let (len, limit) = (item.len(), self.max_item_bytes());
        if len > limit {
            return Err(TooLarge::new(Part::Body, len, limit).into());
        }
        let stream = Arc::clone(self.peer.stream());
        let ready = poll_fn(|cx| stream.streams.poll_deliver(stream.seq, cx));
        let mut ready = std::pin::pin!(ready);
        let mut flags = Flags::NONE;
        let opened = match futures::poll!(&mut ready) {
            Poll::Ready(opened) => opened,
            Poll::Pending => {
                flags = Flags::STARVED;
                let limit = stream.streams.settings().max_stall;
                timeout(limit, ready).await.map_err(|_elapsed| InputError::Stalled(limit))?
            }
        };
        opened.inspect_err(|_| self.over = true)?;
        if self.peer.calls().memory().check(len).is_err() {
            self.peer.calls().cut(stream.seq, Cut::NoRoom);
            return Err(InputError::Ended);
        }
        self.deliver(Kind::Item, flags, item)
    }

    /// Tells the handler that all items were sent.
    pub fn finish(mut self) {
        self.over = true;
        let _ = self.deliver(Kind::End, Flags::NONE, Bytes::new());
    }

    fn deliver(&self, kind: Kind, flags: Flags, body: Bytes) -> Result<(), InputError> {
        let stream = self.peer.stream();
        let header = Header {
            kind,
            seq: stream.seq,
            service_method: ByteStr::default(),
            timeout_ms: 0,
            error: None,
            metadata: None,
            flags,
        };
        // Not more than there is credit for, and nothing after the end.
        stream.streams.receive(&header, body, Instant::now()).map_err(|_| InputError::Ended)
    }
}

impl Drop for InvokedInput {
    /// Stops the handler, which waits for more items.
    fn drop(&mut self) {
        if !self.over {
            self.peer.calls().cancel(self.peer.stream().seq);
        }
    }
}

impl fmt::Debug for InvokedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvokedStream").finish_non_exhaustive()
    }
}

impl fmt::Debug for InvokedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvokedInput").field("seq", &self.peer.stream().seq).finish_non_exhaustive()
    }
}
