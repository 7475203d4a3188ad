//! [`Authenticate`]: the check of a client's [`Credential`] when it connects.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use farcall_context::Identity;
use farcall_protocol::{Code, Status};
use farcall_transport::log::{LogThrottle, escaped_panic};
use farcall_transport::{PeerCertificate, TlsInfo};
use futures::FutureExt;
use tracing::error;

/// A client's credential: the token and the certificate that it connects with.
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

    /// Returns the bearer token of its Option; `None` if it sent none.
    ///
    /// Compare it in constant time, or look up a hash of it: the time of a plain comparison reveals how
    /// much of a guess was right. [`Tokens`](crate::Tokens) does.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns its certificate, which TLS has verified; `None` without one or without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.tls.as_ref()?.certificate.as_ref()
    }

    /// Returns `true` if the connection is encrypted, so that the token was not readable on the way.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the address of the client, such as `tcp@127.0.0.1:50412`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// Leaves out the token.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .finish()
    }
}

/// The future of [`Authenticate::authenticate`].
pub type Authenticating = Pin<Box<dyn Future<Output = Result<Identity, Status>> + Send>>;

/// Determines a client's identity: an `async` closure from [`Credential`] to a
/// `Result<Identity, Status>`, or [`Tokens`](crate::Tokens).
///
/// It is called in the handshake, within its time limit. Its error is sent to the client:
/// `unauthenticated` if the credential is wrong, `unavailable` if it could not be checked, so that the
/// client tries another endpoint.
///
/// ```
/// use farcall_context::Identity;
/// use farcall_protocol::{Code, Status};
/// use farcall_server::{Credential, Server};
///
/// // The identity is the name in a verified certificate.
/// let builder = Server::builder().authenticate(|credential: Credential| async move {
///     match credential.certificate().and_then(|certificate| certificate.name()) {
///         Some(name) => Ok(Identity::new(name)),
///         None => Err(Status::refused(Code::Unauthenticated, "a certificate with a name is required")),
///     }
/// });
/// # let _ = builder;
/// ```
pub trait Authenticate: Send + Sync + 'static {
    /// Determines the identity for a credential.
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

/// Checks a credential, and turns a panic of the check into a status: user code does not end the
/// handshake without an answer.
pub(crate) async fn check(
    authenticate: &dyn Authenticate,
    credential: Credential,
) -> Result<Identity, Status> {
    // `AssertUnwindSafe`: no state shared with the check is read after a panic.
    let checking = AssertUnwindSafe(async { authenticate.authenticate(credential).await });
    checking.catch_unwind().await.unwrap_or_else(|panic| {
        // Of the process: the check belongs to the program, whatever server calls it.
        static LOG: LogThrottle = LogThrottle::new();
        if let Some(line) = LOG.permit() {
            let (panic, suppressed) = (escaped_panic(&*panic), line.suppressed);
            error!(panic, suppressed, "checking a credential panicked");
        }
        Err(Status::refused(Code::Internal, "the check of the credential panicked"))
    })
}
