//! [`StreamSnapshot`]: the state of one stream at one moment, for a page or a program to show.

use super::entry::{Entry, Traffic};
use crate::limits::Seq;

/// The state of one stream, as one side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSnapshot {
    /// The number of the call.
    pub seq: Seq,
    /// The items that have arrived.
    pub received: Traffic,
    /// The items that the application has sent, including those that wait to be written.
    pub sent: Traffic,
    /// The size of the window that this side grants, in bytes.
    pub receive_window: u64,
    /// The cost of the items that have arrived and wait for the application.
    pub held: u64,
    /// The credit that this side may still spend, in bytes.
    pub credit: u64,
    /// The bytes of the items that wait to be written.
    pub queued: usize,
    /// The number of times that an item had to wait for credit.
    pub stalls: u64,
    /// The cause of the stream's present wait.
    pub waits_for: StreamWait,
}

/// The cause of a stream's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamWait {
    /// The application: items wait for it to take them, or it has none to send.
    Application,
    /// The peer's credit.
    Credit,
    /// The socket: items wait to be written.
    Socket,
    /// The peer's items.
    Peer,
}

impl StreamWait {
    /// Returns the name: `application`, `credit`, `socket` or `peer`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Credit => "credit",
            Self::Socket => "socket",
            Self::Peer => "peer",
        }
    }
}

impl StreamSnapshot {
    pub(super) fn new(seq: Seq, entry: &Entry) -> Self {
        let (receive, send) = entry.state.windows();
        let waits_for = if entry.starved_since.is_some() {
            StreamWait::Credit
        } else if entry.queue.bytes() > 0 {
            StreamWait::Socket
        } else if entry.reader.is_some() {
            StreamWait::Peer
        } else {
            StreamWait::Application
        };
        Self {
            seq,
            received: entry.received,
            sent: entry.sent,
            receive_window: receive.size(),
            held: receive.held(),
            credit: send.limit().saturating_sub(send.spent()),
            queued: entry.queue.bytes(),
            stalls: entry.stalls,
            waits_for,
        }
    }
}
