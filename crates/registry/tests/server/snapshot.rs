//! The snapshot: written after changes, read at a restart, renamed if damaged.

use std::path::Path;
use std::time::Duration;

use farcall_registry::server::{Registry, RegistryOptions};
use farcall_test_support::wait::{PATIENCE, until, until_async};
use serde_json::json;
use tokio::time::sleep;

use crate::support::call;

fn settings(file: &Path) -> RegistryOptions {
    RegistryOptions::default().ttl(Duration::from_secs(30)).heartbeat(Duration::from_secs(10)).snapshot(file)
}

fn register(registry: &Registry, id: &str) {
    let instance = json!({"service": "A", "id": id, "addr": "10.0.0.1:1", "weight": 50});
    registry.register(serde_json::from_value(instance).unwrap()).unwrap();
}

#[tokio::test]
async fn instances_and_overrides_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let first = Registry::open(settings(&file)).await.unwrap();
    register(&first, "a");
    register(&first, "b");
    call(&first, "PATCH /v1/services/A/instances/a", r#"{"drain":true,"weight":3}"#).await;
    let (_, before, _) = call(&first, "GET /v1/services/A/instances", "").await;
    first.close().await;

    let second = Registry::open(settings(&file)).await.unwrap();
    let (_, after, _) = call(&second, "GET /v1/services/A/instances", "").await;
    assert_ne!(before["epoch"], after["epoch"]);
    for n in 0..2 {
        for field in ["id", "addr", "weight", "state", "registered_at", "overrides"] {
            assert_eq!(before["instances"][n].get(field), after["instances"][n].get(field), "{field}");
        }
    }
    // Both are saved: without the override, the registered values apply again.
    let (_, back, _) =
        call(&second, "PATCH /v1/services/A/instances/a", r#"{"drain":null,"weight":null}"#).await;
    assert_eq!((&back["weight"], &back["state"]), (&json!(50), &json!("up")));
    // A heartbeat is accepted at once.
    assert_eq!(call(&second, "POST /v1/services/A/instances/b/heartbeat", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn running_registry_writes_changes_to_disk() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let registry = Registry::open(settings(&file)).await.unwrap();
    let run = registry.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    let holds = |id: &str| {
        let part = format!("\"id\":\"{id}\"");
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&part))
    };
    for id in ["first", "second"] {
        register(&registry, id);
        until("the change is written", || holds(id)).await;
    }
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    // As after a kill, only the file is left.
    drop(registry);
    assert_eq!(Registry::open(settings(&file)).await.unwrap().list("A").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn restored_instances_have_one_full_ttl() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let first = Registry::open(settings(&file)).await.unwrap();
    register(&first, "a");
    sleep(Duration::from_secs(25)).await;
    first.close().await;
    sleep(Duration::from_secs(3600)).await;
    let second = Registry::open(settings(&file)).await.unwrap();
    let run = second.clone();
    tokio::spawn(async move { run.run(std::future::pending()).await });
    sleep(Duration::from_secs(29)).await;
    assert_eq!(second.list("A").len(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(second.list("A").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn registry_with_a_complete_snapshot_is_ready_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let short = |ms| settings(&file).heartbeat(Duration::from_millis(ms));
    let first = Registry::open(settings(&file)).await.unwrap();
    assert!(first.is_warming());
    first.close().await;
    let second = Registry::open(short(1)).await.unwrap();
    assert!(second.is_warming(), "the first was warming itself");
    let run = second.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    until("warming ends", || !second.is_warming()).await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    second.close().await;
    let third = Registry::open(settings(&file)).await.unwrap();
    assert!(!third.is_warming());
    assert_eq!(call(&third, "GET /readyz", "").await.0, 200);
}

#[tokio::test]
async fn damaged_snapshot_is_renamed_and_the_registry_starts_empty() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    std::fs::write(&file, "{\"format\":\"farcall-reg").unwrap();
    let registry = Registry::open(settings(&file)).await.unwrap();
    assert!(registry.is_warming() && registry.counts().instances == 0);
    registry.close().await;
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0] == "registry.json" && names[1].starts_with("registry.json.damaged-"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn failing_snapshot_writes_are_counted_and_retried() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let registry = Registry::open(settings(&inner.join("registry.json"))).await.unwrap();
    std::fs::remove_dir(&inner).unwrap();
    let run = registry.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    register(&registry, "a");
    until_async("a write fails", async || {
        call(&registry, "GET /v1/status", "").await.1["snapshot"]["failures"] != 0
    })
    .await;
    register(&registry, "b");
    assert_eq!(registry.list("A").len(), 2);
    // It is written as soon as it can be.
    std::fs::create_dir(&inner).unwrap();
    until("the snapshot is written", || inner.join("registry.json").exists()).await;
    run.abort();
}

#[tokio::test]
async fn constant_changes_are_written_at_intervals() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(settings(&directory.path().join("registry.json"))).await.unwrap();
    let begun = std::time::Instant::now();
    let mut written = std::collections::BTreeSet::new();
    let change = async {
        for n in 0.. {
            register(&registry, &format!("i{n}"));
            let status = call(&registry, "GET /v1/status", "").await.1;
            written.extend(status["snapshot"]["written_at"].as_str().map(str::to_owned));
            if written.len() > 1 || begun.elapsed() > PATIENCE {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    registry.run(change).await;
    assert_eq!(written.len(), 2, "once at the start, and again");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}
