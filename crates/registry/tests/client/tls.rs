//! Registries over `https`.

use std::net::SocketAddr;
use std::sync::Arc;

use farcall_discovery::{Instance, Registrar};
use farcall_registry::client::HttpRegistrar;
use farcall_test_support::pki::Certificate;
use farcall_test_support::wait::PATIENCE;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::fake_registry::{FakeRegistry, RunningDiscovery, discovery, json, list, not_found};

/// Starts a TLS proxy for a server, which runs until the set is dropped. Returns its address and its certificate.
async fn tls_before(server: SocketAddr) -> (SocketAddr, String, JoinSet<()>) {
    let certificate = Certificate::self_signed(&["localhost"]);
    let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                // Clients that do not trust the certificate close the connection.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, certificate.chain, tasks)
}

#[tokio::test]
async fn discovery_uses_tls_if_the_registry_is_trusted() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/v1/services/S/instances") { json(&list("e", 1, &[1])) } else { not_found() }
    })
    .await;
    let (address, pem, _tasks) = tls_before(fake.address).await;
    let url = format!("https://localhost:{}/registry", address.port());

    let patient = || discovery(&url);
    let mut strange = RunningDiscovery::of(patient());
    let error = strange.wait_for_failure("certificate").await;
    assert!(error.contains(&format!("GET https://localhost:{}/", address.port())), "{error}");
    assert!(fake.requests().is_empty());
    drop(strange);

    let mut trusting = RunningDiscovery::of(patient().extra_roots(pem.as_bytes()).unwrap());
    trusting.wait_for_ports(&[1]).await;
}

#[tokio::test]
async fn registrar_uses_tls_if_the_registry_is_trusted() {
    let fake = FakeRegistry::new(|_| json(r#"{"ttl_ms":30000,"heartbeat_ms":10000}"#)).await;
    let (address, pem, _tasks) = tls_before(fake.address).await;
    let url = format!("https://localhost:{}", address.port());
    let instance = Instance::new("S", "tcp@10.0.0.1:1".parse().unwrap());

    let patient = || HttpRegistrar::new(&url).unwrap().timeout(PATIENCE);
    let error = patient().register(&instance).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    patient().extra_roots(pem.as_bytes()).unwrap().register(&instance).await.unwrap();
}
