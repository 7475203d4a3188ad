//! Certificates in files: the errors of broken ones, and the reload of new ones.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use farcall_test_support::pki::{Authority, Certificate};
use farcall_test_support::wait;
use farcall_transport::{Listener, TlsClient, TlsError, TlsServer};

use super::{listen, meet, trusting};

/// The time between two checks of the files.
const EVERY: Duration = Duration::from_millis(20);

#[test]
fn file_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let [cert, key] = write(&authority.issue(&["a"]), folder.path());
    let [cert, key] = [cert.to_str().unwrap(), key.to_str().unwrap()];
    let other = folder.path().join("other.key");
    fs::write(&other, authority.issue(&["b"]).key).unwrap();
    let other = other.to_str().unwrap();
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    let broken = folder.path().join("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let broken = broken.to_str().unwrap();
    let garbage = folder.path().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let garbage = garbage.to_str().unwrap();

    let server = |cert: &str, key: &str| TlsServer::builder().certificate_files(cert, key).build();
    let error = |outcome: Result<TlsServer, TlsError>| outcome.unwrap_err().to_string();
    assert!(server(cert, key).is_ok());
    for (outcome, start) in [
        (server(&missing, key), format!("the file {missing} cannot be read: ")),
        (server(cert, &missing), format!("the file {missing} cannot be read: ")),
        (server(key, key), format!("the certificate in {key} cannot be used: there is no certificate in it")),
        (server(cert, cert), format!("the key in {cert} cannot be used: there is no private key in it")),
        (server(broken, key), format!("the certificate in {broken} cannot be used: ")),
        (server(garbage, key), format!("the certificate in {garbage} cannot be used: ")),
        (
            server(cert, other),
            format!("the certificate in {cert} and the key in {other} do not belong together"),
        ),
        (TlsServer::builder().build(), "a TLS server needs a certificate and its key".to_owned()),
    ] {
        let text = error(outcome);
        assert!(text.starts_with(&start), "{text}\n{start}");
    }
    for outcome in [
        TlsClient::builder().roots_file(garbage).build(),
        TlsClient::builder().roots_pem(&*authority.certificate).certificate_files(cert, other).build(),
    ] {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(garbage) || text.contains(other), "{text}");
    }
    let named = TlsClient::builder().roots_pem(&*authority.certificate).server_name("no name").build();
    assert_eq!(named.unwrap_err().to_string(), r#""no name" is not a name that a certificate can have"#);
}

/// Returns the paths of a certificate and its key in `folder`.
fn paths(folder: &Path) -> [PathBuf; 2] {
    [folder.join("cert.pem"), folder.join("key.pem")]
}

/// Writes a certificate and its key, and returns their paths.
fn write(certificate: &Certificate, folder: &Path) -> [PathBuf; 2] {
    let [cert, key] = paths(folder);
    fs::write(&cert, &certificate.chain).unwrap();
    fs::write(&key, &certificate.key).unwrap();
    [cert, key]
}

/// Returns `true` if a new connection to the server gets a certificate for this name.
async fn is_shown(listener: &Listener, client: &TlsClient, name: &str) -> bool {
    let (near, _) = meet(listener, client).await;
    near.unwrap().tls().unwrap().certificate.as_ref().unwrap().has_name(name)
}

#[test]
fn descriptions_for_logs_name_files_and_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Authority::new("a").issue(&["127.0.0.1"]);
    let [chain, key] = write(&pair, folder.path());
    let server = TlsServer::builder().certificate_files(&chain, &key);
    let client =
        TlsClient::builder().roots_file(&chain).certificate_files(&chain, &key).server_name("shop.example");
    let of_clients = [format!("{client:?}"), format!("{:?}", client.build().unwrap())];
    let of_servers = [format!("{server:?}"), format!("{:?}", server.build().unwrap())];
    for described in of_clients.iter().chain(&of_servers) {
        assert!(described.contains("cert.pem") && described.contains("key.pem"), "{described}");
    }
    assert!(of_clients.iter().all(|described| described.contains("shop.example")), "{of_clients:?}");
    let given = format!(
        "{:?}{:?}",
        TlsServer::builder().certificate_pem(&*pair.chain, &*pair.key),
        TlsClient::builder().certificate_pem(&*pair.chain, &*pair.key)
    );
    assert!(given.starts_with("TlsServerBuilder") && given.contains("TlsClientBuilder"), "{given}");
    assert!(!given.contains("BEGIN") && !given.contains(pair.key.lines().nth(1).unwrap()), "{given}");
}

/// The warnings of this process.
struct Log;

static WARNINGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let warnings =
                tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
            warnings.with_ansi(false).with_writer(|| Self).init();
        });
    }

    /// Returns `true` if one line has all of these parts.
    fn has_line(parts: &[&str]) -> bool {
        let bytes = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

#[tokio::test]
async fn server_shows_new_certificate_and_keeps_the_old_if_the_new_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    write(&authority.issue(&["127.0.0.1", "first.example"]), folder.path());
    let [cert, key] = paths(folder.path());
    let tls = TlsServer::builder().certificate_files(&cert, key).reload_interval(EVERY).build().unwrap();
    let listener = listen(&tls).await;
    let client = trusting(&authority);
    assert!(is_shown(&listener, &client, "first.example").await);

    Log::start();
    fs::write(&cert, "broken").unwrap();
    let rejection = [cert.to_str().unwrap(), "cannot be used; the old ones stay"];
    wait::until("the broken certificate is rejected", || Log::has_line(&rejection)).await;
    assert!(is_shown(&listener, &client, "first.example").await);

    write(&authority.issue(&["127.0.0.1", "second.example"]), folder.path());
    let is_new = async || is_shown(&listener, &client, "second.example").await;
    wait::until_async("the new certificate is shown", is_new).await;
}

#[tokio::test]
async fn tls_sessions_are_not_resumed_after_roots_change() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let pair = ours.issue(&["127.0.0.1"]);
    let roots = folder.path().join("clients.pem");
    fs::write(&roots, &ours.certificate).unwrap();
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_file(&roots)
        .reload_interval(EVERY)
        .build()
        .unwrap();
    let listener = listen(&tls).await;
    let own = ours.issue(&["client.example"]);
    let client =
        TlsClient::builder().roots_pem(&*ours.certificate).certificate_pem(&*own.chain, &*own.key).build();
    let client = client.unwrap();
    let (_, far) = meet(&listener, &client).await;
    far.unwrap();

    fs::write(&roots, &theirs.certificate).unwrap();
    let is_refused = async || meet(&listener, &client).await.1.is_err();
    wait::until_async("the client is refused", is_refused).await;
}

#[tokio::test]
async fn client_trusts_new_roots_when_they_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, &first.certificate).unwrap();
    let client = TlsClient::builder().roots_file(&roots).reload_interval(EVERY).build().unwrap();
    let listener = listen(&super::server(&second.issue(&["127.0.0.1"]))).await;
    assert!(meet(&listener, &client).await.0.is_err());

    fs::write(&roots, format!("{}{}", first.certificate, second.certificate)).unwrap();
    let is_trusted = async || meet(&listener, &client).await.0.is_ok();
    wait::until_async("the server is trusted", is_trusted).await;
}
