//! [`Authority`]: a root certificate, an intermediate one, and the certificates that it has signed, as files.

use std::fs;
use std::path::Path;

use farcall_transport::{TlsClient, TlsServer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A directory with the files that a client and a server need to trust each other.
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    /// Creates `root.pem`, the chains `server.pem` and `client.pem`, which include the intermediate
    /// certificate, and the keys `server.key` and `client.key`.
    pub(crate) fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().unwrap() };
        let root = CertifiedIssuer::self_signed(authority_params("Test Root"), KeyPair::generate().unwrap())
            .unwrap();
        let intermediate = CertifiedIssuer::signed_by(
            authority_params("Test Intermediate"),
            KeyPair::generate().unwrap(),
            &root,
        )
        .unwrap();
        authority.write("root.pem", &root.pem());
        for (name, names, usage) in [
            ("server", &["127.0.0.1", "localhost"][..], ExtendedKeyUsagePurpose::ServerAuth),
            ("client", &["billing.example"], ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &intermediate).unwrap();
            authority.write(&format!("{name}.pem"), &(certificate.pem() + &intermediate.pem()));
            authority.write(&format!("{name}.key"), &key.serialize_pem());
        }
        authority
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    /// Returns the path of a file.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> Box<Path> {
        self.dir.path().join(name).into()
    }

    /// Returns the server's configuration, which requires a client certificate if `mutual`.
    pub(crate) fn server(&self, mutual: bool) -> TlsServer {
        let builder =
            TlsServer::builder().certificate_files(self.file("server.pem"), self.file("server.key"));
        let builder = if mutual { builder.client_roots_file(self.file("root.pem")) } else { builder };
        builder.build().unwrap()
    }

    /// Returns the client's configuration, with a client certificate.
    pub(crate) fn client(&self) -> TlsClient {
        let builder = TlsClient::builder().roots_file(self.file("root.pem"));
        builder.certificate_files(self.file("client.pem"), self.file("client.key")).build().unwrap()
    }
}

/// Returns the parameters of a certificate that may sign others.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}
