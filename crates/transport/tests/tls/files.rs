//! Certificates in files: what is said of broken ones, and that new ones are taken.

use std::fs;
use std::path::Path;
use std::time::Duration;

use farcall_transport::{TlsClient, TlsError, TlsServer};
use tokio::time::{sleep, timeout};

use super::authority::Authority;
use super::{PATIENCE, listen, meet, trusting};

const EVERY: Duration = Duration::from_millis(20);

#[test]
fn file_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let [cert, key] = authority.sign(&["a"]).write(folder.path());
    let [cert, key] = [cert.to_str().unwrap(), key.to_str().unwrap()];
    let other = folder.path().join("other.key");
    fs::write(&other, authority.sign(&["b"]).key).unwrap();
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
        TlsClient::builder().roots_pem(&*authority.pem).certificate_files(cert, other).build(),
    ] {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(garbage) || text.contains(other), "{text}");
    }
    let named = TlsClient::builder().roots_pem(&*authority.pem).server_name("no name").build();
    assert_eq!(named.unwrap_err().to_string(), r#""no name" is not a name that a certificate can have"#);
}

/// Meets again and again until the server shows a certificate for this name.
async fn until_shown(listener: &farcall_transport::Listener, client: &TlsClient, name: &str) {
    let shown = async {
        loop {
            let (near, _) = meet(listener, client).await;
            if near.unwrap().tls().unwrap().certificate.as_ref().unwrap().has_name(name) {
                return;
            }
            sleep(EVERY).await;
        }
    };
    timeout(PATIENCE, shown).await.unwrap();
}

fn server_of(folder: &Path) -> TlsServer {
    let paths = [folder.join("cert.pem"), folder.join("key.pem")];
    let [cert, key] = paths;
    TlsServer::builder().certificate_files(cert, key).reload_every(EVERY).build().unwrap()
}

#[tokio::test]
async fn server_shows_new_certificate_and_keeps_the_old_if_the_new_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    authority.sign(&["127.0.0.1", "first.example"]).write(folder.path());
    let listener = listen(&server_of(folder.path())).await;
    let client = trusting(&authority);
    until_shown(&listener, &client, "first.example").await;

    fs::write(folder.path().join("cert.pem"), "broken").unwrap();
    sleep(10 * EVERY).await;
    until_shown(&listener, &client, "first.example").await;

    authority.sign(&["127.0.0.1", "second.example"]).write(folder.path());
    until_shown(&listener, &client, "second.example").await;
}

#[tokio::test]
async fn tls_sessions_are_not_resumed_after_roots_change() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let pair = ours.sign(&["127.0.0.1"]);
    let roots = folder.path().join("clients.pem");
    fs::write(&roots, &ours.pem).unwrap();
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_file(&roots)
        .reload_every(EVERY)
        .build()
        .unwrap();
    let listener = listen(&tls).await;
    let own = ours.sign(&["client.example"]);
    let client = TlsClient::builder().roots_pem(&*ours.pem).certificate_pem(&*own.chain, &*own.key).build();
    let client = client.unwrap();
    let (_, far) = meet(&listener, &client).await;
    far.unwrap();

    fs::write(&roots, &theirs.pem).unwrap();
    let refused = async {
        while meet(&listener, &client).await.1.is_ok() {
            sleep(EVERY).await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn a_client_trusts_new_roots_once_they_are_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, &first.pem).unwrap();
    let client = TlsClient::builder().roots_file(&roots).reload_every(EVERY).build().unwrap();
    let listener = listen(&super::server(&second.sign(&["127.0.0.1"]))).await;
    assert!(meet(&listener, &client).await.0.is_err());

    fs::write(&roots, format!("{}{}", first.pem, second.pem)).unwrap();
    let trusted = async {
        while meet(&listener, &client).await.0.is_err() {
            sleep(EVERY).await;
        }
    };
    timeout(PATIENCE, trusted).await.unwrap();
}
