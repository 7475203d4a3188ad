//! [`Caller`]: a client of the soak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farcall::Channel;

use super::record::Record;
use super::work::WorkClient;
use crate::node::Node;

/// A client, and how it calls.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) number: usize,
    pub(super) node: Node,
    pub(super) channel: Channel,
    pub(super) record: Record,
    /// Idempotent calls must succeed, since neither the client nor the first server has faults.
    pub(super) is_spared: bool,
    /// Servers give connections up at a largest age.
    pub(super) connections_age: bool,
    pub(super) servers: u32,
    /// `true` once no further calls are to be made.
    pub(super) has_stopped: Arc<AtomicBool>,
}

impl Caller {
    /// Makes no further calls.
    pub(super) fn stop_calling(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    /// Returns `true` after [`Caller::stop_calling`].
    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn work(&self) -> WorkClient {
        WorkClient::new(self.channel.clone())
    }
}
