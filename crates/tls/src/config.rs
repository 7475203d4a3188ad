//! The configurations of both sides. The protocols inside of TLS (ALPN) and the resumption of sessions
//! are left to the caller, who sets them on what is returned.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::TlsError;
use crate::file::FileContent;
use crate::pem::Identity;

/// The certificates that a server requires of its clients.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients need none.
    #[default]
    None,
    /// Clients must have one that one of these authorities has signed.
    Required(RootCertStore),
    /// Clients may have none; if they have one, one of these authorities must have signed it.
    Optional(RootCertStore),
}

/// Returns the one provider of cryptography. It is named wherever a configuration is made, so that
/// nothing depends on what the process has installed.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Creates the configuration of a client that trusts `roots` and shows `identity` to servers that request it
/// for a certificate. `files` has the content of the identity's files.
///
/// # Errors
///
/// The identity cannot be read, or rustls rejects it.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<&Identity>,
    files: &[FileContent],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::other)?
        .with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = identity.read(files)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| identity.rejected(error))
}

/// Creates the configuration of a server that shows `identity`. `files` has the content of the
/// identity's files.
///
/// # Errors
///
/// The identity cannot be read, rustls rejects it, or there is no authority for clients.
pub fn server_config(
    identity: &Identity,
    clients: ClientAuth,
    files: &[FileContent],
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity.read(files)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::other)?;
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = match clients {
        ClientAuth::None => None,
        ClientAuth::Required(roots) => Some(verifier(roots).build()),
        ClientAuth::Optional(roots) => Some(verifier(roots).allow_unauthenticated().build()),
    };
    let builder = match verifier.transpose().map_err(TlsError::other)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    builder.with_single_cert(chain, key).map_err(|error| identity.rejected(error))
}

#[cfg(test)]
mod tests {
    use farcall_test_support::pki::Certificate;

    use super::*;

    fn identity() -> (String, String) {
        let Certificate { chain, key } = Certificate::self_signed(&["localhost"]);
        (chain, key)
    }

    #[test]
    fn both_sides_are_made_of_a_certificate_and_its_key() {
        let (chain, key) = identity();
        let identity = Identity::from_pem(chain, key);
        server_config(&identity, ClientAuth::None, &[]).unwrap();
        client_config(RootCertStore::empty(), Some(&identity), &[]).unwrap();
        client_config(RootCertStore::empty(), None, &[]).unwrap();
    }

    #[test]
    fn key_of_another_certificate_is_a_mismatch() {
        let ((chain, _), (_, key)) = (identity(), identity());
        let identity = Identity::from_pem(chain, key);
        let error = server_config(&identity, ClientAuth::None, &[]).unwrap_err();
        assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn server_that_requires_certificates_needs_an_authority() {
        let (chain, key) = identity();
        let clients = ClientAuth::Required(RootCertStore::empty());
        let error = server_config(&Identity::from_pem(chain, key), clients, &[]).unwrap_err();
        assert!(matches!(error, TlsError::Other(_)), "{error}");
    }
}
