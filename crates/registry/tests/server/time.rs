//! Expiry, the guard against mass expiry, and warming, in paused time.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farcall_registry::server::{Registry, RegistryOptions};
use farcall_registry::wire::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use crate::support::call;

const TTL: Duration = Duration::from_secs(30);

async fn running() -> Registry {
    let settings = RegistryOptions::default().ttl(TTL).heartbeat(Duration::from_secs(10));
    let registry = Registry::open(settings).await.unwrap();
    let run = registry.clone();
    tokio::spawn(async move { run.run(std::future::pending()).await });
    registry
}

fn register(registry: &Registry, count: u16) {
    for n in 0..count {
        let instance = json!({"service": "A", "id": n.to_string(), "addr": format!("10.0.0.1:{}", 1 + n)});
        registry.register(serde_json::from_value(instance).unwrap()).unwrap();
    }
}

fn states(registry: &Registry) -> Vec<(String, String)> {
    let name = |listed: &farcall_registry::wire::InstanceRecord| format!("{:?}", listed.state).to_lowercase();
    registry.list("A").iter().map(|listed| (listed.instance.id.clone(), name(listed))).collect()
}

#[tokio::test(start_paused = true)]
async fn instance_expires_within_a_second_of_its_ttl() {
    let registry = running().await;
    register(&registry, 1);
    sleep(TTL - Duration::from_millis(10)).await;
    assert_eq!(registry.list("A").len(), 1);
    sleep(Duration::from_millis(1010)).await;
    assert_eq!(registry.list("A"), []);
    assert_eq!(registry.renew("A", "0"), None);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_renew_the_lease_and_return_the_interval() {
    let registry = running().await;
    register(&registry, 1);
    for _ in 0..20 {
        sleep(Duration::from_secs(25)).await;
        let (status, body, _) = call(&registry, "POST /v1/services/A/instances/0/heartbeat", "").await;
        assert_eq!(
            (status.as_u16(), &body["ttl_ms"], &body["heartbeat_ms"]),
            (200, &json!(30_000), &json!(10_000))
        );
    }
    assert_eq!(registry.list("A")[0].rev, 1);
}

/// Sets the wall clock of this thread to this number of seconds after 1970.
fn set_wall_clock(seconds: u64) {
    thread_local!(static SECONDS: Cell<u64> = const { Cell::new(0) });
    SECONDS.set(seconds);
    Timestamp::set_clock(|| UNIX_EPOCH + Duration::from_secs(SECONDS.get()));
}

#[tokio::test(start_paused = true)]
async fn wall_clock_that_jumps_moves_no_lease() {
    const NOW: u64 = 2_000_000_000;
    set_wall_clock(NOW);
    let registry = running().await;
    register(&registry, 2);
    // An hour ahead, ten years back, to the beginning of time, and past the year 9999.
    for seconds in [NOW + 3600, NOW - 315_360_000, 0, 300_000_000_000, NOW] {
        set_wall_clock(seconds);
        // Paused time: less than a lease of 30 s, and more than one in two steps, so that only what is renewed stays.
        sleep(Duration::from_secs(20)).await;
        let (status, body, _) = call(&registry, "POST /v1/services/A/instances/0/heartbeat", "").await;
        assert_eq!((status.as_u16(), &body["ttl_ms"]), (200, &json!(30_000)), "{seconds}");
        let (_, list, _) = call(&registry, "GET /v1/services/A/instances?include=last_seen", "").await;
        let seen = list["instances"][0]["last_seen"].as_str().unwrap();
        assert!(humantime_of(seen) <= UNIX_EPOCH + Duration::from_secs(seconds), "{seconds}: {seen}");
        assert_eq!(call(&registry, "GET /v1/status", "").await.0.as_u16(), 200, "{seconds}");
    }
    assert_eq!(states(&registry), [("0".to_owned(), "up".to_owned())], "the other one has expired");
}

/// Parses a time of the interface.
fn humantime_of(text: &str) -> SystemTime {
    serde_json::from_value::<Timestamp>(json!(text)).unwrap().into()
}

#[tokio::test(start_paused = true)]
async fn requested_ttl_is_granted_with_a_third_as_heartbeat() {
    let registry = running().await;
    let body = r#"{"addr":"10.0.0.1:1","ttl_ms":6000}"#;
    let (_, body, _) = call(&registry, "PUT /v1/services/A/instances/0", body).await;
    assert_eq!((&body["ttl_ms"], &body["heartbeat_ms"]), (&json!(6000), &json!(2000)));
    sleep(Duration::from_secs(7)).await;
    assert_eq!(registry.list("A"), []);
}

#[tokio::test(start_paused = true)]
async fn mass_expiry_is_withheld_for_one_more_ttl() {
    let registry = running().await;
    register(&registry, 10);
    sleep(Duration::from_secs(20)).await;
    for n in 0..6 {
        registry.renew("A", &n.to_string()).unwrap();
    }
    sleep(Duration::from_secs(11)).await;
    assert_eq!(states(&registry).iter().filter(|(_, state)| state == "stale").count(), 4);
    // Stale instances are not listed with those that are up.
    let (_, list, _) = call(&registry, "GET /v1/services/A/instances", "").await;
    assert_eq!(list["instances"].as_array().unwrap().len(), 6);
    let (_, list, _) = call(&registry, "GET /v1/services/A/instances?include=stale", "").await;
    assert_eq!(list["instances"].as_array().unwrap().len(), 10);
    // A DELETE is not withheld.
    call(&registry, "DELETE /v1/services/A/instances/9", "").await;
    // One comes back, the others expire.
    registry.renew("A", "8").unwrap();
    for _ in 0..3 {
        sleep(Duration::from_secs(10)).await;
        for n in [0, 1, 2, 3, 4, 5, 8] {
            registry.renew("A", &n.to_string()).unwrap();
        }
    }
    sleep(Duration::from_secs(2)).await;
    let up: Vec<_> = states(&registry).into_iter().map(|(id, state)| id + &state).collect();
    assert_eq!(up, ["0up", "1up", "2up", "3up", "4up", "5up", "8up"]);
}

#[tokio::test(start_paused = true)]
async fn last_list_is_served_when_all_instances_are_silent() {
    let registry = running().await;
    register(&registry, 3);
    sleep(TTL + Duration::from_secs(1)).await;
    let (_, list, headers) = call(&registry, "GET /registry?service=A", "").await;
    assert_eq!(
        (list.as_array().unwrap().len(), &headers["x-farcall-server-count"]),
        (3, &"3".parse().unwrap())
    );
    sleep(TTL + Duration::from_secs(1)).await;
    let (_, list, _) = call(&registry, "GET /registry?service=A", "").await;
    assert_eq!(list, json!([]));
}

#[tokio::test(start_paused = true)]
async fn registry_without_a_snapshot_warms_for_one_heartbeat() {
    let registry = running().await;
    register(&registry, 1);
    let mut tags = Vec::new();
    for warming in [true, false] {
        for path in ["/v1/services", "/v1/services/A/instances", "/v1/services/A/instances/0", "/v1/status"] {
            let (status, body, headers) = call(&registry, &format!("GET {path}"), "").await;
            assert_eq!((status.as_u16(), body.get("warming").is_some()), (200, warming), "{path}");
            assert_eq!(headers.contains_key("x-farcall-warming"), warming, "{path}");
        }
        let (status, list, headers) = call(&registry, "GET /registry?service=A", "").await;
        assert_eq!((status.as_u16(), list.as_array().unwrap().len()), (200, 1));
        assert_eq!(headers.contains_key("x-farcall-warming"), warming);
        tags.push(headers["etag"].clone());
        let (status, body, _) = call(&registry, "GET /readyz", "").await;
        assert_eq!(
            (status.as_u16(), body.get("error").is_some()),
            if warming { (503, true) } else { (200, false) }
        );
        assert_eq!(call(&registry, "GET /healthz", "").await.0, 200);
        sleep(Duration::from_secs(11)).await;
    }
    assert_ne!(tags[0], tags[1]);
}

#[tokio::test(start_paused = true)]
async fn watchers_get_a_snapshot_when_warming_ends() {
    let registry = running().await;
    register(&registry, 1);
    let router = registry.router(&[]);
    let request = axum::http::Request::get("/v1/watch").header("host", "localhost");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("event: snapshot").count() < 2 {
        let part = futures::StreamExt::next(&mut body).await.unwrap().unwrap();
        text += std::str::from_utf8(&part).unwrap();
    }
    let (first, second) = text.rsplit_once("event: snapshot").unwrap();
    assert!(first.contains(r#""warming":true"#) && !second.contains("warming"));
    assert!(!text.contains("resync"));
    // After that, a comment every 15 s.
    let began = tokio::time::Instant::now();
    let ping = futures::StreamExt::next(&mut body).await.unwrap().unwrap();
    assert_eq!((&ping[..], began.elapsed().as_secs()), (&b": ping\n\n"[..], 15));
}
