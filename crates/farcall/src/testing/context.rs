//! [`ContextBuilder`]: the context of a handler that a test calls directly.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::context::{ConnectionInfo, Context, Identity, Inherited};
use crate::protocol::{Metadata, Seq};
use crate::transport::{PeerAddress, PeerKey};

/// Begins the [`Context`] of a call of `method`, such as `Greeter.greet`.
///
/// ```
/// use std::time::Duration;
///
/// use farcall::context::Identity;
/// use farcall::testing::context;
///
/// let cx = context("Greeter.greet").identity(Identity::new("ann")).metadata("tenant", "blue").build();
/// assert_eq!(cx.identity().map(Identity::name), Some("ann"));
/// assert_eq!(cx.metadata("tenant"), Some("blue"));
/// assert_eq!(cx.deadline(), None);
/// # let cx = context("Greeter.greet").timeout(Duration::from_secs(1)).idempotent().build();
/// # assert!(cx.is_idempotent() && cx.remaining() <= Some(Duration::from_secs(1)));
/// ```
pub fn context(method: &str) -> ContextBuilder {
    ContextBuilder {
        method: method.to_owned(),
        identity: None,
        metadata: Metadata::new(),
        deadline: None,
        idempotent: false,
        peer: "memory".to_owned(),
        peer_key: PeerAddress::Memory.key(),
    }
}

/// A [`Context`] under construction: see [`context`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ContextBuilder {
    method: String,
    identity: Option<Identity>,
    metadata: Metadata,
    deadline: Option<Instant>,
    idempotent: bool,
    peer: String,
    peer_key: PeerKey,
}

impl ContextBuilder {
    /// Sets who calls, as the server's authentication would. By default the caller has no identity.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Adds one pair of metadata.
    ///
    /// # Panics
    ///
    /// The key or the value is not one that metadata can hold; a key is in lower case, for example.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key, value).expect("a key and a value that metadata can hold");
        self
    }

    /// Sets the deadline to `limit` from now, on tokio's clock. By default there is none.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.deadline = Instant::now().checked_add(limit);
        self
    }

    /// Marks the call as idempotent.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets the address of the caller as it is shown, such as `tcp@127.0.0.1:50412`. Default `memory`.
    pub fn peer(mut self, peer: &str) -> Self {
        peer.clone_into(&mut self.peer);
        self
    }

    /// Sets the address of the caller, and with it what limits for each peer count by
    /// ([`ConnectionInfo::peer_key`]). Default [`PeerAddress::Memory`].
    ///
    /// ```
    /// use farcall::testing::context;
    /// use farcall::transport::PeerAddress;
    ///
    /// let of = |address: &str| context("T.t").peer_address(&PeerAddress::Tcp(address.parse().unwrap())).build();
    /// assert_ne!(of("10.0.0.1:7").connection().peer_key(), of("10.0.0.2:7").connection().peer_key());
    /// ```
    pub fn peer_address(mut self, peer: &PeerAddress) -> Self {
        (self.peer, self.peer_key) = (peer.to_string(), peer.key());
        self
    }

    /// Returns the context.
    #[must_use]
    pub fn build(self) -> Context {
        let connection =
            ConnectionInfo::new(1, self.peer).with_peer_key(self.peer_key).with_identity(self.identity);
        let metadata = (!self.metadata.is_empty()).then(|| Arc::new(self.metadata));
        let inherited = Inherited::default().deadline(self.deadline).metadata(metadata);
        Context::new(self.method.into(), Seq(1), inherited, self.idempotent, Arc::new(connection))
    }
}
