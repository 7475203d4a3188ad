//! [`ItemOutput`]: the items in a connection's outbox, which are bounded so that nothing else waits long for them.

use std::task::Context;

use bytes::Buf as _;
use farcall_protocol::time::{MAX_WAIT, later};
use tokio::time::Instant;

use super::io::ConnectionIo;
use crate::call::in_flight::InFlightCalls;
use crate::limits::MIN_ITEM_ROOM;
use crate::stream::call_stream::Cut;
use crate::stream::connection_streams::ConnectionStreams;

/// The bytes of items that are worth a write, without waiting for those of other tasks.
pub(super) const MIN_BATCH: usize = 4 * 1024;

/// The part of a connection's outgoing bytes that are items.
#[derive(Debug, Default)]
pub(super) struct ItemOutput {
    /// `true` if items wait for room in the outbox.
    wait: bool,
    /// The most bytes of items that are in the outbox.
    bytes: usize,
}

impl ItemOutput {
    /// Returns `true` if items wait for room in the outbox.
    pub(super) const fn wait(&self) -> bool {
        self.wait
    }

    /// Returns `true` if items wait, and there is room for them now, while `waiting` bytes wait for the peer.
    pub(super) const fn wait_for_room(&self, waiting: usize) -> bool {
        self.wait && waiting < MIN_ITEM_ROOM
    }

    /// Returns how much of `waiting` bytes for the peer is no item. Items must not keep this side from reading: if
    /// neither side read, both would wait for each other.
    #[cold]
    pub(super) const fn without(&self, waiting: usize) -> usize {
        waiting.saturating_sub(self.bytes)
    }

    /// Appends what streams have to send, as far as there is room for items. Returns the time of their next check.
    pub(super) fn write(&mut self, streams: &ConnectionStreams, io: &mut ConnectionIo) -> Option<Instant> {
        let waiting = io.waiting();
        let ahead = waiting - io.outbox.remaining();
        let (more, check_at) = streams.write(&mut io.outbox, ahead);
        self.wait = more;
        self.bytes = self.bytes.min(waiting) + (io.waiting() - waiting);
        check_at
    }
}

/// Registers the connection's task with streams that were created in its turn: what they have to send by now would wake
/// no task.
#[cold]
pub(super) fn register_created(streams: &ConnectionStreams, cx: &Context<'_>) {
    streams.register(cx.waker());
    if streams.is_due() {
        cx.waker().wake_by_ref();
    }
}

/// Gives up streams whose items have waited for credit too long, and returns the time of the next check.
pub(super) fn check_stalls(
    streams: Option<&ConnectionStreams>,
    calls: &InFlightCalls,
    now: Instant,
) -> Instant {
    let never = later(now, MAX_WAIT);
    let Some(streams) = streams else { return never };
    let (expired, next) = streams.expire(now);
    for seq in expired {
        calls.cut(seq, Cut::Stalled);
    }
    next.unwrap_or(never)
}
