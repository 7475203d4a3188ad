//! The HTTP client that requests go through: pooling, proxies, and whom it trusts.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::settings::SettingsError;

const USER_AGENT: &str = concat!("farcall-registry/", env!("CARGO_PKG_VERSION"));

/// The certificates of a PEM file; there must be one at least.
pub(super) fn read_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let wrong = |why: String| SettingsError::Roots { why };
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if roots.is_empty() {
        return Err(wrong("there is no certificate in them".to_owned()));
    }
    // What PEM holds is any bytes: that they are certificates is found out here, not when they are needed.
    let mut store = RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(roots)
}

/// A client for this registry. Proxies are those of the environment (`HTTP_PROXY`, `NO_PROXY` and so
/// on), but never for this machine's own addresses. An error is a sentence.
pub(super) async fn client(
    url: &Url,
    extra_roots: &[CertificateDer<'static>],
    connect_limit: Duration,
) -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        for root in extra_roots {
            roots.add(root.clone()).map_err(|error| format!("a certificate to trust: {error}"))?;
        }
        // Reads some hundred files.
        let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| format!("the system's certificates: {error}"))?;
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            let why = native.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            return Err(format!("no certificate to trust, for the system's do not load: {why}"));
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        // Requests go one after the other; and where a connection that was kept turns out to be closed, the
        // next try must not get another such.
        .pool_max_idle_per_host(1)
        .connect_timeout(connect_limit);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| error.to_string())
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
    fn what_is_no_certificate_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(read_roots(pem), Err(SettingsError::Roots { .. })));
        }
    }

    #[test]
    fn this_machine_is_asked_directly() {
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
