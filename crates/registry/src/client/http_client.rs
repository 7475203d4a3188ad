//! Creates the HTTP client: pooling, proxies, and trusted certificates.

use std::time::Duration;

use farcall_tls::{Pem, TlsError, add_roots, add_system_roots, client_config};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::RootCertStore;
use tokio::task::spawn_blocking;

const USER_AGENT: &str = concat!("farcall-registry/", env!("CARGO_PKG_VERSION"));

/// An HTTP client, and the forward proxy that it uses.
#[derive(Debug)]
pub(super) struct HttpClient {
    pub(super) client: Client,
    /// The proxy's scheme and authority, without credentials; `None` if the registry is asked directly.
    pub(super) proxy: Option<String>,
}

/// Parses the certificates of a PEM file, at least one.
pub(super) fn parse_roots(pem: &[u8]) -> Result<Pem, TlsError> {
    // Checked here, not when they are needed: PEM can hold any bytes.
    let pem = Pem::Text(pem.to_owned());
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, "root certificate", &pem, &[])?;
    Ok(pem)
}

/// Creates a client for this registry. Proxies are those of the environment (`HTTP_PROXY`, `NO_PROXY` and so on), but none
/// is used for loopback addresses. The error is a message.
pub(super) async fn client(
    url: &Url,
    extra_roots: &[Pem],
    connect_limit: Duration,
) -> Result<HttpClient, String> {
    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        let extra_roots = extra_roots.to_vec();
        // It reads hundreds of files.
        roots = spawn_blocking(move || trusted_roots(&extra_roots))
            .await
            .map_err(|error| format!("the system's certificates: {error}"))?
            .map_err(|error| error.to_string())?;
    }
    let tls = client_config(roots, None, &[]).map_err(|error| error.to_string())?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        // Requests are sequential; and after an idle connection turns out to be closed, the next attempt must not get another
        // such connection.
        .pool_max_idle_per_host(1)
        .connect_timeout(connect_limit);
    let proxy = if is_loopback(url) {
        builder = builder.no_proxy();
        None
    } else {
        // As the client finds it.
        proxy_for(&Matcher::from_system(), url)
    };
    let client = builder.build().map_err(|error| error.to_string())?;
    Ok(HttpClient { client, proxy })
}

/// Returns the proxy that is used for a URL, as it is told in messages.
fn proxy_for(proxies: &Matcher, url: &Url) -> Option<String> {
    let proxy = proxies.intercept(&url.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    let authority = uri.authority()?.as_str();
    let address = authority.rsplit_once('@').map_or(authority, |(_credentials, address)| address);
    Some(format!("{}://{address}", uri.scheme_str()?))
}

fn trusted_roots(extra: &[Pem]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in extra {
        add_roots(&mut roots, "root certificate", pem, &[])?;
    }
    match add_system_roots(&mut roots) {
        // The given ones are enough.
        Err(_) if !roots.is_empty() => Ok(roots),
        outcome => outcome.map(|()| roots),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_without_a_certificate_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(parse_roots(pem), Err(TlsError::Pem { .. })));
        }
    }

    #[test]
    fn proxy_is_told_without_its_password() {
        let proxies = Matcher::builder()
            .http("http://user:secret@proxy:3128")
            .https("https://safe:3129")
            .no("inside.example")
            .build();
        let proxy = |url: &str| proxy_for(&proxies, &Url::parse(url).unwrap());
        assert_eq!(proxy("http://registry.example:7100/a").unwrap(), "http://proxy:3128");
        assert_eq!(proxy("https://registry.example").unwrap(), "https://safe:3129");
        assert_eq!(proxy("http://inside.example"), None);
    }

    #[test]
    fn loopback_addresses_use_no_proxy() {
        for (url, loopback) in [
            ("http://127.0.0.2:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
