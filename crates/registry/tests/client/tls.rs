//! Registries over `https`.

use std::net::SocketAddr;
use std::sync::Arc;

use farcall_discovery::{Instance, Registrar};
use farcall_registry::client::HttpRegistrar;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::told::{PATIENCE, Running, Told, discovery, json, list, not_found};

/// Puts TLS before a server, until the set is dropped. Returns its address and whom to trust.
async fn tls_before(server: SocketAddr) -> (SocketAddr, String, JoinSet<()>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
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
                // Clients that do not trust it hang up.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, certified.cert.pem(), tasks)
}

#[tokio::test]
async fn a_registry_is_asked_over_tls_if_it_is_trusted() {
    let told = Told::new(|request| {
        if request.is("GET", "/v1/services/S/instances") { json(&list("e", 1, &[1])) } else { not_found() }
    })
    .await;
    let (address, pem, _tasks) = tls_before(told.address).await;
    let url = format!("https://localhost:{}/registry", address.port());

    let patient = || discovery(&url);
    let mut strange = Running::of(patient());
    let said = strange.until_failing("certificate").await;
    assert!(said.contains(&format!("GET https://localhost:{}/", address.port())), "{said}");
    assert!(told.requests().is_empty());
    drop(strange);

    let mut trusting = Running::of(patient().extra_roots(pem.as_bytes()).unwrap());
    trusting.until_ports(&[1]).await;
}

#[tokio::test]
async fn a_server_registers_over_tls_if_the_registry_is_trusted() {
    let told = Told::new(|_| json(r#"{"ttl_ms":30000,"heartbeat_ms":10000}"#)).await;
    let (address, pem, _tasks) = tls_before(told.address).await;
    let url = format!("https://localhost:{}", address.port());
    let instance = Instance::new("S", "tcp@10.0.0.1:1".parse().unwrap());

    let patient = || HttpRegistrar::new(&url).unwrap().timeout(PATIENCE);
    let error = patient().register(&instance).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    patient().extra_roots(pem.as_bytes()).unwrap().register(&instance).await.unwrap();
}
