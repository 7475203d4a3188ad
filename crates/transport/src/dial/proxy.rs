//! [`ProxyChoice`]: which forward proxy reaches an address, and the tunnel through it. The request of the
//! tunnel is left to [`crate::http_upgrade`].

use std::future::Future;

use super::error::DialErrorKind;
use super::limit::ConnectLimit;
use crate::address::Address;
use crate::http_upgrade::{self, HttpUpgradeError};
use crate::proxy::Proxy;
use crate::proxy_environment::proxy_for;
use crate::stream::Stream;

/// The choice of the proxy that reaches an address.
#[derive(Clone, Debug, Default)]
pub(super) enum ProxyChoice {
    /// The one that the environment has for the schemes of HTTP.
    #[default]
    Environment,
    /// This one, for all.
    Given(Proxy),
    /// None at all.
    Never,
}

impl ProxyChoice {
    /// Returns the proxy for an address, if there is one.
    pub(super) fn proxy_for(&self, address: &Address) -> Result<Option<Proxy>, DialErrorKind> {
        match self {
            Self::Given(proxy) => Ok(Some(proxy.clone())),
            Self::Never => Ok(None),
            Self::Environment => proxy_for(address, |name| std::env::var(name).ok())
                .map_err(|(variable, error)| DialErrorKind::ProxyVariable { variable, error }),
        }
    }

    /// Returns the proxy for an address if one was set in the program, not in the environment.
    pub(super) fn given(&self) -> Option<&Proxy> {
        match self {
            Self::Given(proxy) => Some(proxy),
            Self::Environment | Self::Never => None,
        }
    }
}

/// Opens a tunnel to an address in a stream to the proxy.
pub(super) async fn tunnel(
    stream: impl Future<Output = Result<Stream, DialErrorKind>>,
    proxy: &Proxy,
    address: &Address,
    limit: ConnectLimit,
) -> Result<Stream, DialErrorKind> {
    let tunnel = async {
        let tunnel = http_upgrade::tunnel(stream.await?, address, proxy.authorization());
        Ok(upgraded(tunnel, limit).await?)
    };
    tunnel.await.map_err(|reason| DialErrorKind::Proxy { proxy: proxy.to_string(), reason: Box::new(reason) })
}

/// Waits for an upgrade in the time that is left of the dial.
pub(super) async fn upgraded(
    upgrade: impl Future<Output = Result<Stream, HttpUpgradeError>>,
    limit: ConnectLimit,
) -> Result<Stream, HttpUpgradeError> {
    limit.run(upgrade).await.unwrap_or_else(|limit| Err(HttpUpgradeError::Timeout { limit }))
}
