//! TLS: certificates from files, replaced while the registry runs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use farcall_test_support::pki::Certificate;
use farcall_test_support::wait::{PATIENCE, until_async};
use tempfile::TempDir;

use crate::support::{Running, assert_fails_with, command, install_tls, text};

struct Files {
    _directory: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        Self { _directory: directory, cert, key }
    }

    /// Writes a new pair, as tools for certificates do: each file at once. Returns the certificate.
    fn renew(&self) -> String {
        let certificate = Certificate::self_signed(&["localhost", "127.0.0.1"]);
        replace(&self.key, &certificate.key);
        replace(&self.cert, &certificate.chain);
        certificate.chain
    }

    fn args(&self) -> [&str; 4] {
        ["--tls-cert", text(&self.cert), "--tls-key", text(&self.key)]
    }
}

fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, file).unwrap();
}

/// Returns `true` if a client that trusts only this certificate gets a response.
async fn is_trusted(registry: &Running, certificate: &str) -> bool {
    install_tls();
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client =
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(PATIENCE).build().unwrap();
    client.get(format!("{}/registry", registry.url)).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn https_uses_new_certificates_and_refuses_invalid_ones() {
    let files = Files::new();
    let first = files.renew();
    let registry = Running::start(&files.args());
    assert!(registry.url.starts_with("https://127.0.0.1:"), "{}", registry.url);
    assert!(is_trusted(&registry, &first).await);

    let second = files.renew();
    until_async("the new certificate is in use", async || is_trusted(&registry, &second).await).await;
    assert!(!is_trusted(&registry, &first).await);

    replace(&files.cert, "-----BEGIN CERTIFICATE-----\nnonsense\n");
    registry.wait_for_log("the new certificates cannot be used; the old ones stay").await;
    assert!(is_trusted(&registry, &second).await);
    registry.end();
}

#[test]
fn invalid_tls_files_exit_with_code_5() {
    let files = Files::new();
    let run = |parts: &[&str]| {
        assert_fails_with(
            &mut command(&[&["--listen", "127.0.0.1:0"][..], &files.args()].concat()),
            5,
            parts,
        );
    };
    run(&[text(&files.cert), "cannot be read"]);
    files.renew();
    fs::write(&files.key, "").unwrap();
    run(&[text(&files.key), "private key"]);
    let other = Files::new();
    other.renew();
    fs::copy(&other.key, &files.key).unwrap();
    run(&[text(&files.cert), "do not belong together", text(&files.key)]);
    fs::write(&files.cert, "hello").unwrap();
    run(&[text(&files.cert), "no certificate"]);
}

#[tokio::test]
async fn plain_http_to_a_tls_port_blocks_no_other_client() {
    let files = Files::new();
    let cert = files.renew();
    let registry = Running::start(&files.args());
    let mut plain = TcpStream::connect(registry.url.strip_prefix("https://").unwrap()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    // A reset is an error, with nothing received.
    let _ = plain.read_to_end(&mut received);
    assert!(!received.starts_with(b"HTTP"));
    assert!(is_trusted(&registry, &cert).await);
}
