//! The full interface: services, instances, heartbeats, overrides, long polls.

use std::time::{Duration, Instant};

use farcall_registry::server::RegistryOptions;
use serde_json::{Value, json};

use crate::support::{Response, Running, start};

const A: &str = "/v1/services/Arith/instances";

async fn ids(running: &Running, query: &str) -> Vec<String> {
    let list = running.get(&format!("{A}{query}")).await.json();
    list["instances"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

async fn patch(running: &Running, id: &str, body: &str) -> Response {
    running.send(&format!("PATCH {A}/{id}"), &[], body).await
}

#[tokio::test]
async fn instance_is_put_read_renewed_and_deleted() {
    let running = start(RegistryOptions::default()).await;
    let path = format!("{A}/one");
    let body = r#"{"addr":"10.0.0.1:7001","metadata":{"k":"<script>\n\u2028"},"future":1}"#;
    let put = running.send(&format!("PUT {path}"), &[], body).await;
    assert_eq!((put.status, &put.json()["ttl_ms"]), (200, &json!(300_000)));

    let one = running.get(&path).await.json();
    assert_eq!(
        (&one["service"], &one["id"], &one["addr"]),
        (&json!("Arith"), &json!("one"), &json!("tcp@10.0.0.1:7001"))
    );
    assert_eq!(one["metadata"]["k"], "<script>\n\u{2028}");
    assert!(one["last_seen"].is_string() && one["registered_at"].is_string() && one["epoch"].is_string());

    let beat = running.send(&format!("POST {path}/heartbeat"), &[], "").await;
    assert_eq!((beat.status, &beat.json()["heartbeat_ms"]), (200, &json!(240_000)));
    assert_eq!(beat.json()["rev"], put.json()["rev"]);

    for _ in 0..2 {
        let gone = running.send(&format!("DELETE {path}"), &[], "").await;
        assert_eq!((gone.status, gone.body.len()), (204, 0));
        assert!(gone.header("x-farcall-rev").is_some());
    }
    for (request, part) in [("GET", ""), ("POST", "/heartbeat"), ("PATCH", "")] {
        let answer = running.send(&format!("{request} {path}{part}"), &[], "{}").await;
        assert_eq!(answer.status, 404);
        assert!(answer.error().contains("`Arith` has no instance `one`"), "{}", answer.error());
    }
}

#[tokio::test]
async fn ids_are_percent_encoded_in_paths() {
    let running = start(RegistryOptions::default()).await;
    let path = format!("{A}/unix@%2Frun%2Fa.sock");
    let put = running.send(&format!("PUT {path}"), &[], r#"{"addr":"unix@/run/a.sock"}"#).await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(running.get(&path).await.json()["id"], "unix@/run/a.sock");
    assert_eq!(
        running.get("/registry?service=Arith").await.header("x-farcall-servers"),
        Some("unix@/run/a.sock")
    );
    assert_eq!(running.send(&format!("DELETE {path}"), &[], "").await.status, 204);
    assert_eq!(running.registry.counts().instances, 0);
}

#[tokio::test]
async fn path_and_body_must_agree() {
    let running = start(RegistryOptions::default()).await;
    for (body, part) in [
        (r#"{"addr":"10.0.0.1:1","id":"two"}"#, "`two` in the body and `one` in the path"),
        (r#"{"addr":"10.0.0.1:1","service":"Text"}"#, "`Text` in the body and `Arith` in the path"),
        ("", "empty"),
    ] {
        let answer = running.send(&format!("PUT {A}/one"), &[], body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains(part), "{}", answer.error());
    }
    let same = r#"{"addr":"10.0.0.1:1","id":"one","service":"Arith"}"#;
    assert_eq!(running.send(&format!("PUT {A}/one"), &[], same).await.status, 200);
}

#[tokio::test]
async fn operator_sets_and_removes_overrides() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    running.put("Arith", "10.0.0.2:1").await;
    let drained = patch(&running, "10.0.0.1:1", r#"{"drain": true}"#).await;
    assert_eq!((drained.status, &drained.json()["state"]), (200, &json!("draining")));
    assert_eq!(drained.json()["overrides"], json!({"drain": true}));
    // A registration does not remove the override.
    running.put("Arith", "10.0.0.1:1").await;
    assert_eq!(running.get("/registry?service=Arith").await.json(), json!(["tcp@10.0.0.2:1"]));
    assert_eq!(ids(&running, "").await.len(), 2);

    let weighed = patch(&running, "10.0.0.2:1", r#"{"weight": 0}"#).await.json();
    assert_eq!((&weighed["weight"], &weighed["state"]), (&json!(0), &json!("up")));
    assert_eq!(running.get("/registry?service=Arith").await.json(), json!([]));

    // Omitted overrides stay; null removes one.
    let rev = patch(&running, "10.0.0.2:1", "{}").await.json()["rev"].clone();
    assert_eq!(rev, weighed["rev"]);
    let back = patch(&running, "10.0.0.2:1", r#"{"weight": null}"#).await.json();
    assert_eq!((&back["weight"], back.get("overrides")), (&json!(100), None));
    patch(&running, "10.0.0.1:1", r#"{"drain": null}"#).await;
    assert_eq!(running.get("/registry?service=Arith").await.json().as_array().unwrap().len(), 2);

    for body in [r#"{"drian": true}"#, r#"{"drain": 1}"#, r#"{"weight": 70000}"#, "[]", ""] {
        assert_eq!(patch(&running, "10.0.0.2:1", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn many_heartbeats_fit_one_request_and_unknown_instances_are_returned() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    let short = r#"{"addr":"10.0.0.2:1","ttl_ms":9000}"#;
    running.send("PUT /v1/services/~/instances/short", &[], short).await;
    let body = r#"{"instances":[{"service":"Arith","id":"10.0.0.1:1"},{"id":"short"},{"service":"Arith","id":"no"}]}"#;
    let answer = running.send("POST /v1/heartbeats", &[], body).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!((&answer["renewed"], &answer["heartbeat_ms"]), (&json!(2), &json!(3000)));
    assert_eq!(answer["unknown"], json!([{"service": "Arith", "id": "no"}]));
    // Without one that is renewed, the interval is that of instances that ask for none.
    let none = running.send("POST /v1/heartbeats", &[], r#"{"instances":[]}"#).await.json();
    assert_eq!((&none["renewed"], &none["heartbeat_ms"]), (&json!(0), &json!(240_000)));

    // Ten thousand fit into a request.
    let many: Vec<_> =
        (0..10_000).map(|n| json!({"service": "Arith", "id": format!("tcp@10.0.0.1:{n}")})).collect();
    let answer = running.send("POST /v1/heartbeats", &[], &json!({"instances": many}).to_string()).await;
    assert_eq!(answer.json()["unknown"].as_array().unwrap().len(), 10_000);
    let more = format!(r#"{{"instances":[{}{{"id":""}}]}}"#, r#"{"id":""},"#.repeat(20_000));
    let answer = running.send("POST /v1/heartbeats", &[], &more).await;
    assert!(answer.status == 413 && answer.error().contains("more than 20000"), "{answer:?}");
    let answer = running.send("POST /v1/heartbeats", &[], r#"{"instances":[{"service":"A"}]}"#).await;
    assert!(answer.status == 400 && answer.error().contains("`id`"), "{answer:?}");
}

#[tokio::test]
async fn services_are_listed_with_their_counts() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    running.put("Arith", "10.0.0.2:1").await;
    running.put("~", "10.0.0.3:1").await;
    patch(&running, "10.0.0.1:1", r#"{"drain": true}"#).await;
    let services = running.get("/v1/services").await.json();
    assert_eq!(
        services["services"],
        json!([
            {"name": "", "instances": 1, "up": 1, "draining": 0, "stale": 0, "rev": 3},
            {"name": "Arith", "instances": 2, "up": 1, "draining": 1, "stale": 0, "rev": 4},
        ])
    );
    assert_eq!(services["rev"], 4);
    running.send("DELETE /v1/services/~/instances/10.0.0.3:1", &[], "").await;
    assert_eq!(running.get("/v1/services").await.json()["services"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn list_can_be_filtered_by_zone_and_include_last_seen() {
    let running = start(RegistryOptions::default()).await;
    for (id, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        let body = json!({"addr": "10.0.0.1:1", "zone": zone}).to_string();
        running.send(&format!("PUT {A}/{id}"), &[], &body).await;
    }
    assert_eq!(ids(&running, "").await, ["a1", "a2", "b1"]);
    assert_eq!(ids(&running, "?zone=a").await, ["a1", "a2"]);
    assert_eq!(ids(&running, "?zone=c").await, [""; 0]);
    assert_eq!(ids(&running, "?zone=b&include=stale").await, ["b1"]);
    let seen = running.get(&format!("{A}?include=stale,last_seen")).await;
    assert!(seen.json()["instances"][0]["last_seen"].is_string());
    assert_eq!(seen.header("etag"), None);
    // An unknown service has an empty list.
    let unknown = running.get("/v1/services/Unknown/instances").await;
    assert_eq!((unknown.status, &unknown.json()["instances"]), (200, &json!([])));
}

#[tokio::test]
async fn long_poll_answers_when_the_list_changes() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    let list = running.get(A).await.json();
    let (epoch, rev) = (list["epoch"].as_str().unwrap(), list["rev"].as_u64().unwrap());

    // At once: without a revision, with another epoch, with a past or a future revision.
    for query in [
        "?wait=55s".to_owned(),
        format!("?epoch=other&rev={rev}&wait=55s"),
        format!("?epoch={epoch}&rev={}&wait=55s", rev - 1),
        format!("?rev={}&wait=55s", rev - 1),
        format!("?epoch={epoch}&rev={}&wait=55s", rev + 1000),
    ] {
        assert_eq!(running.get(&format!("{A}{query}")).await.status, 200, "{query}");
    }
    // With status 304: no change, with and without waiting.
    for query in [format!("?epoch={epoch}&rev={rev}"), format!("?rev={rev}&wait=20ms")] {
        let answer = running.get(&format!("{A}{query}")).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{query}");
        assert!(answer.header("x-farcall-rev").is_some());
    }
    // After a change of this list, and not of another.
    let path = format!("{A}?epoch={epoch}&rev={rev}&wait=55s");
    let poll = running.get(&path);
    let change = async {
        while running.registry.counts().watchers == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.put("Text", "10.0.0.9:1").await;
        running.put("Arith", "10.0.0.2:1").await;
    };
    let began = Instant::now();
    let (answer, ()) = tokio::join!(poll, change);
    assert_eq!(answer.json()["instances"].as_array().map(Vec::len), Some(2));
    assert!(began.elapsed() < Duration::from_secs(40));
    assert_eq!(running.registry.counts().watchers, 0);
}

#[tokio::test]
async fn long_poll_of_an_unknown_service_waits_for_it() {
    let running = start(RegistryOptions::default()).await;
    let rev = running.get(A).await.json()["rev"].clone();
    let path = format!("{A}?rev={rev}&wait=55s");
    let change = async {
        while running.registry.counts().watchers == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.put("Arith", "10.0.0.2:1").await;
    };
    let (answer, ()) = tokio::join!(running.get(&path), change);
    assert_eq!((answer.status, ids(&running, "").await.len()), (200, 1));
}

#[tokio::test]
async fn too_many_instances_are_refused_with_429() {
    let running = start(RegistryOptions::default().max_instances(1)).await;
    assert_eq!(running.put("Arith", "10.0.0.1:1").await.status, 200);
    let answer = running.put("Arith", "10.0.0.2:1").await;
    assert!(answer.status == 429 && answer.error().contains("no room"), "{answer:?}");
    assert_eq!(running.put("Arith", "10.0.0.1:1").await.status, 200);
}

#[tokio::test]
async fn invalid_queries_are_400_with_the_value() {
    let running = start(RegistryOptions::default()).await;
    for (path, part) in [
        (format!("{A}?rev=new"), "rev=`new`"),
        (format!("{A}?wait=55"), "wait=`55`"),
        (format!("{A}?include=all"), "include=`all`"),
        (format!("{A}?zone=%zz"), "query"),
        ("/v1/services/a%2Fb/instances".to_owned(), "a/b"),
        ("/v1/services/%ff/instances".to_owned(), "UTF-8"),
        (format!("/v1/services/{}/instances", "a".repeat(129)), "128"),
        ("/registry?service=a,b".to_owned(), "a,b"),
        ("/v1/watch?service=%00".to_owned(), "service"),
    ] {
        let answer = running.get(&path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.error().contains(part), "{path}: {}", answer.error());
    }
}

#[tokio::test]
async fn status_has_counts_and_limits() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    let status = running.get("/v1/status").await.json();
    assert_eq!(
        status["counts"],
        json!({"services":1,"instances":1,"up":1,"draining":0,"stale":0,"watchers":0})
    );
    assert_eq!(status["limits"]["ttl_ms"], 300_000);
    assert_eq!(status["limits"]["max_body_bytes"], 65_536);
    assert!(status["version"].is_string() && status["uptime_ms"].is_u64() && status["epoch"].is_string());
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    running.send(&format!("POST {A}/10.0.0.1:1/heartbeat"), &[], "").await;
    running.get("/nowhere/1").await;
    let answer = running.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    for line in [
        r#"farcall_registry_instances{state="up"} 1"#,
        r#"farcall_registry_instances{state="stale"} 0"#,
        "farcall_registry_services 1",
        "farcall_registry_watchers 0",
        "farcall_registry_revision 1",
        "farcall_registry_warming 1",
        "farcall_registry_registrations_total 1",
        "farcall_registry_heartbeats_total 1",
        "farcall_registry_expirations_total 0",
        "farcall_registry_held_back_total 0",
        r#"farcall_registry_requests_total{route="other",method="GET",code="404"} 1"#,
        r#"farcall_registry_request_duration_seconds_count{route="other"} 1"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    // Each metric is described once, and text from clients does not become a label.
    let helps: Vec<_> = text.lines().filter(|line| line.starts_with("# HELP")).collect();
    assert!(helps.len() >= 12 && !text.contains("nowhere"));
    let _: Value = running.get("/v1/status").await.json();
}
