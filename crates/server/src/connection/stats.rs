//! [`ConnectionStats`]: the facts and figures of a connection. The connection's task writes them,
//! snapshots of the server read them at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use farcall_context::ConnectionInfo;
use farcall_protocol::Codec;
use farcall_protocol::time::millis;
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
    /// The bytes in the connection's buffers: those of an incomplete message, and those that the peer
    /// has not taken.
    waiting_bytes: AtomicUsize,
    /// Since when those are many, in milliseconds after `accepted`; [`NOT_WAITING`] if they are few.
    waiting_since: AtomicU64,
}

/// The least that counts as many bytes in a connection's buffers: less is not worth closing it for.
pub(crate) const MIN_WAITING_BYTES: usize = 256 * 1024;
const NOT_WAITING: u64 = u64::MAX;

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
            waiting_bytes: AtomicUsize::new(0),
            waiting_since: AtomicU64::new(NOT_WAITING),
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

    /// Replaces the number of bytes that wait for the peer.
    #[inline]
    pub(crate) fn publish_waiting(&self, bytes: usize) {
        self.waiting_bytes.store(bytes, Relaxed);
        let is_waiting = self.waiting_since.load(Relaxed) != NOT_WAITING;
        if is_waiting != (bytes >= MIN_WAITING_BYTES) {
            self.set_waiting(!is_waiting);
        }
    }

    #[cold]
    fn set_waiting(&self, is_waiting: bool) {
        let since = if is_waiting { millis(self.accepted.elapsed()) } else { NOT_WAITING };
        self.waiting_since.store(since, Relaxed);
    }

    /// Returns the bytes that wait for the peer, if they have been many for at least `time`; else 0.
    pub(crate) fn waiting_bytes(&self, time: Duration, now: Instant) -> usize {
        let since = self.waiting_since.load(Relaxed);
        let age = millis(now.saturating_duration_since(self.accepted));
        let is_long = since != NOT_WAITING && age.saturating_sub(since) >= millis(time);
        if is_long { self.waiting_bytes.load(Relaxed) } else { 0 }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            calls: self.calls.load(Relaxed),
        }
    }
}
