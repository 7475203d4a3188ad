//! What is trusted, and what is shown, where etcd is spoken to over TLS.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

use crate::options::{EtcdOptions, EtcdOptionsError};

/// The TLS side of the HTTP client. It is made for `http` endpoints, too, where it is never used:
/// the HTTP client would otherwise look for a provider of cryptography that nobody installed.
pub(crate) fn client_config(config: &EtcdOptions) -> Result<ClientConfig, EtcdOptionsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("versions of TLS", &error))?
        .with_root_certificates(roots(config)?);
    let Some(identity) = &config.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client certificate", &identity.chain)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|error| wrong("key of the client certificate", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| wrong("client certificate", &error))
}

fn roots(config: &EtcdOptions) -> Result<RootCertStore, EtcdOptionsError> {
    let mut roots = RootCertStore::empty();
    for pem in &config.extra_roots {
        for certificate in certificates("extra root certificate", pem)? {
            roots.add(certificate).map_err(|error| wrong("extra root certificate", &error))?;
        }
    }
    // Reading the system's own takes a while: only who needs them pays.
    if config.endpoints.use_tls() {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            warn!(%error, "a root certificate of the system does not read");
        }
        // Old ones that rustls does not take are common in the stores of systems.
        roots.add_parsable_certificates(native.certs);
    }
    Ok(roots)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, EtcdOptionsError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| wrong(what, &error))?;
    if found.is_empty() {
        return Err(wrong(what, &"no certificate in it, in PEM format"));
    }
    Ok(found)
}

fn wrong(what: &'static str, why: &dyn std::fmt::Display) -> EtcdOptionsError {
    EtcdOptionsError::Tls { what, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_read_is_named() {
        let config = || EtcdOptions::new("http://a").unwrap();
        for (config, expected) in [
            (
                config().extra_roots("nothing"),
                "the extra root certificate for etcd does not read: no certificate",
            ),
            (config().client_certificate("", ""), "the client certificate for etcd does not read"),
        ] {
            let error = client_config(&config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
