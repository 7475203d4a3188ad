//! Reading the names out of a certificate that TLS has verified.

use std::net::IpAddr;

use tracing::debug;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::certificate::{PeerCertificate, SubjectName};

/// Reads the names of a certificate. One that cannot be parsed has no names: a server that needs one
/// then turns its holder away.
pub(super) fn read(der: &[u8]) -> PeerCertificate {
    let mut certificate = PeerCertificate {
        names: Vec::new(),
        common_name: None,
        serial: String::new(),
        not_after: 0,
        der: der.to_vec(),
    };
    match X509Certificate::from_der(der) {
        Ok((_, read)) => fill(&mut certificate, &read),
        Err(error) => debug!(%error, "a verified certificate whose names do not read"),
    }
    certificate
}

fn fill(certificate: &mut PeerCertificate, read: &X509Certificate<'_>) {
    certificate.serial = read.raw_serial_as_string();
    certificate.not_after = read.validity().not_after.timestamp();
    certificate.common_name =
        read.subject().iter_common_name().find_map(|name| name.as_str().ok()).map(str::to_owned);
    if let Ok(Some(extension)) = read.subject_alternative_name() {
        certificate.names = extension.value.general_names.iter().filter_map(name).collect();
    }
}

fn name(name: &GeneralName<'_>) -> Option<SubjectName> {
    match *name {
        GeneralName::DNSName(name) => Some(SubjectName::Dns(name.to_owned())),
        GeneralName::URI(uri) => Some(SubjectName::Uri(uri.to_owned())),
        GeneralName::RFC822Name(mail) => Some(SubjectName::Email(mail.to_owned())),
        GeneralName::IPAddress(bytes) => ip(bytes).map(SubjectName::Ip),
        _ => None,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_a_certificate_have_no_names() {
        for der in [&b""[..], b"\x30\x82", b"hello"] {
            let certificate = read(der);
            assert_eq!((certificate.name(), certificate.names.len()), (None, 0));
        }
    }

    #[test]
    fn the_first_alternative_name_is_the_name_and_else_the_common_name() {
        let certificate = |names: &[rcgen::SanType], common_name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = names.to_vec();
            params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
            let key = rcgen::KeyPair::generate().unwrap();
            read(params.self_signed(&key).unwrap().der())
        };
        let uri = rcgen::SanType::URI("spiffe://example/billing".try_into().unwrap());
        let dns = rcgen::SanType::DnsName("billing.example".try_into().unwrap());
        let ip = rcgen::SanType::IpAddress([10, 0, 0, 7].into());
        let found = certificate(&[uri, dns, ip], "billing");
        assert_eq!(found.name().unwrap(), "spiffe://example/billing");
        assert!(found.has_name("billing.example") && found.has_name("10.0.0.7"));
        assert!(!found.has_name("billing"));
        assert_eq!(certificate(&[], "billing").name().unwrap(), "billing");
    }
}
