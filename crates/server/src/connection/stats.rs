//! What is known of a connection, for whoever looks at the server. The connection's task writes it,
//! others read it whenever they like.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use farcall_context::ConnectionInfo;
use farcall_protocol::Codec;
use farcall_transport::{PeerAddress, Scheme};
use tokio::time::Instant;

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) peer: String,
    /// How it was opened; none for one that was made in memory.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) accepted: Instant,
    /// What the handshake told.
    pub(crate) shaken: OnceLock<(Codec, Arc<ConnectionInfo>)>,
    received: AtomicU64,
    sent: AtomicU64,
    calls: AtomicU64,
}

/// What has passed through a connection since its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes.
    pub(crate) received: u64,
    /// Bytes.
    pub(crate) sent: u64,
    /// Requests, those that were refused among them.
    pub(crate) calls: u64,
}

impl Facts {
    pub(crate) fn new(peer: &PeerAddress, scheme: Option<Scheme>) -> Self {
        Self {
            peer: peer.to_string(),
            scheme,
            accepted: Instant::now(),
            shaken: OnceLock::new(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Shows what has passed by now. There is one writer, so that nothing is added up here.
    pub(super) fn show(&self, traffic: Traffic) {
        self.received.store(traffic.received, Relaxed);
        self.sent.store(traffic.sent, Relaxed);
        self.calls.store(traffic.calls, Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            calls: self.calls.load(Relaxed),
        }
    }
}
