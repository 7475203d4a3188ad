//! [`Invocation`]: the description of a call that came over no farcall connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_context::Identity;
use farcall_protocol::{Codec, Metadata};
use farcall_transport::{PeerAddress, TlsInfo};

/// A call that came over no farcall connection: through an HTTP gateway, or from the process itself.
/// [`ServerHandle::invoke`](crate::ServerHandle::invoke) makes it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_protocol::Codec;
/// use farcall_server::{Invocation, Server};
///
/// let server = Server::builder()
///     .method("Arith.double", async |n: i64| n * 2)
///     .build()?;
/// let invocation = Invocation::new("Arith.double", Codec::Json, "21".into());
/// let response = server.handle().invoke(invocation).await;
/// assert_eq!(response.body(), "42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an invocation does nothing until `ServerHandle::invoke` makes it"]
pub struct Invocation {
    pub(super) method: String,
    pub(super) codec: Codec,
    pub(super) body: Bytes,
    pub(super) metadata: Option<Metadata>,
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
    pub(super) peer: PeerAddress,
    pub(super) token: Option<String>,
    pub(super) tls: Option<Arc<TlsInfo>>,
    /// `None` until the caller was identified; then its identity, if the server asks for one.
    pub(super) identified: Option<Option<Identity>>,
}

impl Invocation {
    /// Creates a call of `method`, such as `Arith.multiply`, with encoded arguments.
    pub fn new(method: impl Into<String>, codec: Codec, body: Bytes) -> Self {
        Self {
            method: method.into(),
            codec,
            body,
            metadata: None,
            timeout: None,
            idempotent: false,
            peer: PeerAddress::Memory,
            token: None,
            tls: None,
            identified: None,
        }
    }

    /// Replaces the encoded arguments: for callers that
    /// [identify](crate::ServerHandle::identify) the client before they read them.
    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Sets metadata for the handler. Default: none.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Sets how long the caller waits. `None` is no limit, and the default.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.timeout = limit.into();
        self
    }

    /// Tells the handler that making the call twice has the effect of making it once. Default: `false`.
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Sets where the call came from. Default: this process.
    pub const fn peer(mut self, peer: PeerAddress) -> Self {
        self.peer = peer;
        self
    }

    /// Sets the credential for the server's [`Authenticate`](crate::Authenticate). Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the facts about the TLS connection that the call came over, with the client's
    /// certificate. Default: the connection was not encrypted.
    pub fn tls(mut self, tls: Arc<TlsInfo>) -> Self {
        self.tls = Some(tls);
        self
    }
}
