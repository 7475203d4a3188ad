//! Requests to a registry that take long to answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::http::{self, Connection};
use crate::peer::socket::discard;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "registry-lists",
            "20,000 instances; 4 connections loop over lists, with a change between",
            registry_lists,
        )
        .at_registry(),
        Attack::new("registry-mass-expiry", "60,000 instances fall silent together", registry_mass_expiry)
            .at_registry()
            .lasting(40),
        Attack::new(
            "registry-query-names",
            "4 connections with queries of 2,700 distinct names",
            registry_query_names,
        )
        .at_registry(),
        Attack::new(
            "registry-heartbeats",
            "20,000 instances; 2 connections with heartbeats for all of them in a request",
            registry_heartbeats,
        )
        .at_registry(),
        Attack::new(
            "registry-status",
            "99,000 instances; 4 connections ask for /v1/status and /metrics, with a change between",
            registry_status,
        )
        .at_registry()
        .max_mb(512),
        Attack::new(
            "registry-snapshot",
            "20,000 instances of 4 KB in a snapshot; one changed weight a second",
            registry_snapshot,
        )
        .at_registry()
        .with_snapshot(300)
        .max_mb(512)
        .lasting(20),
        Attack::new("registry-patches", "4 connections set overrides in a loop", registry_patches)
            .at_registry(),
        Attack::new(
            "registry-registrations",
            "4 connections register and remove instances in a loop",
            registry_registrations,
        )
        .at_registry(),
        Attack::new("registry-refusals", "4 connections with requests that are refused", registry_refusals)
            .at_registry(),
    ]
}

/// Registers instances of a service, with metadata of about this many bytes each.
pub(super) async fn fill(target: Target, service: &str, count: usize, metadata: usize) -> io::Result<()> {
    fill_with_ttl(target, service, count, metadata, Duration::from_secs(3600)).await
}

async fn fill_with_ttl(
    target: Target,
    service: &str,
    count: usize,
    metadata: usize,
    ttl: Duration,
) -> io::Result<()> {
    let metadata = if metadata == 0 { json!({}) } else { json!({"padding": "a".repeat(metadata)}) };
    let puts = (0..count).map(|number| {
        let addr = format!("tcp@10.{}.{}.{}:7001", number >> 16, number >> 8 & 255, number & 255);
        let zone = format!("z{}", number % 3);
        let body =
            json!({"addr": addr, "zone": zone, "metadata": metadata, "ttl_ms": ttl.as_millis() as u64});
        let path = format!("/v1/services/{service}/instances/i{number}");
        http::send("PUT", target.http, &path, body.to_string().as_bytes())
    });
    let mut connection = Connection::open(target.http).await?;
    let registered = connection.ask_all(puts).await?;
    if registered == count { Ok(()) } else { Err(io::Error::other(format!("{registered} of {count}"))) }
}

