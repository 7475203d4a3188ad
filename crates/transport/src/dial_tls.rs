//! The part of [`Dialer`] that encrypts: whom it trusts, and how long a handshake may take.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::dial::Dialer;
use crate::dial_error::DialErrorKind;
use crate::stream::Stream;
use crate::tls::{Alpn, TlsClient, TlsError};

/// The client's side of TLS: the one that was given, or the system's once it is needed. Reading the
/// system's roots takes a while, which only those pay who dial by TLS, and once for all clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsChoice(Arc<OnceCell<TlsClient>>);

impl TlsChoice {
    async fn client(&self) -> Result<TlsClient, TlsError> {
        let system = || async {
            match tokio::task::spawn_blocking(TlsClient::system).await {
                Ok(system) => system,
                Err(error) => Err(TlsError::other(error)),
            }
        };
        self.0.get_or_try_init(system).await.cloned()
    }
}

impl Dialer {
    /// Whom to trust where an address is encrypted, and the certificate to show. By default whom the
    /// system trusts, and none.
    ///
    /// The server's certificate must be for the host of the address, a name or an IP address, unless
    /// [`TlsClientBuilder::server_name`](crate::TlsClientBuilder::server_name) says another.
    #[must_use]
    pub fn tls(self, client: TlsClient) -> Dialer {
        self.with_tls(TlsChoice(Arc::new(OnceCell::from(client))))
    }

    /// Opens an encrypted stream to an address, in which `alpn` is to be spoken, all of it within
    /// the connect timeout.
    pub(crate) async fn reach_encrypted(
        &self,
        address: &Address,
        alpn: Alpn,
    ) -> Result<Stream, DialErrorKind> {
        let client = self.tls_choice().client().await.map_err(DialErrorKind::TlsSetup)?;
        let begun = Instant::now();
        #[cfg(feature = "http")]
        let stream = self.reach(address).await?;
        #[cfg(not(feature = "http"))]
        let stream = self.dial_directly(address).await?;

        let connecting = client.connect(stream, address.host().unwrap_or_default(), alpn);
        let limit = self.connect_limit();
        let connected = match begun.checked_add(limit) {
            Some(deadline) => timeout_at(deadline, connecting).await,
            None => Ok(connecting.await),
        };
        connected.map_err(|_| DialErrorKind::TlsTimeout { limit })?.map_err(DialErrorKind::Tls)
    }
}
