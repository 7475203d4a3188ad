//! [`ConnectionStats`]: the facts and figures of a connection. The connection's task writes them,
//! snapshots of the server read them at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use farcall_context::ConnectionInfo;
use farcall_protocol::Codec;
use farcall_transport::{PeerAddress, Scheme};
use tokio::time::Instant;

/// The facts and figures of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionStats {
    pub(crate) peer: String,
    /// The scheme that it was opened by; `None` if it was made in memory.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) accepted: Instant,
    /// The results of the handshake.
    handshake: OnceLock<(Codec, Arc<ConnectionInfo>)>,
    received: AtomicU64,
    sent: AtomicU64,
    calls: AtomicU64,
}

/// The traffic of a connection since its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes.
    pub(crate) received: u64,
    /// Bytes.
    pub(crate) sent: u64,
    /// Requests, including refused ones.
    pub(crate) calls: u64,
}

impl ConnectionStats {
    pub(crate) fn new(peer: &PeerAddress, scheme: Option<Scheme>) -> Self {
        Self {
            peer: peer.to_string(),
            scheme,
            accepted: Instant::now(),
            handshake: OnceLock::new(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Sets the results of the handshake, once.
    pub(super) fn handshake_done(&self, codec: Codec, info: Arc<ConnectionInfo>) {
        let _ = self.handshake.set((codec, info));
    }

    /// Returns the results of the handshake; `None` before its end.
    pub(crate) fn handshake(&self) -> Option<&(Codec, Arc<ConnectionInfo>)> {
        self.handshake.get()
    }

    /// Replaces the figures. There is one writer, so nothing is added up here.
    pub(super) fn publish(&self, traffic: Traffic) {
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
