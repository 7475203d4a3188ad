//! The recipe for certificates in `docs/SECURITY.md`: its commands run, and what they make is accepted.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::path::Path;
use std::process::Command;

use farcall::client::ConnectionOptions;
use farcall::transport::{TlsClient, TlsServer};
use farcall::{Channel, Server};

const DOCUMENT: &str = include_str!("../../../docs/SECURITY.md");

/// Runs the commands in this directory.
fn make_certificates(directory: &Path) {
    let (_, recipe) = DOCUMENT.split_once("```sh\n").unwrap();
    let (commands, _) = recipe.split_once("```").unwrap();
    let made = Command::new("sh").args(["-e", "-c", commands]).current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_recipe_are_accepted_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let file = |name: &str| directory.path().join(name);
    let tls = TlsServer::builder()
        .certificate_files(file("server.pem"), file("server.key"))
        .client_roots_file(file("ca.pem"))
        .build()
        .unwrap();
    let server = Server::builder()
        .method("Arith.square", async |(n,): (i64,)| n * n)
        .listen("tls@127.0.0.1:0")
        .tls(tls)
        .bind()
        .await
        .unwrap();
    let port = server.addresses().next().unwrap().port().unwrap();
    tokio::spawn(server.serve());
    for host in ["127.0.0.1", "localhost"] {
        let tls = TlsClient::builder()
            .roots_file(file("ca.pem"))
            .certificate_files(file("client.pem"), file("client.key"))
            .build()
            .unwrap();
        let options = ConnectionOptions::default().tls(tls);
        let channel = Channel::builder().to(format!("tls@{host}:{port}")).options(options).build().unwrap();
        assert_eq!(channel.call::<i64>("Arith.square", &(7,)).await.unwrap(), 49);
    }
}
