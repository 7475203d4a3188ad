//! The context of a call, as its handler sees it.

use std::fmt;
use std::sync::Arc;

use farcall_protocol::{ByteStr, Criticality, Metadata, Seq};
use farcall_runtime::time::{Duration, Instant};
use farcall_transport::{PeerAddress, PeerCertificate, PeerKey, TlsInfo};

use crate::drain::DrainSignal;
use crate::identity::Identity;
use crate::inherited::Inherited;
use crate::trace::TraceContext;

/// The connection that a call arrived on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address of the peer, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// The connection's number, unique within this server.
    pub id: u64,
    /// The parameters of its TLS session; `None` if it is not encrypted.
    pub tls: Option<Arc<TlsInfo>>,
    /// The authenticated identity of the peer; `None` if the server requires no credential.
    pub identity: Option<Identity>,
    peer_key: PeerKey,
    /// The server's drain signal; `None` outside of a server.
    drain: Option<DrainSignal>,
}

impl ConnectionInfo {
    /// Creates the description of a connection from `peer`. Its [`peer_key`](ConnectionInfo::peer_key) is that of peers without
    /// an address.
    #[must_use]
    pub fn new(id: u64, peer: impl fmt::Display) -> Self {
        let peer_key = PeerAddress::Memory.key();
        Self { peer: peer.to_string(), id, tls: None, identity: None, peer_key, drain: None }
    }

    /// Sets what limits and shares for each peer count by.
    #[must_use]
    pub fn with_peer_key(mut self, key: PeerKey) -> Self {
        self.peer_key = key;
        self
    }

    /// Returns what limits and shares for each peer count by: its IPv4 address, IPv6 network, or local user.
    #[must_use]
    pub const fn peer_key(&self) -> PeerKey {
        self.peer_key
    }

    /// Sets the parameters of its TLS session.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<TlsInfo>>) -> Self {
        self.tls = tls;
        self
    }

    /// Sets the authenticated identity of the peer.
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
    /// Compares all fields except the drain signal.
    fn eq(&self, other: &Self) -> bool {
        let Self { peer, id, tls, identity, peer_key, drain: _ } = other;
        (&self.peer, self.id, &self.tls, &self.identity, self.peer_key)
            == (peer, *id, tls, identity, *peer_key)
    }
}

impl Eq for ConnectionInfo {}

/// The context of a call, as its handler sees it. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Context {
    method: ByteStr,
    seq: Seq,
    inherited: Inherited,
    idempotent: bool,
    connection: Arc<ConnectionInfo>,
}

impl Context {
    /// Creates the context of a call.
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

