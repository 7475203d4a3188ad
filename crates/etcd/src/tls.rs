//! The TLS configuration of the HTTP client: trusted authorities, and the client's certificate. Parsing
//! them is left to `farcall-tls`.

use farcall_tls::{Pem, TlsError, add_roots, add_system_roots, client_config};
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

use crate::options::EtcdOptions;

/// Creates the TLS side of the HTTP client. It is needed for `http` endpoints, too, which never use it:
/// the HTTP client would otherwise look for a provider of cryptography that was never installed.
pub(crate) fn configure(options: &EtcdOptions) -> Result<ClientConfig, TlsError> {
    client_config(roots(options)?, options.identity.as_ref(), &[])
}

fn roots(options: &EtcdOptions) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in &options.extra_roots {
        add_roots(&mut roots, "extra root certificate", &Pem::Text(pem.clone()), &[])?;
    }
    // Reading the system's own takes a while, and is not needed without TLS.
    if options.endpoints.use_tls()
        && let Err(error) = add_system_roots(&mut roots)
    {
        warn!(%error, "only the extra root certificates are trusted");
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_cannot_be_parsed_are_named() {
        let options = || EtcdOptions::new("http://a").unwrap();
        for (options, expected) in [
            (
                options().extra_roots("nothing"),
                "the extra root certificate in the given PEM cannot be used: there is no certificate",
            ),
            (
                options().client_certificate("", ""),
                "the certificate in the given PEM cannot be used: there is no certificate",
            ),
        ] {
            let error = configure(&options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
