//! Certificates for tests: an authority, and what it signs. All are PEM.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority that signs certificates.
pub struct Authority {
    /// The certificate of the authority.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, alone.
    pub chain: String,
    /// The key of the certificate.
    pub key: String,
}

impl Authority {
    /// Creates an authority with this common name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate for these names, each a host name or an IP address.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, |_| ())
    }

    /// Signs a certificate for these names after `change` has changed its parameters.
    #[must_use]
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { chain, key: key.serialize_pem() }
    }
}

impl Certificate {
    /// Creates a self-signed certificate for these names.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_keys_are_pem() {
        let authority = Authority::new("ca");
        for certificate in [authority.issue(&["a.example", "127.0.0.1"]), Certificate::self_signed(&["b"])] {
            assert!(certificate.chain.starts_with("-----BEGIN CERTIFICATE-----"), "{certificate:?}");
            assert!(certificate.key.starts_with("-----BEGIN PRIVATE KEY-----"));
            assert_ne!(certificate.chain, authority.certificate);
        }
    }
}
