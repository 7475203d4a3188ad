//! Shares of clients: the memory of bodies, and the time between two requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use bytes::Bytes;
use farcall_registry::server::{Registry, RegistryOptions};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, yield_now};
use tower::ServiceExt;

use crate::support::call;

const KIB: usize = 1024;

/// Sends a request of a peer, and returns status and body of the response.
async fn ask(registry: &Registry, peer: u8, path: &str, body: Body) -> (u16, Value) {
    let request = Request::builder().method("POST").uri(path).header("host", "localhost");
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, peer], 7))));
    let response = registry.router(&[]).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Returns a body whose last byte does not come.
fn unfinished(bytes: usize) -> Body {
    let part = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b' '; bytes]))]);
    Body::from_stream(part.chain(stream::pending()))
}

/// Begins requests with such bodies, and returns those that are not refused.
async fn begin(registry: &Registry, peer: u8, count: usize, bytes: usize) -> Vec<JoinHandle<(u16, Value)>> {
    let mut begun = Vec::new();
    for _ in 0..count {
        let registry = registry.clone();
        let request = async move { ask(&registry, peer, "/v1/heartbeats", unfinished(bytes)).await };
        begun.push(tokio::spawn(request));
    }
    for _ in 0..100 {
        yield_now().await;
    }
    begun
}

#[tokio::test(start_paused = true)]
async fn unfinished_bodies_of_one_peer_leave_room_for_others() {
    let registry = Registry::open(RegistryOptions::default()).await.unwrap();
    let many = begin(&registry, 1, 40, 1000 * KIB).await;
    let large = || format!("{{\"instances\":[]}}{}", " ".repeat(100 * KIB));
    let (status, error) = ask(&registry, 1, "/v1/heartbeats", large().into()).await;
    assert_eq!(status, 429, "{error}");
    let error = error["error"].as_str().unwrap();
    assert_eq!(
        error,
        "the memory for the bodies of requests is full: 67108864 bytes, half of them for one client"
    );
    // Small bodies have room whatever others hold, those of the same address too; and others have theirs.
    let instance = Body::from(r#"{"addr":"10.0.0.9:1"}"#);
    assert_eq!(ask(&registry, 1, "/registry", instance).await.0, 200);
    assert_eq!(ask(&registry, 2, "/v1/heartbeats", large().into()).await.0, 200);
    // A body has 10 s. Nothing is left of those that were given up.
    for request in many {
        let (status, _) = request.await.unwrap();
        assert!(matches!(status, 408 | 429), "{status}");
    }
    assert_eq!(ask(&registry, 1, "/v1/heartbeats", large().into()).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn body_counts_as_it_lies_in_memory() {
    let registry = Registry::open(RegistryOptions::default()).await.unwrap();
    // 32 MiB are for one peer, and a buffer is of a power of two.
    for (bytes, room_for) in [(1024 * KIB, 32), (1025 * KIB, 16), (4096 * KIB, 8), (64 * KIB, 512)] {
        let begun = begin(&registry, 1, room_for + 3, bytes).await;
        let mut refused = 0;
        for request in begun {
            refused += usize::from(request.await.unwrap().0 == 429);
        }
        assert_eq!(refused, 3, "{bytes}");
    }
}

#[tokio::test]
async fn heartbeats_of_one_request_let_others_in() {
    const COUNT: usize = 20_000;
    let registry = Registry::open(RegistryOptions::default()).await.unwrap();
    call(&registry, "PUT /v1/services/A/instances/i7", r#"{"addr":"10.0.0.1:7"}"#).await;
    let names: Vec<_> = (0..COUNT).map(|n| json!({"service": "A", "id": format!("i{n}")})).collect();
    let body = json!({"instances": names}).to_string();
    let mut request = pin!(call(&registry, "POST /v1/heartbeats", &body));
    let mut turns = 0;
    let (status, reply, _) = poll_fn(|cx| {
        let polled = request.as_mut().poll(cx);
        turns += usize::from(polled.is_pending());
        polled
    })
    .await;
    assert_eq!(
        (status.as_u16(), &reply["renewed"], &reply["heartbeat_ms"]),
        (200, &json!(1), &json!(240_000))
    );
    let unknown = reply["unknown"].as_array().unwrap();
    assert_eq!((unknown.len(), &unknown[7]), (COUNT - 1, &json!({"service": "A", "id": "i8"})));
    // 128 in a turn, once to be checked and once to be renewed.
    assert!(turns >= 2 * COUNT / 128, "{turns} turns");
}

#[tokio::test]
async fn mistake_behind_many_heartbeats_renews_none() {
    let registry = Registry::open(RegistryOptions::default()).await.unwrap();
    call(&registry, "PUT /v1/services/A/instances/i0", r#"{"addr":"10.0.0.1:7"}"#).await;
    let seen = async || {
        let (_, one, _) = call(&registry, "GET /v1/services/A/instances/i0", "").await;
        one["last_seen"].clone()
    };
    let before = seen().await;
    // The time is shown in milliseconds: a renewal would show.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let many = r#"{"service":"A","id":"i0"},"#.repeat(1_000);
    for (end, status) in [("{}]}", 400), (r#"{"id":"a"}]"#, 400), (r#"{"id":"a"}]} x"#, 400)] {
        let body = format!(r#"{{"instances":[{many}{end}"#);
        let (answered, error, _) = call(&registry, "POST /v1/heartbeats", &body).await;
        assert_eq!(answered.as_u16(), status, "{error}");
    }
    assert_eq!(seen().await, before);
}
