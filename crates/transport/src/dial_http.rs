//! The part of [`Dialer`] that passes where only HTTP passes: openings inside HTTP, and forward
//! proxies. What is said to either is in [`crate::http_upgrade`].

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::dial::Dialer;
use crate::dial_error::DialErrorKind;
use crate::http_upgrade::{self, HttpUpgradeError};
use crate::proxy::Proxy;
use crate::proxy_environment::proxy_for;
#[cfg(feature = "tls")]
use crate::scheme::Scheme;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::Alpn;

/// Which proxy is asked to reach an address.
#[derive(Clone, Debug, Default)]
pub(crate) enum ProxyChoice {
    /// The one that the environment has for the schemes of HTTP.
    #[default]
    Environment,
    /// This one, for all.
    Given(Proxy),
    /// None at all.
    Never,
}

impl Dialer {
    /// Has everything but `unix` addresses reached through this forward proxy, by `CONNECT`, and
    /// not looks at the environment: `Dialer::default().proxy("http://proxy:3128")?`. See
    /// [`Proxy`] for credentials. Names are resolved by the proxy then.
    ///
    /// By default the proxy for `http`, `connect` and `ws` is what the environment variables
    /// `http_proxy`, `HTTP_PROXY`, `all_proxy` or `ALL_PROXY` say, for `https` and `wss` it is
    /// `https_proxy` and so on; but for addresses of this machine, and those in `no_proxy` or
    /// `NO_PROXY`. `tcp` and `tls` go straight then.
    ///
    /// # Errors
    ///
    /// What was given is no proxy.
    pub fn proxy<P: TryInto<Proxy>>(self, proxy: P) -> Result<Dialer, P::Error> {
        Ok(self.with_proxy(ProxyChoice::Given(proxy.try_into()?)))
    }

    /// Goes straight to all addresses, whatever the environment says.
    #[must_use]
    pub fn without_proxy(self) -> Dialer {
        self.with_proxy(ProxyChoice::Never)
    }

    /// Opens a stream inside HTTP: reaches the address, and has `open` ask for it.
    pub(crate) async fn dial_http_upgrade<Opening>(
        &self,
        address: &Address,
        open: impl FnOnce(Stream) -> Opening,
    ) -> Result<Stream, DialErrorKind>
    where
        Opening: Future<Output = Result<Stream, HttpUpgradeError>>,
    {
        let begun = Instant::now();
        let stream = self.reach_http(address).await?;
        Ok(self.opened(begun, open(stream)).await?)
    }

    /// A stream in which HTTP can be spoken to the address, encrypted where its scheme says so.
    async fn reach_http(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        #[cfg(feature = "tls")]
        if matches!(address.scheme(), Scheme::Https | Scheme::Wss) {
            return self.reach_encrypted(address, Alpn::Http1).await;
        }
        self.reach(address).await
    }

    /// A stream to the address itself, through a proxy where there is one for it.
    pub(crate) async fn reach(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        if address.is_unspecified() {
            return Err(DialErrorKind::Unspecified);
        }
        match self.proxy_for(address)? {
            None => self.dial_directly(address).await,
            Some(proxy) => self.tunnel(&proxy, address).await.map_err(|reason| DialErrorKind::Proxy {
                proxy: proxy.to_string(),
                reason: Box::new(reason),
            }),
        }
    }

    async fn tunnel(&self, proxy: &Proxy, address: &Address) -> Result<Stream, DialErrorKind> {
        let begun = Instant::now();
        let stream = self.dial_directly(proxy.address()).await?;
        Ok(self.opened(begun, http_upgrade::tunnel(stream, address, proxy.authorization())).await?)
    }

    fn proxy_for(&self, address: &Address) -> Result<Option<Proxy>, DialErrorKind> {
        match self.proxy_choice() {
            ProxyChoice::Given(proxy) => Ok(Some(proxy.clone())),
            ProxyChoice::Never => Ok(None),
            ProxyChoice::Environment => proxy_for(address, |name| std::env::var(name).ok())
                .map_err(|(variable, error)| DialErrorKind::ProxyVariable { variable, error }),
        }
    }

    /// What an opening gives within the connect timeout, of which connecting has had its share.
    async fn opened(
        &self,
        begun: Instant,
        opening: impl Future<Output = Result<Stream, HttpUpgradeError>>,
    ) -> Result<Stream, HttpUpgradeError> {
        let limit = self.connect_limit();
        let Some(deadline) = begun.checked_add(limit) else { return opening.await };
        timeout_at(deadline, opening).await.unwrap_or(Err(HttpUpgradeError::Timeout { limit }))
    }
}
