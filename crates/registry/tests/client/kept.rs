//! Connections that are kept, and that the registry closes just when the next request is sent.

use farcall_discovery::{Instance, Registrar, Renewal};
use farcall_registry::client::HttpRegistrar;

use crate::told::{PATIENCE, Reply, Request, Running, Told, discovery, json, list, not_found};

const AGREED: &str = r#"{"ttl_ms":30000,"heartbeat_ms":10000}"#;

/// An answer after which the connection may be used again, as far as the client knows.
fn kept(body: &str) -> Vec<u8> {
    let (length, kind) = (body.len(), "content-type: application/json");
    format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn instance() -> Instance {
    Instance::new("S", "tcp@10.0.0.1:7001".parse().unwrap())
}

fn registrar(told: &Told) -> HttpRegistrar {
    HttpRegistrar::new(&told.url()).unwrap().timeout(PATIENCE)
}

#[tokio::test]
async fn a_request_whose_connection_is_closed_instead_of_answered_is_sent_again_on_another() {
    for reply in [Reply::Kept, Reply::KeptThenReset] {
        let told = Told::new(move |_| reply(kept(AGREED))).await;
        let registrar = registrar(&told);
        let mut lease = registrar.register(&instance()).await.unwrap().lease;
        for _ in 0..3 {
            let renewed = registrar.renew(&instance(), &mut lease).await.unwrap();
            assert!(matches!(renewed, Renewal::Renewed(_)));
        }
        registrar.register(&instance()).await.unwrap();
        registrar.deregister(&instance(), lease).await.unwrap();
        let answered: Vec<_> = told.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(answered, ["PUT", "POST", "POST", "POST", "PUT", "DELETE"]);
        assert_eq!(told.hung_up(), 5, "each but the first was sent twice");
    }
}

#[tokio::test]
async fn a_list_is_asked_for_again_where_the_connection_was_closed() {
    for reply in [Reply::Kept, Reply::KeptThenReset] {
        let told = Told::new(move |request: &Request| match request.target.as_str() {
            "/registry?service=S" => reply(kept(r#"["10.0.0.1:1"]"#)),
            _ => not_found(),
        })
        .await;
        let mut running = Running::of(discovery(&told.url()));
        running.until_ports(&[1]).await;
        let mut failures = 0;
        while told.hung_up() < 5 {
            failures += usize::from(running.last().failing.is_some());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(failures, 0);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_is_no_failure() {
    // `Bytes` closes at once, and the client has not been told that it will.
    let told = Told::new(|_| Reply::Bytes(kept(AGREED))).await;
    let registrar = registrar(&told);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    for _ in 0..50 {
        registrar.renew(&instance(), &mut lease).await.unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_never_answers_is_asked_twice_and_no_more() {
    let told = Told::new(|_| Reply::Reset).await;
    let error = registrar(&told).register(&instance()).await.unwrap_err().to_string();
    assert!(error.contains("the answer broke off"), "{error}");
    assert_eq!(told.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_its_middle_is_not_asked_for_again() {
    let told = Told::new(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())).await;
    registrar(&told).register(&instance()).await.unwrap_err();
    assert_eq!(told.requests().len(), 1);
    told.tell(|_| json(&list("e", 1, &[])));
    registrar(&told).register(&instance()).await.unwrap();
}
