//! HTTP: connections, heads and bodies that do not end, and answers that are not read.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::arguments::MAX_BODY;
use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::honest::Call;
use crate::peer::http;
use crate::peer::socket::{connect_from_elsewhere, connect_reluctantly, discard};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "idle-http-connections",
            "4,200 idle HTTP connections from one address, again and again",
            idle_http_connections,
        )
        .beside(Call::Gateway),
        Attack::new(
            "idle-registry-connections",
            "16,500 idle connections to a registry from one address, again and again",
            idle_http_connections_to_registry,
        )
        .at_registry(),
        Attack::new(
            "http-heads-never-finished",
            "2,000 requests whose head of 60 KB does not end",
            http_heads_never_finished,
        )
        .beside(Call::Gateway)
        .ended_after(20),
        Attack::new(
            "gateway-bodies-never-finished",
            "500 calls by plain HTTP, each one byte short of 4 MiB",
            gateway_bodies_never_finished,
        )
        .beside(Call::Gateway)
        .max_mb(512)
        .ended_after(45),
        Attack::new(
            "registry-bodies-never-finished",
            "500 requests with heartbeats at a registry, each one byte short of 4 MiB",
            registry_bodies_never_finished,
        )
        .at_registry()
        .lasting(15),
        Attack::new(
            "gateway-answers-never-read",
            "100 calls by plain HTTP whose answers of 3 MiB are never read",
            gateway_answers_never_read,
        )
        .beside(Call::Gateway)
        .max_mb(512)
        .ended_after(45),
        Attack::new(
            "gateway-waiting-calls",
            "1,000 calls by plain HTTP that wait an hour, with metadata of 30 KB each",
            gateway_waiting_calls,
        )
        .beside(Call::Gateway),
        Attack::new(
            "metrics-never-read",
            "200 connections that ask 100 times for /metrics",
            metrics_never_read,
        )
        .beside(Call::Gateway)
        .ended_after(45),
        Attack::new(
            "debug-pages-never-read",
            "200 connections that ask 100 times for the data of the debug page",
            debug_pages_never_read,
        )
        .beside(Call::Gateway)
        .ended_after(45),
    ]
}

/// Connections have a limit for each peer, so that those of other addresses are served.
async fn idle_http_connections(target: Target) -> io::Result<()> {
    stay_idle(target.http, 4_200).await
}

/// The same at the registry.
async fn idle_http_connections_to_registry(target: Target) -> io::Result<()> {
    stay_idle(target.http, 16_500).await
}

async fn stay_idle(address: SocketAddr, count: usize) -> io::Result<()> {
    begin().await?;
    spawn_each(count, |_| async move {
        loop {
            // Ends when the server closes it.
            if let Ok(stream) = connect_from_elsewhere(address).await {
                discard(stream).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    });
    stay().await
}

/// A head has 10 s, and a size that is checked before it is complete.
async fn http_heads_never_finished(target: Target) -> io::Result<()> {
    let mut head = http::head("POST", target.http, "/rpc/Arith.multiply", 15, "");
    head.truncate(head.len() - 2);
    head.extend(format!("X-Padding: {}", "a".repeat(60_000)).into_bytes());
    send_each(target.http, 2_000, head.into()).await
}

/// The bodies of all requests share a registry's memory for them, of which one client has half; a body has 10 s.
async fn registry_bodies_never_finished(target: Target) -> io::Result<()> {
    let mut request = http::head("POST", target.http, "/v1/heartbeats", MAX_BODY, "");
    request.extend(vec![b' '; MAX_BODY - 1]);
    send_each(target.http, 500, request.into()).await
}

/// A body has a time, and what all bodies hold has a bound.
async fn gateway_bodies_never_finished(target: Target) -> io::Result<()> {
    let mut request = http::head("POST", target.http, "/rpc/Echo.echo", MAX_BODY, "");
    request.extend(vec![b' '; MAX_BODY - 1]);
    send_each(target.http, 500, request.into()).await
}

/// Answers that wait for readers over HTTP have a bound, and a time.
async fn gateway_answers_never_read(target: Target) -> io::Result<()> {
    let body = format!(r#"{{"data":"{}"}}"#, "A".repeat(3 * 1024 * 1024));
    let request = http::send("POST", target.http, "/rpc/Echo.echo", body.as_bytes());
    send_each(target.http, 100, request.into()).await
}

/// Calls take places until their callers leave, and their metadata counts.
async fn gateway_waiting_calls(target: Target) -> io::Result<()> {
    let metadata: String =
        (0..1_000).map(|number| format!("Farcall-Meta-{number}: {}\r\n", "a".repeat(12))).collect();
    let body = br#"{"ms":3600000}"#;
    let mut request = http::head("POST", target.http, "/rpc/Echo.sleep", body.len(), &metadata);
    request.extend(body);
    send_each(target.http, 1_000, request.into()).await
}

/// Requests after another on one connection wait until the answer before is read.
async fn metrics_never_read(target: Target) -> io::Result<()> {
    send_each(target.http, 200, http::get(target.http, "/metrics").repeat(100).into()).await
}

/// The same for answers that are made at each request.
async fn debug_pages_never_read(target: Target) -> io::Result<()> {
    let request = http::get(target.http, "/debug/farcall/overview.json");
    send_each(target.http, 200, request.repeat(100).into()).await
}

/// Sends these bytes on each of `count` connections, reads nothing, and stays.
async fn send_each(address: SocketAddr, count: usize, bytes: Bytes) -> io::Result<()> {
    begin().await?;
    spawn_each(count, |_| {
        let bytes = bytes.clone();
        async move {
            let mut stream = connect_reluctantly(address).await?;
            // The server may end it before it has taken all.
            let _ = stream.write_all(&bytes).await;
            stay().await
        }
    });
    stay().await
}
