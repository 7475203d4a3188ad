//! Who may connect: the [`Credential`] of a client, and what checks it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use farcall_context::Identity;
use farcall_protocol::{Code, Status};
use farcall_transport::{PeerCertificate, TlsInfo};
use futures::FutureExt;
use tracing::error;

/// What a client shows of itself when it connects.
#[derive(Clone)]
pub struct Credential {
    token: Option<String>,
    peer: String,
    tls: Option<Arc<TlsInfo>>,
}

impl Credential {
    pub(crate) const fn new(token: Option<String>, peer: String, tls: Option<Arc<TlsInfo>>) -> Self {
        Self { token, peer, tls }
    }

    /// The bearer token of its Option; none where it sent none.
    ///
    /// Compare it in constant time, or look up a hash of it: how long a comparison takes tells how
    /// much of a guess was right. [`Tokens`](crate::Tokens) does.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Its certificate, which TLS has verified; none where it showed none, or is not encrypted.
    #[must_use]
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.tls.as_ref()?.certificate.as_ref()
    }

    /// Whether the connection is encrypted, so that nobody on the way has read the token.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Where it comes from, such as `tcp@127.0.0.1:50412`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// Never shows the token.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .finish()
    }
}

/// What [`Authenticate::authenticate`] returns.
pub type Authenticating = Pin<Box<dyn Future<Output = Result<Identity, Status>> + Send>>;

/// Finds out who a client is: an `async` closure from [`Credential`] to a `Result<Identity, Status>`,
/// or [`Tokens`](crate::Tokens).
///
/// It is asked in the handshake, and has what is left of its time limit. Its error is what the
/// client is told: `unauthenticated` where the credential is wrong, `unavailable` where it could not
/// be checked, so that the client tries elsewhere.
///
/// ```
/// use farcall_context::Identity;
/// use farcall_protocol::{Code, Status};
/// use farcall_server::{Credential, Server};
///
/// // Whoever shows a good certificate is who it says.
/// let builder = Server::builder().authenticate(|credential: Credential| async move {
///     match credential.certificate().and_then(|certificate| certificate.name()) {
///         Some(name) => Ok(Identity::new(name)),
///         None => Err(Status::refused(Code::Unauthenticated, "a certificate with a name is required")),
///     }
/// });
/// # let _ = builder;
/// ```
pub trait Authenticate: Send + Sync + 'static {
    /// Finds out who shows this.
    fn authenticate(&self, credential: Credential) -> Authenticating;
}

impl<F, Checking> Authenticate for F
where
    F: Fn(Credential) -> Checking + Send + Sync + 'static,
    Checking: Future<Output = Result<Identity, Status>> + Send + 'static,
{
    fn authenticate(&self, credential: Credential) -> Authenticating {
        Box::pin(self(credential))
    }
}

/// Asks, and takes a panic for an answer, too: code of the user's is not to end the handshake
/// without a word.
pub(crate) async fn check(by: &dyn Authenticate, credential: Credential) -> Result<Identity, Status> {
    // Nothing of ours that the code could have left half done is used after a panic.
    let checking = AssertUnwindSafe(async { by.authenticate(credential).await });
    checking.catch_unwind().await.unwrap_or_else(|_| {
        error!("checking a credential panicked");
        Err(Status::refused(Code::Internal, "the check of the credential panicked"))
    })
}
