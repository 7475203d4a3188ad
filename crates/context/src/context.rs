//! The context of a call, as its handler sees it.

use std::fmt;
use std::sync::Arc;

use farcall_protocol::{ByteStr, Metadata, Seq};
use farcall_transport::{PeerCertificate, TlsInfo};
use tokio::time::{Duration, Instant};

use crate::drain::DrainSignal;
use crate::identity::Identity;
use crate::inherited::Inherited;
use crate::trace::TraceContext;

/// The connection that a call came over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Who is on the other side, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// A number of its own within this server.
    pub id: u64,
    /// What TLS tells of it; `None` if it is not encrypted.
    pub tls: Option<Arc<TlsInfo>>,
    /// Who is on the other side, where the server asks for a credential.
    pub identity: Option<Identity>,
    /// `None` for a connection that is not a server's.
    drain: Option<DrainSignal>,
}

impl ConnectionInfo {
    /// A connection from `peer`.
    #[must_use]
    pub fn new(id: u64, peer: impl fmt::Display) -> Self {
        Self { peer: peer.to_string(), id, tls: None, identity: None, drain: None }
    }

    /// With what TLS tells of it.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<TlsInfo>>) -> Self {
        self.tls = tls;
        self
    }

    /// With who is on the other side.
    #[must_use]
    pub fn with_identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity;
        self
    }

    /// Sets the signal that the server sends when it drains.
    #[must_use]
    pub fn with_drain_signal(mut self, signal: DrainSignal) -> Self {
        self.drain = Some(signal);
        self
    }
}

impl PartialEq for ConnectionInfo {
    /// Compares what is known of the connection, and not its drain signal.
    fn eq(&self, other: &Self) -> bool {
        let Self { peer, id, tls, identity, drain: _ } = other;
        (&self.peer, self.id, &self.tls, &self.identity) == (peer, *id, tls, identity)
    }
}

impl Eq for ConnectionInfo {}

/// What a handler may know of its call. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Context {
    method: ByteStr,
    seq: Seq,
    inherited: Inherited,
    idempotent: bool,
    connection: Arc<ConnectionInfo>,
}

impl Context {
    /// The context of a call.
    #[must_use]
    pub const fn new(
        method: ByteStr,
        seq: Seq,
        inherited: Inherited,
        idempotent: bool,
        connection: Arc<ConnectionInfo>,
    ) -> Self {
        Self { method, seq, inherited, idempotent, connection }
    }

    /// The name that was called, such as `Arith.multiply`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The number of the call on its connection.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// When the caller's time, or the server's limit, is up; `None` if there is no limit. The
    /// handler is stopped then.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.inherited.deadline
    }

    /// What is left until the deadline; zero past it, `None` if there is none.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The value of a metadata key that the caller sent.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.all_metadata()?.get(key)
    }

    /// All metadata that the caller sent; `None` if there is none.
    #[must_use]
    pub fn all_metadata(&self) -> Option<&Metadata> {
        self.inherited.metadata.as_deref()
    }

    /// The trace that the call belongs to, and its own place in it: that of its span where somebody
    /// listens, else that of its caller. `None` if its caller sent none, or nothing well formed.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.inherited.trace_context()
    }

    /// Returns `true` if the caller says that the call may be made twice with the effect of once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Who called, such as `tcp@127.0.0.1:50412`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.connection.peer
    }

    /// Who called, by the credential of its connection; `None` if the server asks for none.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.connection.identity.as_ref()
    }

    /// The certificate of the caller, which TLS has verified; `None` if it showed none, as all do
    /// whose server does not ask.
    #[must_use]
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.connection.tls.as_ref()?.certificate.as_ref()
    }

    /// Returns a future that is ready when the server drains: it takes no new calls, and waits for those in
    /// flight for at most its `drain_timeout`. A handler that waits for something ends then. Ready at
    /// once if the server drains already; never ready for a call outside of a server.
    ///
    /// Calls that don't use it pay nothing for it.
    ///
    /// ```
    /// use farcall_context::Context;
    /// use tokio::sync::mpsc;
    ///
    /// /// Waits for the next event, but no longer than the server serves.
    /// async fn next_event(cx: Context, events: &mut mpsc::Receiver<String>) -> Option<String> {
    ///     tokio::select! {
    ///         // Both are cancel-safe: an event that was not taken is there for the next call.
    ///         event = events.recv() => event,
    ///         () = cx.draining() => None,
    ///     }
    /// }
    /// ```
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let signal = self.connection.drain.clone();
        async move {
            match signal {
                Some(signal) => signal.sent().await,
                None => std::future::pending().await,
            }
        }
    }

    /// The connection that the call came over.
    #[must_use]
    pub fn connection(&self) -> &ConnectionInfo {
        &self.connection
    }

    /// What calls made on behalf of this one inherit. A task that a handler spawns inherits
    /// nothing by itself: wrap its future with [`Inherited::wrap`] where it should.
    #[must_use]
    pub const fn inherited(&self) -> &Inherited {
        &self.inherited
    }
}
