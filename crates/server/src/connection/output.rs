//! [`Output`]: the order in which a connection's messages go into its outbox. Writing them is left to [`ConnectionIo`].

use std::task::Context;

use farcall_protocol::time::sooner;
use tokio::time::Instant;

use super::dispatch::Dispatcher;
use super::io::ConnectionIo;
use super::item_output::{ItemOutput, MIN_BATCH};
use super::phase::Phase;
use crate::stream::connection_streams::ConnectionStreams;

/// The outgoing messages of a connection that wait for no request: responses, and what streams have to send.
#[derive(Debug, Default)]
pub(super) struct Output {
    items: ItemOutput,
    /// `true` if the connection's task has let others run first since it found responses to send.
    yielded: bool,
}

impl Output {
    /// Returns the items among them.
    pub(super) const fn items(&self) -> &ItemOutput {
        &self.items
    }

    /// Takes what streams have to say besides items, then responses, then items. Returns the time of the next check of the
    /// streams, if there is one.
    #[inline]
    pub(super) fn take(
        &mut self,
        cx: &Context<'_>,
        dispatcher: &Dispatcher,
        io: &mut ConnectionIo,
        phase: Phase,
    ) -> Option<Instant> {
        let calls = &dispatcher.env.calls;
        let mut check_at = None;
        if self.items.wait_for_room(io.waiting()) {
            // What was written made room for more items.
            let streams = streams(dispatcher, phase);
            streams.inspect(|streams| write_control(streams, io));
            calls.take_responses(&mut io.outbox);
            check_at = streams.and_then(|streams| self.write_items(streams, io));
        }
        let due = dispatcher.streams.as_ref().and_then(|streams| streams.due_bytes());
        if due.is_none() && !calls.has_responses() {
            return check_at;
        }
        if due < Some(MIN_BATCH) && !std::mem::replace(&mut self.yielded, true) {
            // Other calls that are about to respond do so first, and all responses leave in one write.
            cx.waker().wake_by_ref();
            return check_at;
        }
        self.yielded = false;
        let streams = if due.is_some() { streams(dispatcher, phase) } else { None };
        streams.inspect(|streams| write_control(streams, io));
        calls.take_responses(&mut io.outbox);
        sooner(check_at, streams.and_then(|streams| self.write_items(streams, io)))
    }

    /// Appends what streams have to send, as far as there is room for items. Returns the time of their next check.
    #[cold]
    fn write_items(&mut self, streams: &ConnectionStreams, io: &mut ConnectionIo) -> Option<Instant> {
        self.items.write(streams, io)
    }
}

/// Returns the streams, if the connection has any and still serves them.
fn streams(dispatcher: &Dispatcher, phase: Phase) -> Option<&ConnectionStreams> {
    dispatcher.streams.as_deref().filter(|_| phase.is_serving())
}

/// Appends the credits and stops of streams.
#[cold]
fn write_control(streams: &ConnectionStreams, io: &mut ConnectionIo) {
    streams.write_control(io.control());
}
