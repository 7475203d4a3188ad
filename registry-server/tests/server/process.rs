//! Start, exit and restart.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use farcall_test_support::wait::until_async;
use reqwest::{Method, StatusCode};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::Value;

use crate::support::{Running, assert_fails_with, command, text};

/// The time limit of an exit, long enough for busy machines.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn listening_url_is_printed_and_answers() {
    let registry = Running::start(&[]);
    assert!(
        registry.url.starts_with("http://127.0.0.1:") && !registry.url.ends_with(":0"),
        "{}",
        registry.url
    );
    registry.register("tcp@127.0.0.1:7001", "").await;
    assert_eq!(registry.addresses("").await, ["tcp@127.0.0.1:7001"]);
    registry.end();
}

#[tokio::test]
async fn several_addresses_are_listened_at() {
    let mut child = command(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut lines = String::new();
    let mut stdout = child.stdout.take().unwrap();
    until_async("both URLs are printed", async || {
        let mut piece = [0; 256];
        let read = stdout.read(&mut piece).unwrap();
        lines.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        lines.lines().count() == 2 && lines.ends_with('\n')
    })
    .await;
    for line in lines.lines() {
        let address = line.strip_prefix("listening http://").unwrap();
        TcpStream::connect(address).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn registrations_outlive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let args = ["--snapshot", text(&snapshot)];
    let mut registry = Running::start_restartable(&args);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    until_async("the snapshot is written", async || {
        fs::read_to_string(&snapshot).is_ok_and(|content| content.contains("tcp@127.0.0.1:7001"))
    })
    .await;
    registry.signal(Signal::KILL);
    registry.wait_for_exit(EXIT_TIMEOUT);

    let registry = Running::start_again(&registry.url, &args);
    assert_eq!(registry.addresses("Arith").await, ["tcp@127.0.0.1:7001"]);
}

#[tokio::test]
async fn sigterm_and_sigint_write_the_snapshot_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("registry.json");
        let args = ["--snapshot", text(&snapshot), "--heartbeat", "1s"];
        let mut registry = Running::start(&args);
        registry.register("tcp@127.0.0.1:7001", "").await;
        let ready = async |registry: &Running| {
            registry.get("/readyz").send().await.unwrap().status() == StatusCode::OK
        };
        until_async("it is warm", async || ready(&registry).await).await;
        registry.signal(signal);
        assert_eq!(registry.wait_for_exit(EXIT_TIMEOUT).code(), Some(0), "{}", registry.stderr());
        assert!(fs::read_to_string(&snapshot).unwrap().contains("tcp@127.0.0.1:7001"));

        let again = Running::start(&args);
        assert_eq!(again.addresses("").await, ["tcp@127.0.0.1:7001"]);
        assert!(ready(&again).await, "it knows what was registered");
    }
}

#[tokio::test]
async fn thousand_watchers_do_not_delay_the_exit() {
    // Files of this process: a socket for each watcher.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let mut registry = Running::start(&[]);
    let address = registry.url.strip_prefix("http://").unwrap().to_owned();
    let mut watchers: Vec<_> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            write!(stream, "GET /v1/watch HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
            stream
        })
        .collect();
    until_async("all of them watch", async || {
        let status: Value = registry.get("/v1/status").send().await.unwrap().json().await.unwrap();
        status["counts"]["watchers"] == 1000
    })
    .await;
    registry.signal(Signal::TERM);
    assert_eq!(registry.wait_for_exit(EXIT_TIMEOUT).code(), Some(0), "{}", registry.stderr());
    // Each was told something, and then the end.
    for watcher in &mut watchers {
        let mut received = Vec::new();
        watcher.read_to_end(&mut received).unwrap();
        assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received));
    }
}

#[tokio::test]
async fn damaged_snapshot_is_renamed_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    fs::write(&snapshot, "{\"instances\": [{\"serv").unwrap();
    let registry = Running::start(&["--snapshot", text(&snapshot)]);
    registry.wait_for_log("registry.json.damaged-").await;
    let answer = registry.get("/registry").send().await.unwrap();
    assert_eq!(answer.headers()["x-farcall-warming"], "1");
    assert_eq!(registry.get("/readyz").send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let kept = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_name().to_string_lossy().starts_with("registry.json.damaged-"))
        .unwrap();
    assert_eq!(fs::read_to_string(kept.path()).unwrap(), "{\"instances\": [{\"serv");
    registry.end();
}

#[test]
fn port_in_use_exits_with_code_6_and_leaves_the_snapshot() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    fs::write(&snapshot, "damaged").unwrap();
    let args = ["--listen", address.as_str(), "--snapshot", text(&snapshot)];
    assert_fails_with(&mut command(&args), 6, &[&address, "the port is in use"]);
    assert_eq!(fs::read_to_string(&snapshot).unwrap(), "damaged");
}

