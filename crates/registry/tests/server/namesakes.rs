//! Two servers that register one instance: tokens of registrations, over HTTP.

use farcall_registry::server::RegistryOptions;
use serde_json::json;

use crate::support::{Running, call, start};

const INSTANCE: &str = "/v1/services/Arith/instances/tcp@10.0.0.1:7001";

/// Registers the instance; returns the token of the registration.
async fn register(running: &Running) -> String {
    let answer = running.put("Arith", "tcp@10.0.0.1:7001").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

async fn delete(running: &Running, token: &str) {
    let header = format!("X-Farcall-Token: {token}");
    assert_eq!(running.send(&format!("DELETE {INSTANCE}"), &[&header], "").await.status, 204);
}

async fn heartbeat(running: &Running, token: &str) -> u16 {
    let header = format!("X-Farcall-Token: {token}");
    running.send(&format!("POST {INSTANCE}/heartbeat"), &[&header], "").await.status
}

#[tokio::test]
async fn stopping_server_leaves_its_namesake() {
    let running = start(RegistryOptions::default()).await;
    let (a, b) = (register(&running).await, register(&running).await);
    assert_ne!(a, b);
    for _ in 0..2 {
        delete(&running, &a).await;
        assert_eq!(running.get(INSTANCE).await.status, 200);
    }
    assert_eq!((heartbeat(&running, &a).await, heartbeat(&running, &b).await), (404, 200));
    delete(&running, "not-a-token-of-this-registry").await;
    delete(&running, &b).await;
    assert_eq!(running.get(INSTANCE).await.status, 404);
}

#[tokio::test]
async fn removal_without_a_token_is_an_operators() {
    let running = start(RegistryOptions::default()).await;
    register(&running).await;
    register(&running).await;
    assert_eq!(running.send(&format!("DELETE {INSTANCE}"), &[], "").await.status, 204);
    assert_eq!(running.get(INSTANCE).await.status, 404);
}

#[tokio::test]
async fn token_may_be_in_the_body() {
    let running = start(RegistryOptions::default()).await;
    let body = r#"{"addr":"10.0.0.1:7001","service":"Arith","token":"mine"}"#;
    for request in ["POST /registry", &format!("PUT {INSTANCE}")] {
        assert_eq!(running.send(request, &[], body).await.json()["token"], "mine");
    }
    let other = register(&running).await;
    let beat = format!("POST {INSTANCE}/heartbeat");
    assert_eq!(running.send(&beat, &[], r#"{"token":"mine"}"#).await.json()["token"], "mine");
    assert_eq!(running.send(&beat, &[], r#"{"token":"no one's"}"#).await.status, 400);
    let body = json!({"instances": [
        {"service": "Arith", "id": "tcp@10.0.0.1:7001", "token": "mine"},
        {"service": "Arith", "id": "tcp@10.0.0.1:7001", "token": "gone"},
        {"service": "Arith", "id": "tcp@10.0.0.1:7001"},
    ]});
    let reply = running.send("POST /v1/heartbeats", &[], &body.to_string()).await.json();
    assert_eq!(reply["renewed"], 2);
    assert_eq!(reply["unknown"], json!([{"service": "Arith", "id": "tcp@10.0.0.1:7001"}]));

    running.send(&format!("DELETE {INSTANCE}"), &[], r#"{"token":"mine"}"#).await;
    assert_eq!(running.get(INSTANCE).await.status, 200);
    running.send(&format!("DELETE {INSTANCE}"), &[], &format!(r#"{{"token":"{other}"}}"#)).await;
    assert_eq!(running.get(INSTANCE).await.status, 404);
}

#[tokio::test]
async fn ambiguous_tokens_are_refused_and_change_nothing() {
    let running = start(RegistryOptions::default()).await;
    register(&running).await;
    let delete = format!("DELETE {INSTANCE}");
    let two = ["X-Farcall-Token: a", "X-Farcall-Token: b"];
    let long = format!("X-Farcall-Token: {}", "x".repeat(65));
    for (headers, body, part) in [
        (&two[..], "", "more than once"),
        (&two[..1], r#"{"token":"b"}"#, "differ"),
        (&[&*long][..], "", "1 to 64"),
        (&["X-Farcall-Token:"][..], "", "1 to 64"),
    ] {
        let answer = running.send(&delete, headers, body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.error().contains(part), "{}", answer.error());
    }
    assert_eq!(running.get(INSTANCE).await.status, 200);
}

#[tokio::test]
async fn curl_keeps_a_server_registered_without_tokens() {
    let running = start(RegistryOptions::default()).await;
    for _ in 0..100 {
        let headers = ["X-Farcall-Server: 10.0.0.1:7001"];
        assert_eq!(running.send("POST /registry", &headers, "").await.status, 200);
    }
    assert_eq!(running.get("/registry").await.json(), json!(["tcp@10.0.0.1:7001"]));
    running.send("DELETE /v1/services/~/instances/tcp@10.0.0.1:7001", &[], "").await;
    assert_eq!(running.get("/registry").await.json(), json!([]));
}

#[tokio::test(start_paused = true)]
async fn registrations_outlive_a_restart_with_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let options = || RegistryOptions::default().snapshot(folder.path().join("snapshot.json"));
    let registry = farcall_registry::server::Registry::open(options()).await.unwrap();
    let put = |token: &str| format!(r#"{{"addr":"tcp@10.0.0.1:7001","token":"{token}"}}"#);
    for token in ["a", "b"] {
        let (status, reply, _) = call(&registry, &format!("PUT {INSTANCE}"), &put(token)).await;
        assert_eq!((status.as_u16(), &reply["token"]), (200, &json!(token)));
    }
    registry.close().await;
    drop(registry);

    let registry = farcall_registry::server::Registry::open(options()).await.unwrap();
    call(&registry, &format!("DELETE {INSTANCE}"), r#"{"token":"a"}"#).await;
    assert_eq!(registry.counts().up, 1);
    let (status, ..) = call(&registry, &format!("POST {INSTANCE}/heartbeat"), r#"{"token":"b"}"#).await;
    assert_eq!(status.as_u16(), 200);
    call(&registry, &format!("DELETE {INSTANCE}"), r#"{"token":"b"}"#).await;
    assert_eq!(registry.counts().instances, 0);
}
