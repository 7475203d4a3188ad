//! Restarts: the snapshot, written in time, read again, and kept aside where it is damaged.

#![allow(clippy::unwrap_used, reason = "what is beside the tests is a part of them")]

mod server_support;

use std::path::Path;
use std::time::Duration;

use farcall_registry::server::{Registry, RegistryOptions};
use serde_json::json;
use server_support::{LONG, call};
use tokio::time::{sleep, timeout};

fn settings(file: &Path) -> RegistryOptions {
    RegistryOptions::default().ttl(Duration::from_secs(30)).heartbeat(Duration::from_secs(10)).snapshot(file)
}

fn register(registry: &Registry, id: &str) {
    let instance = json!({"service": "A", "id": id, "addr": "10.0.0.1:1", "weight": 50});
    registry.register(serde_json::from_value(instance).unwrap()).unwrap();
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, wait).await.expect("it becomes true");
}

#[tokio::test]
async fn what_was_registered_and_overridden_outlives_the_process() {
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
    // Both are kept: taken back, the override uncovers what the server said.
    let (_, back, _) =
        call(&second, "PATCH /v1/services/A/instances/a", r#"{"drain":null,"weight":null}"#).await;
    assert_eq!((&back["weight"], &back["state"]), (&json!(50), &json!("up")));
    // A heartbeat is known at once.
    assert_eq!(call(&second, "POST /v1/services/A/instances/b/heartbeat", "").await.0, 200);
}

#[tokio::test]
async fn a_change_is_on_disk_soon_while_it_runs() {
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
        until(|| holds(id)).await;
    }
    run.abort();
    // As if killed: nothing but the file is left.
    drop(registry);
    assert_eq!(Registry::open(settings(&file)).await.unwrap().list("A").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn restored_instances_have_one_full_time_to_live() {
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

#[tokio::test]
async fn with_a_snapshot_it_is_ready_at_once_unless_that_was_warming_itself() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let short = |ms| settings(&file).heartbeat(Duration::from_millis(ms));
    let first = Registry::open(settings(&file)).await.unwrap();
    assert!(first.is_warming());
    first.close().await;
    let second = Registry::open(short(1)).await.unwrap();
    assert!(second.is_warming(), "the first did not know everything");
    let run = second.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    until(|| !second.is_warming()).await;
    run.abort();
    second.close().await;
    let third = Registry::open(settings(&file)).await.unwrap();
    assert!(!third.is_warming());
    assert_eq!(call(&third, "GET /readyz", "").await.0, 200);
}

#[tokio::test]
async fn a_damaged_snapshot_is_kept_aside_and_the_start_is_empty_and_warming() {
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

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_stops_nothing_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let registry = Registry::open(settings(&inner.join("registry.json"))).await.unwrap();
    std::fs::remove_dir(&inner).unwrap();
    let run = registry.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    register(&registry, "a");
    let failed = async {
        while call(&registry, "GET /v1/status", "").await.1["snapshot"]["failures"] == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, failed).await.unwrap();
    register(&registry, "b");
    assert_eq!(registry.list("A").len(), 2);
    // When it can be again, it is.
    std::fs::create_dir(&inner).unwrap();
    until(|| inner.join("registry.json").exists()).await;
    run.abort();
}

#[tokio::test]
async fn changes_that_never_end_are_not_written_all_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(settings(&directory.path().join("registry.json"))).await.unwrap();
    let begun = std::time::Instant::now();
    let mut written = std::collections::BTreeSet::new();
    let change = async {
        for n in 0.. {
            register(&registry, &format!("i{n}"));
            let status = call(&registry, "GET /v1/status", "").await.1;
            written.extend(status["snapshot"]["written_at"].as_str().map(str::to_owned));
            if written.len() > 1 || begun.elapsed() > LONG {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    registry.run(change).await;
    assert_eq!(written.len(), 2, "once at the start, and again");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}
