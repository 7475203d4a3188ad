//! Watches: Server-Sent Events, and resuming them.

use farcall_registry::server::RegistryOptions;
use farcall_test_support::wait::{until, until_async, within_patience};
use serde_json::json;

use crate::support::start;

#[tokio::test]
async fn watcher_gets_a_snapshot_and_then_each_change() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    running.put("Text", "10.0.0.2:1").await;
    let mut all = running.watch("", &[]).await;
    let mut arith = running.watch("?service=Arith", &[]).await;

    let snapshot = all.assert_next("snapshot").await;
    let epoch = snapshot.data["epoch"].as_str().unwrap().to_owned();
    assert_eq!((snapshot.id, &snapshot.data["rev"]), (format!("{epoch}-2"), &json!(2)));
    assert_eq!(snapshot.data["instances"].as_array().unwrap().len(), 2);
    assert_eq!(snapshot.data.get("service"), None);
    let snapshot = arith.assert_next("snapshot").await;
    assert_eq!(snapshot.data["service"], "Arith");
    assert_eq!(snapshot.data["instances"].as_array().unwrap().len(), 1);

    running.put("Text", "10.0.0.3:1").await;
    running.send("PATCH /v1/services/Arith/instances/10.0.0.1:1", &[], r#"{"drain":true}"#).await;
    running.send("DELETE /v1/services/Arith/instances/10.0.0.1:1", &[], "").await;

    let put = all.assert_next("put").await;
    assert_eq!(
        (put.id, &put.data["service"], &put.data["rev"]),
        (format!("{epoch}-3"), &json!("Text"), &json!(3))
    );
    for events in [&mut all, &mut arith] {
        let put = events.assert_next("put").await;
        assert_eq!((&put.data["instance"]["state"], &put.data["epoch"]), (&json!("draining"), &json!(epoch)));
        let delete = events.assert_next("delete").await;
        let expected = json!({"epoch": epoch, "rev": 5, "warming": true, "service": "Arith", "id": "10.0.0.1:1",
            "cause": "deleted"});
        assert_eq!((delete.id, delete.data), (format!("{epoch}-5"), expected));
    }
}

#[tokio::test]
async fn resumed_watcher_gets_the_changes_that_it_missed() {
    let running = start(RegistryOptions::default()).await;
    let mut events = running.watch("", &[]).await;
    let id = events.assert_next("snapshot").await.id;
    drop(events);
    running.put("Arith", "10.0.0.1:1").await;
    running.put("Text", "10.0.0.1:1").await;

    let known = format!("Last-Event-ID: {id}");
    let mut all = running.watch("", &[&known]).await;
    assert_eq!(all.assert_next("put").await.data["service"], "Arith");
    assert_eq!(all.assert_next("put").await.data["service"], "Text");
    let mut text = running.watch("?service=Text", &[&known]).await;
    assert_eq!(text.assert_next("put").await.data["service"], "Text");
}

#[tokio::test]
async fn watcher_of_another_epoch_gets_a_snapshot() {
    let running = start(RegistryOptions::default()).await;
    running.put("Arith", "10.0.0.1:1").await;
    let epoch = running.get("/healthz").await.json()["epoch"].as_str().unwrap().to_owned();
    for id in
        ["0123456789abcdef-1".to_owned(), format!("{epoch}-2"), "nonsense".to_owned(), format!("{epoch}-x")]
    {
        let mut events = running.watch("?service=Arith", &[&format!("Last-Event-ID: {id}")]).await;
        assert_eq!(
            events.assert_next("snapshot").await.data["instances"].as_array().unwrap().len(),
            1,
            "{id}"
        );
    }
}

#[tokio::test]
async fn too_slow_watcher_gets_resync_and_a_snapshot() {
    let running = start(RegistryOptions::default()).await;
    let mut events = running.watch("", &[]).await;
    events.assert_next("snapshot").await;
    // The watcher does not read meanwhile: far more bytes than the buffers hold, and more changes than the history keeps.
    let metadata = "x".repeat(4000);
    let mut written = 0;
    for n in 0..10_000_u64 {
        let instance = json!({"service": "A", "id": "a", "addr": "10.0.0.1:1", "weight": 1 + n % 2,
            "metadata": {"k": metadata}});
        running.registry.register(serde_json::from_value(instance).unwrap()).unwrap();
        written += 1;
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut seen = 0;
    loop {
        let event = events.next().await.unwrap();
        seen += 1;
        if event.name == "resync" {
            assert!(event.data["reason"].as_str().unwrap().contains("slow"));
            break;
        }
        assert_eq!(event.name, "put");
        assert!(event.data["rev"].as_u64().unwrap() < written, "no change was dropped");
    }
    assert!(seen < written);
    let snapshot = events.assert_next("snapshot").await;
    assert_eq!(snapshot.data["instances"].as_array().unwrap().len(), 1);
    running.put("B", "10.0.0.2:1").await;
    // After the snapshot, no change is missing.
    let mut at = snapshot.data["rev"].as_u64().unwrap();
    while at <= written {
        let put = events.assert_next("put").await;
        at += 1;
        assert_eq!(put.data["rev"], at);
    }
}

#[tokio::test]
async fn change_reaches_many_watchers() {
    let running = start(RegistryOptions::default()).await;
    let mut watchers = Vec::new();
    for _ in 0..50 {
        let mut events = running.watch("", &[]).await;
        events.assert_next("snapshot").await;
        watchers.push(events);
    }
    assert_eq!(running.registry.counts().watchers, 50);
    running.put("Arith", "10.0.0.1:1").await;
    for events in &mut watchers {
        assert_eq!(events.assert_next("put").await.data["instance"]["id"], "10.0.0.1:1");
    }
    drop(watchers);
    // A permit is released when its watcher is gone, which a write detects.
    let mut port = 1;
    until_async("all permits are released", async || {
        port += 1;
        running.put("Arith", &format!("10.0.0.1:{port}")).await;
        running.registry.counts().watchers == 0
    })
    .await;
}

#[tokio::test]
async fn too_many_watchers_are_refused_with_429() {
    let running = start(RegistryOptions::default().max_watchers(1)).await;
    let mut events = running.watch("", &[]).await;
    events.assert_next("snapshot").await;
    for path in ["/v1/watch", "/v1/services/A/instances?rev=0&wait=5s"] {
        let answer = running.get(path).await;
        assert!(answer.status == 429 && answer.error().contains("no room"), "{answer:?}");
    }
}

#[tokio::test]
async fn closing_ends_watches_and_long_polls() {
    let running = start(RegistryOptions::default()).await;
    let mut events = running.watch("", &[]).await;
    events.assert_next("snapshot").await;
    let poll = running.get("/v1/services/A/instances?rev=0&wait=55s");
    let close = async {
        until("the long poll waits", || running.registry.counts().watchers == 2).await;
        running.registry.close().await;
    };
    let (answer, ()) = within_patience("both end", async { tokio::join!(poll, close) }).await;
    assert_eq!(answer.status, 304);
    assert_eq!(events.next().await, None);
    assert_eq!(running.get("/v1/watch").await.status, 503);
    assert_eq!(running.get("/readyz").await.status, 503);
    assert_eq!(running.get("/healthz").await.status, 200);
}
