//! [`TlsChoice`]: the authorities and the certificate of a dial, and the limit of its handshake.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::error::DialErrorKind;
use super::limit::ConnectLimit;
use crate::stream::Stream;
use crate::tls::{Alpn, TlsClient, TlsError};

/// The client's side of TLS: the one that was given, or the system's once it is needed. Reading the
/// system's roots takes a while, which only dials by TLS pay for, and once for all clones.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsChoice(Arc<OnceCell<TlsClient>>);

impl TlsChoice {
    pub(super) fn given(client: TlsClient) -> Self {
        Self(Arc::new(OnceCell::from(client)))
    }

    pub(super) async fn client(&self) -> Result<TlsClient, DialErrorKind> {
        let system = || async {
            match tokio::task::spawn_blocking(TlsClient::system).await {
                Ok(system) => system,
                Err(error) => Err(TlsError::other(error)),
            }
        };
        self.0.get_or_try_init(system).await.cloned().map_err(DialErrorKind::TlsSetup)
    }
}

/// Encrypts a stream to a host, in which `alpn` will be spoken, in the time that is left of the dial.
pub(super) async fn encrypt(
    client: &TlsClient,
    stream: Stream,
    host: &str,
    alpn: Alpn,
    limit: ConnectLimit,
) -> Result<Stream, DialErrorKind> {
    let handshake = limit.run(client.connect(stream, host, alpn)).await;
    handshake.map_err(|limit| DialErrorKind::TlsTimeout { limit })?.map_err(DialErrorKind::Tls)
}