#[test]
fn address_of_another_machine_exits_with_code_6() {
    // From the block of addresses for documentation, which no machine has.
    assert_fails_with(
        &mut command(&["--listen", "192.0.2.1:0"]),
        6,
        &["192.0.2.1:0", "does not have the address"],
    );
}

#[test]
fn unusable_snapshot_exits_with_code_7() {
    let directory = tempfile::tempdir().unwrap();
    let directory_as_file = text(directory.path());
    let listen = ["--listen", "127.0.0.1:0", "--snapshot"];
    assert_fails_with(
        &mut command(&[&listen[..], &[directory_as_file]].concat()),
        7,
        &["snapshot", directory_as_file],
    );
    let nowhere = directory.path().join("missing/registry.json");
    assert_fails_with(
        &mut command(&[&listen[..], &[text(&nowhere)]].concat()),
        7,
        &["snapshot", text(&nowhere)],
    );
}

#[tokio::test]
async fn override_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let args = ["--snapshot", text(&snapshot)];
    let registry = Running::start(&args);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let path = "/v1/services/Arith/instances/tcp@127.0.0.1:7001";
    let answer = registry.ask(Method::PATCH, path).body("{\"drain\": true}").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    registry.end();
    let registry = Running::start(&args);
    assert_eq!(registry.instances("Arith").await[0]["state"], "draining");
}

#[tokio::test]
async fn operations_page_names_existing_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let registry = Running::start(&["--snapshot", text(&snapshot)]);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let page = include_str!("../../../docs/OPERATIONS.md");
    let named: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `farcall_registry_"))
        .filter(|line| !line.contains("=="))
        .filter_map(|line| line.split(['`', '{']).next())
        .collect();
    assert!(named.len() >= 13, "{named:?}");
    // Some are there once the snapshot was written.
    for name in named {
        until_async(&format!("{name} is among the metrics"), async || {
            let metrics = registry.get("/metrics").send().await.unwrap().text().await.unwrap();
            metrics.contains(&format!("# TYPE farcall_registry_{name} "))
        })
        .await;
    }
}

#[tokio::test]
async fn second_registry_with_the_same_snapshot_exits_with_code_7() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("registry.json");
    let args = ["--listen", "127.0.0.1:0", "--snapshot", text(&snapshot)];
    let mut first = Running::start(&["--snapshot", text(&snapshot)]);
    // It is written at the start, and locked from then on.
    until_async("the snapshot is written", async || snapshot.exists()).await;
    assert_fails_with(&mut command(&args), 7, &[text(&snapshot), "in use by another registry"]);
    first.register("tcp@127.0.0.1:7001", "").await;
    first.signal(Signal::KILL);
    first.wait_for_exit(EXIT_TIMEOUT);
    // A lock does not outlive its process.
    Running::start(&["--snapshot", text(&snapshot)]).end();
}

#[test]
fn snapshot_that_is_no_regular_file_exits_with_code_7() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [text(&pipe), "/dev/zero", "/dev/null"] {
        let args = ["--listen", "127.0.0.1:0", "--snapshot", file];
        assert_fails_with(&mut command(&args), 7, &[file, "not a regular file"]);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was created next to it");
}

#[tokio::test]
async fn overrides_in_a_loop_do_not_fill_the_log() {
    let registry = Running::start(&[]);
    registry.register("tcp@127.0.0.1:7001", "").await;
    let path = "/v1/services/~/instances/tcp@127.0.0.1:7001";
    let begun = std::time::Instant::now();
    for n in 0..300 {
        let patch = registry.ask(Method::PATCH, path).body(format!(r#"{{"weight":{}}}"#, n % 2));
        assert_eq!(patch.send().await.unwrap().status(), StatusCode::OK);
    }
    let lines = || registry.stderr().matches("overrides changed").count();
    until_async("the first lines are logged", async || lines() >= 50).await;
    let lines = lines();
    // 50 at once, and one a second.
    let most = 51 + begun.elapsed().as_secs() as usize;
    assert!((50..=most).contains(&lines), "{lines}, at most {most}");
    assert!(registry.stderr().contains("peer=127.0.0.1"), "{}", registry.stderr());
}

/// A page of another site cannot post a form, and heads are bounded.
#[tokio::test]
async fn foreign_forms_and_large_heads_are_refused() {
    let registry = Running::start(&[]);
    let post = || registry.ask(Method::POST, "/registry").header("x-farcall-server", "tcp@127.0.0.1:7001");
    for (name, value) in [("sec-fetch-site", "cross-site"), ("referer", "http://evil.example/")] {
        assert_eq!(post().header(name, value).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(post().send().await.unwrap().status(), StatusCode::OK);
    let large = registry.get("/healthz").header("x", "x".repeat(100_000)).send().await;
    // Closed with bytes unread, the connection may be reset before the answer is read.
    assert!(large.is_err() || large.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}
