//! [`Process`]: a server and its pages, from the settings to the graceful stop.

use std::time::Duration;

use anyhow::{Context as _, bail};
use farcall::http::{HttpOptions, router, serve};
use farcall::registry::HttpRegistrar;
use farcall::server::{Limits, Service, Tokens};
use farcall::transport::{Listener, TlsServer};
use farcall::{Address, Server};

use crate::settings::Settings;

/// A server that listens, and has not begun to serve.
pub struct Process {
    server: Server,
    pages: Option<Listener>,
}

impl Process {
    /// Listens at the addresses of the settings.
    ///
    /// # Errors
    ///
    /// A setting is not valid, a file cannot be read, or an address is taken.
    pub async fn bind(service: Service, settings: &Settings) -> anyhow::Result<Self> {
        let mut limits = Limits::default();
        if let Some(seconds) = settings.drain_seconds {
            limits = limits.drain_timeout(Duration::from_secs(seconds));
        }
        let listen = match &settings.listen {
            Some(address) => address.clone(),
            None => Address::parse("tcp@127.0.0.1:7001")?,
        };
        let mut builder = Server::builder()
            .service(service)
            .limits(limits)
            .version(env!("CARGO_PKG_VERSION"))
            .listen(listen);
        if let Some(tls) = tls(settings)? {
            builder = builder.tls(tls);
        }
        if let Some(tokens) = &settings.tokens {
            // Every holder of a token may call everything. `AuthorizeLayer` says who may call what.
            builder = builder.authenticate(Tokens::file(tokens)?);
        }
        if let Some(url) = &settings.registry {
            builder = builder.register_with(registrar(url, settings)?);
        }
        if let Some(address) = &settings.advertise {
            builder = builder.advertise(address.clone());
        }
        let server = builder.bind().await?;
        let pages = match &settings.http {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        Ok(Self { server, pages })
    }

    /// Returns the address at which calls are served, with its port.
    pub fn address(&self) -> Option<&Address> {
        self.server.addresses().next()
    }

    /// Returns the address of the pages.
    pub fn pages(&self) -> Option<&Address> {
        self.pages.as_ref().map(Listener::address)
    }

    /// Serves until `stop` is ready. Then it leaves the registry, finishes the calls under way, and
    /// returns.
    pub async fn serve_until<T>(self, stop: impl Future<Output = T>) {
        let handle = self.server.handle();
        let serving = self.server.serve_until(stop);
        let Some(listener) = self.pages else {
            return serving.await;
        };
        // They answer until the server has ended: /readyz says that it drains.
        let options = HttpOptions::default();
        let pages = serve(listener, router(handle.clone(), options), handle.ended());
        tokio::join!(serving, pages);
    }
}

fn tls(settings: &Settings) -> anyhow::Result<Option<TlsServer>> {
    let (certificate, key) = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) if settings.client_ca.is_none() => return Ok(None),
        _ => bail!("TLS needs both `certificate` and `key`"),
    };
    let mut tls = TlsServer::builder().certificate_files(certificate, key);
    if let Some(authorities) = &settings.client_ca {
        tls = tls.client_roots_file(authorities);
    }
    Ok(Some(tls.build()?))
}

fn registrar(url: &str, settings: &Settings) -> anyhow::Result<HttpRegistrar> {
    // A server that was killed is gone from the registry after this time.
    let mut registrar = HttpRegistrar::new(url)?.ttl(Duration::from_secs(30));
    if let Some(file) = &settings.registry_token_file {
        registrar = registrar.token_file(file);
    }
    if let Some(file) = &settings.registry_ca {
        let pem = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        registrar = registrar.extra_roots(&pem)?;
    }
    Ok(registrar)
}