/// Returns a request that changes the weight of one instance of a service.
pub(super) fn change(target: Target, service: &str, number: usize) -> Vec<u8> {
    let body = format!(r#"{{"weight":{}}}"#, 1 + number % 60_000);
    http::send("PATCH", target.http, &format!("/v1/services/{service}/instances/i0"), body.as_bytes())
}

/// Lists are made once for each revision, in slices, and not under the lock that heartbeats need.
async fn registry_lists(target: Target) -> io::Result<()> {
    fill(target, "a", 20_000, 0).await?;
    begin().await?;
    let requests = vec![
        change(target, "a", 0),
        http::get(target.http, "/v1/services/a/instances?include=last_seen"),
        change(target, "a", 1),
        http::get(target.http, "/v1/services/a/instances?zone=z1"),
        change(target, "a", 2),
        http::get(target.http, "/v1/services"),
    ];
    repeat(target, 4, requests).await
}

/// Instances become stale after their time to live, and go after another. Both happen in slices.
async fn registry_mass_expiry(target: Target) -> io::Result<()> {
    const COUNT: usize = 60_000;
    const TTL: Duration = Duration::from_secs(15);
    // A heartbeat for what is there keeps it from expiring before the rest is.
    let beating = tokio::spawn(async move {
        let mut connection = Connection::open(target.http).await?;
        loop {
            sleep(TTL / 3).await;
            connection.ask_all(heartbeats(target, COUNT)).await?;
        }
        #[expect(unreachable_code, reason = "it names the type of the task's output")]
        io::Result::Ok(())
    });
    fill_with_ttl(target, "a", COUNT, 0, TTL).await?;
    beating_until_begin(beating, target, COUNT).await?;
    stay().await
}

/// Waits for the beginning, and renews all instances for the last time.
async fn beating_until_begin(
    beating: tokio::task::JoinHandle<io::Result<()>>,
    target: Target,
    count: usize,
) -> io::Result<()> {
    begin().await?;
    beating.abort();
    let mut connection = Connection::open(target.http).await?;
    connection.ask_all(heartbeats(target, count)).await?;
    Ok(())
}

/// Returns requests that renew the first `count` instances of `a`, with 20,000 names each.
fn heartbeats(target: Target, count: usize) -> Vec<Vec<u8>> {
    let names: Vec<_> =
        (0..count).map(|number| json!({"service": "a", "id": format!("i{number}")})).collect();
    let request = |names: &[serde_json::Value]| {
        http::send("POST", target.http, "/v1/heartbeats", json!({"instances": names}).to_string().as_bytes())
    };
    names.chunks(20_000).map(request).collect()
}

/// A query has a bound for the number of its names.
async fn registry_query_names(target: Target) -> io::Result<()> {
    let query: Vec<String> = (0..2_700).map(|number| format!("{number:x}")).collect();
    begin().await?;
    repeat(target, 4, vec![http::get(target.http, &format!("/registry?{}", query.join("&")))]).await
}

/// Renewing lets others in between.
async fn registry_heartbeats(target: Target) -> io::Result<()> {
    fill(target, "a", 20_000, 0).await?;
    let requests = heartbeats(target, 20_000);
    begin().await?;
    repeat(target, 2, requests).await
}

/// Sums are kept, and not counted at each request.
async fn registry_status(target: Target) -> io::Result<()> {
    fill(target, "a", 99_000, 0).await?;
    begin().await?;
    let requests = vec![
        change(target, "a", 0),
        http::get(target.http, "/v1/status"),
        change(target, "a", 1),
        http::get(target.http, "/metrics"),
    ];
    repeat(target, 4, requests).await
}

/// A snapshot is written less often, the larger it is.
async fn registry_snapshot(target: Target) -> io::Result<()> {
    fill(target, "a", 20_000, 4_000).await?;
    begin().await?;
    let mut connection = Connection::open(target.http).await?;
    for number in 0.. {
        connection.ask(&change(target, "a", number)).await?;
        // The rate of the attack: one change a second.
        sleep(Duration::from_secs(1)).await;
    }
    stay().await
}

/// Overrides are logged, at a rate.
async fn registry_patches(target: Target) -> io::Result<()> {
    fill(target, "a", 100, 0).await?;
    begin().await?;
    repeat(target, 4, vec![change(target, "a", 0), change(target, "a", 1)]).await
}

/// The same for registrations.
async fn registry_registrations(target: Target) -> io::Result<()> {
    begin().await?;
    let path = "/v1/services/b/instances/a";
    let requests = vec![
        http::send("PUT", target.http, path, br#"{"addr":"tcp@10.0.0.1:7001"}"#),
        http::send("DELETE", target.http, path, b""),
    ];
    repeat(target, 4, requests).await
}

/// Refusals are cheap, and logged at a rate.
async fn registry_refusals(target: Target) -> io::Result<()> {
    begin().await?;
    let requests = vec![
        http::send("PUT", target.http, "/v1/services/b/instances/a", b"{"),
        http::get(target.http, "/nothing/is/here"),
        http::send("POST", target.http, "/v1/services/b/instances/a/heartbeat", b""),
        http::get(SocketAddr::from(([192, 0, 2, 1], 80)), "/registry"),
    ];
    repeat(target, 4, requests).await
}

/// Sends requests without end on each of `count` connections, and reads the answers.
pub(super) async fn repeat(target: Target, count: usize, requests: Vec<Vec<u8>>) -> io::Result<()> {
    spawn_each(count, |_| {
        let requests = requests.concat();
        async move {
            loop {
                let (reader, writer) = TcpStream::connect(target.http).await?.into_split();
                tokio::spawn(discard(reader));
                let mut writer = BufWriter::new(writer);
                while writer.write_all(&requests).await.is_ok() {}
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    stay().await
}
