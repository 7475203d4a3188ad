//! [`LinkState`]: the state of a streaming call, for its halves and for the task that makes it.

use std::sync::Arc;
use std::task::{Context, Waker};

use farcall_protocol::stream::{EncodedItem, StreamSnapshot};
use farcall_runtime::task::AbortHandle;

use super::replay::Replay;
use crate::connection::open_stream::OpenStream;
use crate::connection::response::Response;
use crate::connection::streams::Directions;
use crate::endpoints::backend::Backend;
use crate::error::RpcError;

/// The outcome of a call.
pub(super) type Outcome = Result<Response, RpcError>;

/// The state of a streaming call, under the lock of its link.
pub(super) struct LinkState {
    /// The stream of the current attempt, once its request was sent.
    pub(super) stream: Option<Arc<OpenStream>>,
    /// The endpoint of the last attempt, if there are several.
    pub(super) backend: Option<Arc<Backend>>,
    /// The limit that leaves no place for the call, while it waits for one.
    pub(super) full: Option<String>,
    /// `true` once an item or the response has arrived.
    pub(super) has_begun: bool,
    pub(super) is_draining: bool,
    /// `true` once the sending half said that no more items come.
    pub(super) ended: bool,
    /// `true` once the receiving half said that it takes no more.
    pub(super) stopped: bool,
    pub(super) replay: Replay,
    pub(super) outcome: Option<Outcome>,
    /// The stream as it was when the call ended.
    pub(super) last: Option<StreamSnapshot>,
    /// `true` once the request of the last attempt was sent.
    pub(super) was_sent: bool,
    /// `true` if an earlier attempt may have done something.
    pub(super) may_have_run: bool,
    /// `true` while a request of the call is on its way through the channel.
    pub(super) is_passed: bool,
    /// The halves that the application still has.
    pub(super) halves: u8,
    /// The half that waits to send, the one that waits for an item or the outcome, and the caller that waits for
    /// the request to be sent.
    pub(super) wakers: [Option<Waker>; 3],
    pub(super) task: Option<AbortHandle>,
}

/// The one who waits for a change of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    Sender = 0,
    Receiver = 1,
    Opener = 2,
}

impl LinkState {
    /// Creates the state of a call that is about to be made.
    pub(super) fn new(directions: Directions) -> Self {
        Self {
            stream: None,
            backend: None,
            full: None,
            has_begun: false,
            is_draining: false,
            ended: false,
            stopped: false,
            replay: Replay::new(),
            outcome: None,
            last: None,
            was_sent: false,
            may_have_run: false,
            is_passed: false,
            halves: u8::from(directions.sends) + u8::from(directions.receives),
            wakers: [None, None, None],
            task: None,
        }
    }

    /// Keeps the waker of the one who waits.
    pub(super) fn wait(&mut self, waiter: Waiter, cx: &Context<'_>) {
        match &mut self.wakers[waiter as usize] {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Sends an item for which there is credit.
    pub(super) fn send(&mut self, item: EncodedItem<'_>) -> Result<(), RpcError> {
        self.replay.push(&item);
        // If an attempt failed meanwhile, the next one sends it.
        self.stream.as_ref().map_or(Ok(()), |stream| stream.send(item))
    }

    /// Ends the call. Only the first outcome counts.
    pub(super) fn end(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.replay.forget();
            self.last = self.stream.as_ref().and_then(|stream| stream.snapshot());
        }
    }
}
