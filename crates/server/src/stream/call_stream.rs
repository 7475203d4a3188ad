//! [`CallStream`]: the stream of one call, which its handler's halves, its permit and its connection share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farcall_protocol::stream::StreamSnapshot;
use farcall_protocol::{Body, Code, Metadata, Outbox, Seq, Status, metadata};
use tokio::time::Instant;
use tracing::debug;

use super::connection_streams::ConnectionStreams;
use crate::observe::items::CallItems;

/// The `tracing` target of events in the spans of calls.
const TARGET: &str = "farcall::server";

/// The stream of a call in flight.
#[derive(Debug)]
pub(crate) struct CallStream {
    pub(crate) streams: Arc<ConnectionStreams>,
    pub(crate) seq: Seq,
    /// `true` if its handler takes items.
    pub(crate) takes: bool,
    /// `true` if its handler sends items.
    pub(crate) sends: bool,
    /// The items that its handler has sent and received.
    pub(super) items: CallItems,
    arrived: Instant,
    /// The time from the request to the first item that was sent, in microseconds, and one more; 0 before it.
    first_item: AtomicU64,
    /// The reason why the server gave the call up.
    cut: AtomicU8,
    /// `true` if the items that were not written are dropped with the call.
    abandoned: AtomicBool,
}

/// The reason why the server gives up a streaming call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// An item waited for credit too long.
    Stalled = 1,
    /// The server stops, or the connection has grown old.
    Drained = 2,
    /// There was no room for an item.
    NoRoom = 3,
}

impl CallStream {
    /// Opens the stream of a call that arrived at `arrived`.
    pub(crate) fn open(
        streams: &Arc<ConnectionStreams>,
        seq: Seq,
        takes: bool,
        sends: bool,
        items: CallItems,
        arrived: Instant,
    ) -> Arc<Self> {
        streams.open(seq, takes);
        Arc::new(Self {
            streams: Arc::clone(streams),
            seq,
            takes,
            sends,
            items,
            arrived,
            first_item: AtomicU64::new(0),
            cut: AtomicU8::new(0),
            abandoned: AtomicBool::new(false),
        })
    }

    /// Notes that an item was sent. Called for the first one, in the call's span.
    pub(super) fn note_first_item(&self) {
        debug!(target: TARGET, seq = %self.seq, "the first item was sent");
        let us = u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        let _ = self.first_item.compare_exchange(0, us + 1, Relaxed, Relaxed);
    }

    /// Notes that an item was taken. Called for the first one, in the call's span.
    pub(super) fn note_first_received(&self) {
        debug!(target: TARGET, seq = %self.seq, "the first item was received");
    }

    /// Returns the time from the request to the first item; `None` if none was sent.
    pub(crate) fn first_item(&self) -> Option<Duration> {
        self.first_item.load(Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    /// Notes why the server gives up the call, which is then to be aborted. The first reason counts.
    pub(crate) fn cut(&self, reason: Cut) {
        let _ = self.cut.compare_exchange(0, reason as u8, Relaxed, Relaxed);
        if reason == Cut::NoRoom {
            // At once: the handler must not see the items behind the one that is missing.
            self.streams.remove(self.seq);
        }
    }

    /// Returns the error of a call that the server gave up, and its metadata; `None` if it did not.
    pub(crate) fn cut_status(&self) -> Option<(Status, Option<Metadata>)> {
        let reason = match self.cut.load(Relaxed) {
            0 => return None,
            cut if cut == Cut::Stalled as u8 => Cut::Stalled,
            cut if cut == Cut::Drained as u8 => Cut::Drained,
            _ => Cut::NoRoom,
        };
        let exhausted = |message| Status::maybe(Code::ResourceExhausted, message);
        Some(match reason {
            Cut::Stalled => {
                let limit = self.streams.settings().max_stall;
                let message =
                    format!("an item waited {limit:?} for the caller's credit: the server's `stream_stall`");
                (exhausted(message), None)
            }
            Cut::NoRoom => (exhausted("the server's buffers have no room for an item".to_owned()), None),
            Cut::Drained => {
                let mut resume = Metadata::new();
                let inserted = resume.insert(metadata::RESUME, "1");
                debug_assert!(inserted.is_ok());
                (Status::maybe(Code::Unavailable, "the server is stopping"), Some(resume))
            }
        })
    }

    /// Drops the items that were not written when the call ends: it was stopped.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// Ends the stream of a call that was made in this process, whose response is to follow. Returns the items that were sent
    /// before it.
    pub(crate) fn take_rest(&self) -> VecDeque<Body> {
        let mut rest = VecDeque::new();
        if !self.abandoned.load(Relaxed) {
            while let Some(item) = self.streams.take_sent() {
                rest.push_back(item);
            }
        }
        self.remove();
        rest
    }

    /// Returns the state of the stream; `None` if it has ended.
    pub(crate) fn snapshot(&self) -> Option<StreamSnapshot> {
        self.streams.snapshot().into_iter().find(|snapshot| snapshot.seq == self.seq)
    }

    /// Ends the stream, whose response is to follow: appends the items that were sent before it.
    pub(crate) fn finish(&self, outbox: &mut Outbox) {
        if self.abandoned.load(Relaxed) {
            self.remove();
        } else {
            self.streams.finish(self.seq, outbox);
        }
    }

    /// Ends the stream without a response. Does nothing if it has ended.
    pub(crate) fn remove(&self) {
        self.streams.remove(self.seq);
    }
}
