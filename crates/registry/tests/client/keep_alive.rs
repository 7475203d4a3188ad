//! Connections that the registry closes at the moment when the next request is sent.

use farcall_discovery::{Instance, Registrar, Renewal};
use farcall_registry::client::HttpRegistrar;
use farcall_test_support::wait::PATIENCE;

use crate::fake_registry::{
    FakeRegistry, Reply, Request, RunningDiscovery, discovery, json, list, not_found,
};

const REGISTRATION: &str = r#"{"ttl_ms":30000,"heartbeat_ms":10000}"#;

/// A response after which the client expects the connection to stay open.
fn keep_alive(body: &str) -> Vec<u8> {
    let (length, kind) = (body.len(), "content-type: application/json");
    format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn instance() -> Instance {
    Instance::new("S", "tcp@10.0.0.1:7001".parse().unwrap())
}

fn registrar(fake: &FakeRegistry) -> HttpRegistrar {
    HttpRegistrar::new(&fake.url()).unwrap().timeout(PATIENCE)
}

#[tokio::test]
async fn request_on_a_closed_connection_is_sent_again() {
    for reply in [Reply::KeepAliveThenClose, Reply::KeepAliveThenReset] {
        let fake = FakeRegistry::new(move |_| reply(keep_alive(REGISTRATION))).await;
        let registrar = registrar(&fake);
        let mut lease = registrar.register(&instance()).await.unwrap().lease;
        for _ in 0..3 {
            let renewed = registrar.renew(&instance(), &mut lease).await.unwrap();
            assert!(matches!(renewed, Renewal::Renewed(_)));
        }
        registrar.register(&instance()).await.unwrap();
        registrar.deregister(&instance(), lease).await.unwrap();
        let answered: Vec<_> = fake.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(answered, ["PUT", "POST", "POST", "POST", "PUT", "DELETE"]);
        assert_eq!(fake.closed_unanswered(), 5, "each but the first was sent twice");
    }
}

#[tokio::test]
async fn list_request_on_a_closed_connection_is_sent_again() {
    for reply in [Reply::KeepAliveThenClose, Reply::KeepAliveThenReset] {
        let fake = FakeRegistry::new(move |request: &Request| match request.target.as_str() {
            "/registry?service=S" => reply(keep_alive(r#"["10.0.0.1:1"]"#)),
            _ => not_found(),
        })
        .await;
        let mut running = RunningDiscovery::of(discovery(&fake.url()));
        running.wait_for_ports(&[1]).await;
        let mut failures = 0;
        while fake.closed_unanswered() < 5 {
            failures += usize::from(running.last().failing.is_some());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(failures, 0);
    }
}

#[tokio::test]
async fn connection_closed_while_idle_is_no_failure() {
    // `Bytes` closes at once, without announcing it.
    let fake = FakeRegistry::new(|_| Reply::Bytes(keep_alive(REGISTRATION))).await;
    let registrar = registrar(&fake);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    for _ in 0..50 {
        registrar.renew(&instance(), &mut lease).await.unwrap();
    }
}

#[tokio::test]
async fn request_is_sent_again_only_once() {
    let fake = FakeRegistry::new(|_| Reply::Reset).await;
    let error = registrar(&fake).register(&instance()).await.unwrap_err().to_string();
    assert!(error.contains("the answer broke off"), "{error}");
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn request_with_a_partial_response_is_not_sent_again() {
    let fake =
        FakeRegistry::new(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())).await;
    registrar(&fake).register(&instance()).await.unwrap_err();
    assert_eq!(fake.requests().len(), 1);
    fake.set_script(|_| json(&list("e", 1, &[])));
    registrar(&fake).register(&instance()).await.unwrap();
}
