//! The TLS configuration of the HTTP client: trusted authorities, and the client's certificate. Parsing
//! them is left to `farcall-tls`.

use farcall_discovery::source::http::trusted_roots;
use farcall_tls::{TlsError, client_config};
use rustls::ClientConfig;

use crate::options::EtcdOptions;

/// Creates the TLS side of the HTTP client.
pub(crate) fn configure(options: &EtcdOptions) -> Result<ClientConfig, TlsError> {
    let roots = trusted_roots(&options.extra_roots, options.endpoints.use_tls())?;
    client_config(roots, options.identity.as_ref(), &[])
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
