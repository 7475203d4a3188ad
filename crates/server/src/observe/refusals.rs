//! [`Refusals`]: how often each limit that connections share has refused something.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::memory_budget::Shortage;

/// The number of refusals by each limit since the server was built.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) calls_in_all: RefusalCount,
    pub(crate) share_of_connection: RefusalCount,
    pub(crate) calls_of_peer: RefusalCount,
    pub(crate) calls_of_connection: RefusalCount,
    pub(crate) streams_of_connection: RefusalCount,
    bytes_in_all: RefusalCount,
    bytes_of_peer: RefusalCount,
    bytes_of_connection: RefusalCount,
}

/// The number of refusals by one limit.
#[derive(Debug, Default)]
pub(crate) struct RefusalCount(AtomicU64);

impl RefusalCount {
    #[cold]
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Refusals {
    /// Returns the count of a limit of memory.
    pub(crate) const fn of_memory(&self, shortage: Shortage) -> &RefusalCount {
        match shortage {
            Shortage::Connection => &self.bytes_of_connection,
            Shortage::Peer => &self.bytes_of_peer,
            Shortage::InAll => &self.bytes_in_all,
        }
    }

    /// Returns the counts by the names of the limits' settings.
    pub(crate) fn by_limit(&self) -> [(&'static str, u64); 8] {
        [
            ("max_in_flight_in_all", self.calls_in_all.get()),
            ("max_in_flight_in_all_share", self.share_of_connection.get()),
            ("max_in_flight_per_peer", self.calls_of_peer.get()),
            ("max_in_flight", self.calls_of_connection.get()),
            ("max_streams", self.streams_of_connection.get()),
            ("buffered_bytes", self.bytes_in_all.get()),
            ("buffered_bytes_per_peer", self.bytes_of_peer.get()),
            ("buffered_bytes_per_connection", self.bytes_of_connection.get()),
        ]
    }
}