    /// Returns the full name of the called method, such as `Arith.multiply`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// Returns the number of the call on its connection.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// Returns the time at which the caller's deadline or the server's limit expires; `None` if there is
    /// no limit. The handler is stopped then.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.inherited.deadline
    }

    /// Returns the time left until the deadline; zero if it has passed, `None` if there is no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns the value of a metadata key that the caller sent.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.all_metadata()?.get(key)
    }

    /// Returns all metadata that the caller sent; `None` if there is none.
    #[must_use]
    pub fn all_metadata(&self) -> Option<&Metadata> {
        self.inherited.metadata.as_deref()
    }

    /// Returns the call's place in its trace: its own span if it is recorded, else the span of its caller.
    /// `None` if it is not recorded and the caller sent no well-formed `traceparent`.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.inherited.trace_context()
    }

    /// Returns how much the call matters when the server has more calls than it can serve: as its caller set it, or as
    /// that inherited it.
    #[must_use]
    pub fn criticality(&self) -> Criticality {
        self.inherited.metadata.as_deref().map_or_else(Criticality::default, Metadata::criticality)
    }

    /// Returns `true` if the caller marked the call as idempotent, so that executing it twice has the
    /// effect of executing it once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Returns the address of the caller, such as `tcp@127.0.0.1:50412`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.connection.peer
    }

    /// Returns the identity of the caller, authenticated by the credential of its connection; `None` if the
    /// server requires no credential.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.connection.identity.as_ref()
    }

    /// Returns the certificate of the caller, verified by TLS; `None` if it presented none, which is always
    /// the case if the server does not request client certificates.
    #[must_use]
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.connection.tls.as_ref()?.certificate.as_ref()
    }

    /// Returns a future that is ready when the server drains: the server accepts no new calls then, and waits
    /// for those in flight for at most its `drain_timeout`. A handler that waits for an event should return
    /// then. The future is ready immediately if the server drains already, and never for a call outside of a
    /// server.
    ///
    /// Calls that don't use it don't pay for it.
    ///
    /// ```
    /// use farcall_context::Context;
    /// use tokio::sync::mpsc;
    ///
    /// /// Waits for the next event, but not beyond the start of a drain.
    /// async fn next_event(cx: Context, events: &mut mpsc::Receiver<String>) -> Option<String> {
    ///     tokio::select! {
    ///         // Both are cancel-safe: an event that was not taken remains in the channel.
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

    /// Returns the connection that the call arrived on.
    #[must_use]
    pub fn connection(&self) -> &ConnectionInfo {
        &self.connection
    }

    /// Returns the values that calls made on behalf of this one inherit. A task that a handler spawns
    /// inherits nothing by default: wrap its future with [`Inherited::wrap`] if it should.
    #[must_use]
    pub const fn inherited(&self) -> &Inherited {
        &self.inherited
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{self, Waker};

    use farcall_protocol::metadata::CRITICALITY;

    use super::*;

    fn connection() -> ConnectionInfo {
        ConnectionInfo::new(7, "tcp@10.0.0.1:9")
    }

    fn context(inherited: Inherited) -> Context {
        context_with(inherited, connection().with_identity(Some(Identity::new("cron"))), true)
    }

    fn context_with(inherited: Inherited, connection: ConnectionInfo, idempotent: bool) -> Context {
        Context::new("Files.read".into(), Seq(3), inherited, idempotent, Arc::new(connection))
    }

    #[test]
    fn connections_differ_in_all_but_the_drain_signal() {
        assert_eq!(connection(), connection().with_drain_signal(DrainSignal::new()));
        for other in [
            ConnectionInfo::new(8, "tcp@10.0.0.1:9"),
            ConnectionInfo::new(7, "tcp@10.0.0.2:9"),
            connection().with_identity(Some(Identity::new("cron"))),
            connection().with_peer_key(PeerAddress::unix(None, Some(7)).key()),
        ] {
            assert_ne!(connection(), other);
        }
        assert!(connection().peer_key().is_memory());
    }

    #[test]
    fn context_has_what_its_call_came_with() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "a").unwrap();
        metadata.insert(CRITICALITY, "critical").unwrap();
        let context = context(Inherited::default().metadata(Arc::new(metadata.clone())));
        assert_eq!((context.method(), context.seq()), ("Files.read", Seq(3)));
        assert_eq!((context.peer(), context.connection().id), ("tcp@10.0.0.1:9", 7));
        assert_eq!(context.identity().map(Identity::name), Some("cron"));
        assert_eq!((context.metadata("tenant"), context.metadata("other")), (Some("a"), None));
        assert_eq!(context.all_metadata(), Some(&metadata));
        assert_eq!(context.criticality(), Criticality::Critical);
        assert!(context.is_idempotent() && context.certificate().is_none());
    }

    #[test]
    fn call_without_a_deadline_and_metadata_has_none() {
        let context = context(Inherited::default());
        assert_eq!((context.deadline(), context.remaining()), (None, None));
        assert_eq!((context.all_metadata(), context.trace()), (None, None));
        assert_eq!(context.criticality(), Criticality::Default);
    }

    #[test]
    fn call_hands_on_its_deadline_and_its_trace() {
        let (deadline, trace) = (Instant::now() + Duration::from_secs(3600), TraceContext::root());
        let context = context(Inherited::default().deadline(deadline).trace(Arc::new(trace)));
        assert_eq!((context.deadline(), context.trace()), (Some(deadline), Some(trace)));
        assert_eq!(
            (context.inherited().deadline, context.inherited().trace_context()),
            (Some(deadline), Some(trace))
        );
        let remaining = context.remaining().unwrap();
        assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(3600), "{remaining:?}");
        let over = context_with(Inherited::default().deadline(Instant::now()), connection(), false);
        assert_eq!((over.remaining(), over.is_idempotent()), (Some(Duration::ZERO), false));
    }

    #[test]
    fn draining_is_ready_once_the_server_drains() {
        let mut cx = task::Context::from_waker(Waker::noop());
        let signal = DrainSignal::new();
        let served = context_with(Inherited::default(), connection().with_drain_signal(signal.clone()), true);
        let (mut draining, mut elsewhere) =
            (pin!(served.draining()), pin!(context(Inherited::default()).draining()));
        assert!(draining.as_mut().poll(&mut cx).is_pending());
        signal.send();
        assert!(draining.poll(&mut cx).is_ready());
        assert!(elsewhere.as_mut().poll(&mut cx).is_pending(), "no server, no drain");
    }
}
