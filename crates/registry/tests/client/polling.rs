//! Polling: long polls, the simple interface, and the choice between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use farcall_test_support::wait::until;

use crate::fake_registry::{
    FakeRegistry, Reply, RunningDiscovery, SHORT_PAUSE, answer, discovery, json, list, not_found,
};

const LIST: &str = "/v1/services/S/instances";

#[tokio::test]
async fn long_poll_sends_its_position_and_receives_changes() {
    let fake =
        FakeRegistry::new(|request| match (request.is("GET", LIST), request.target.contains("wait=55s")) {
            (true, false) => json(&list("e", 7, &[1])),
            (true, true) if request.target.contains("epoch=e&rev=7") => json(&list("e", 8, &[1, 2])),
            (true, true) => Reply::Hold(Vec::new()),
            _ => not_found(),
        })
        .await;
    // A list that has changed is asked for again at once.
    let mut running = RunningDiscovery::of(discovery(&fake.url()).poll_interval(Duration::from_secs(3600)));
    running.wait_for_ports(&[1, 2]).await;
    let lists = || fake.requests().into_iter().filter(|request| request.is("GET", LIST)).collect::<Vec<_>>();
    until("the next long poll", || lists().len() >= 3).await;
    let lists = lists();
    assert_eq!(lists[0].target, format!("{LIST}?include=stale"));
    assert_eq!(lists[2].target, format!("{LIST}?include=stale&epoch=e&rev=8&wait=55s"));
    assert!(running.last().failing.is_none());
}

#[tokio::test]
async fn registry_that_does_not_wait_is_polled_at_intervals() {
    let fake =
        FakeRegistry::new(|request| match (request.is("GET", LIST), request.target.contains("rev=7")) {
            (true, false) => json(&list("e", 7, &[1])),
            (true, true) => answer("304 Not Modified", "", ""),
            _ => not_found(),
        })
        .await;
    let refresh = Duration::from_millis(300);
    let started = Instant::now();
    let mut running = RunningDiscovery::of(discovery(&fake.url()).poll_interval(refresh));
    running.wait_for_ports(&[1]).await;
    let first = running.last().confirmed;
    let lists = || fake.requests().iter().filter(|request| request.is("GET", LIST)).count();
    until("four lists", || lists() >= 4).await;
    // Pauses are the refresh interval, shortened by up to 10%. The first two requests are closer.
    assert!(started.elapsed() >= refresh.mul_f64(0.9) * 2, "{:?}", started.elapsed());
    until("304 confirms", || running.last().confirmed > first).await;
}

#[tokio::test]
async fn malformed_list_is_told_as_that_of_the_full_interface_from_the_first_on() {
    let whole = list("e", 7, &[1]);
    for (malformed, reason) in [
        (whole.replace("10.0.0.1", "0.0.0.0"), "instance `i1`: addr"),
        (whole.replace("\"rev\":7,", ""), "missing field `rev`"),
        (whole[..whole.len() / 2].to_owned(), "the answer ends early"),
    ] {
        let fake = FakeRegistry::new(
            move |request| if request.is("GET", LIST) { json(&malformed) } else { not_found() },
        )
        .await;
        let mut running = RunningDiscovery::of(discovery(&fake.url()));
        let failure = running.wait_for_failure(reason).await;
        assert!(failure.contains(LIST), "{failure}");
        assert!(fake.requests().iter().all(|request| !request.is("GET", "/registry")));
    }
}

#[tokio::test]
async fn busy_registry_is_asked_for_lists_without_waiting() {
    let rev = Arc::new(AtomicU64::new(1));
    let current = Arc::clone(&rev);
    let fake = FakeRegistry::new(move |request| {
        if request.is("GET", LIST) && !request.target.contains("wait") {
            let rev = current.load(Ordering::Relaxed);
            json(&list("e", rev, &[u16::try_from(rev).unwrap()]))
        } else if request.target.starts_with("/v1/") {
            answer("429 Too Many Requests", "", r#"{"error":"too many watchers"}"#)
        } else {
            not_found()
        }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    rev.store(2, Ordering::Relaxed);
    running.wait_for_ports(&[2]).await;
    assert!(fake.requests().iter().all(|request| !request.is("GET", "/registry")));
}

#[tokio::test]
async fn simple_list_is_requested_with_its_etag() {
    let fake = FakeRegistry::new(|request| {
        if !request.is("GET", "/registry") {
            return not_found();
        }
        match request.header("if-none-match") {
            None => answer("200 OK", "etag: \"one\"\r\nx-farcall-server-count: 1\r\n", r#"["10.0.0.1:1"]"#),
            Some("\"one\"") => answer("304 Not Modified", "", ""),
            Some(other) => panic!("{other}"),
        }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    let first = running.last().confirmed;
    until("304 confirms", || running.last().confirmed > first).await;
    let last = fake.requests().pop().unwrap();
    assert_eq!(last.target, "/registry?service=S");
}

#[tokio::test]
async fn unconditional_request_answered_with_304_is_a_failure() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/registry") { answer("304 Not Modified", "", "") } else { not_found() }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_failure("answered 304").await;
}

#[tokio::test]
async fn registry_that_answers_every_path_with_its_list_is_accepted() {
    let fake = FakeRegistry::new(|_| json(r#"["10.0.0.1:1"]"#)).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
}

#[tokio::test]
async fn registry_that_answers_unknown_paths_with_a_page_is_accepted() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/registry") {
            json(r#"["10.0.0.1:1"]"#)
        } else {
            answer("200 OK", "content-type: text/html\r\n", "<title>Welcome</title>")
        }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
}

#[tokio::test]
async fn full_interface_is_used_when_it_appears() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/registry") { json(r#"["10.0.0.1:1"]"#) } else { not_found() }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    fake.set_script(|request| {
        if request.is("GET", "/registry") {
            json(r#"["10.0.0.1:1"]"#)
        } else if request.is("GET", LIST) && !request.target.contains("wait") {
            json(&list("e", 1, &[1, 2]))
        } else if request.is("GET", LIST) {
            Reply::Hold(Vec::new())
        } else {
            not_found()
        }
    });
    running.wait_for_ports(&[1, 2]).await;
}

#[tokio::test]
async fn warming_registry_removes_no_instances() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/registry") { json(r#"["10.0.0.1:1","10.0.0.1:2"]"#) } else { not_found() }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1, 2]).await;
    fake.set_script(|request| {
        if request.is("GET", "/registry") {
            answer("200 OK", "x-farcall-warming: 1\r\netag: \"a\"\r\n", r#"["10.0.0.1:3"]"#)
        } else {
            not_found()
        }
    });
    running.wait_for_ports(&[1, 2, 3]).await;
    fake.set_script(
        |request| if request.is("GET", "/registry") { json(r#"["10.0.0.1:3"]"#) } else { not_found() },
    );
    running.wait_for_ports(&[3]).await;
}

#[tokio::test]
async fn first_list_of_a_warming_registry_is_used() {
    let warming =
        list("e", 1, &[1]).replace(r#""rev":1,"instances""#, r#""rev":1,"warming":true,"instances""#);
    let fake =
        FakeRegistry::new(move |request| if request.is("GET", LIST) { json(&warming) } else { not_found() })
            .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    // A long poll does not report the end of warming.
    fake.set_script(|request| {
        if !request.is("GET", LIST) {
            not_found()
        } else if request.target.contains("wait") {
            Reply::Hold(Vec::new())
        } else {
            json(&list("e", 1, &[1, 2]))
        }
    });
    running.wait_for_ports(&[1, 2]).await;
}

#[tokio::test]
async fn empty_list_is_accepted() {
    let fake =
        FakeRegistry::new(|request| if request.is("GET", "/registry") { json("[]") } else { not_found() })
            .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_until("a list", |seen| seen.confirmed.is_some() && seen.endpoints.is_empty()).await;
}

#[tokio::test]
async fn requests_carry_the_token_and_end_with_the_discovery() {
    let fake = FakeRegistry::new(|request| {
        if request.header("authorization") != Some("Bearer read-me") {
            return answer("401 Unauthorized", "", r#"{"error":"no token"}"#);
        }
        if request.is("GET", LIST) && !request.target.contains("wait") {
            json(&list("e", 1, &[1]))
        } else if request.is("GET", LIST) {
            Reply::Hold(Vec::new())
        } else {
            not_found()
        }
    })
    .await;
    let mut without = RunningDiscovery::of(discovery(&fake.url()));
    without.wait_for_failure("answered 401 Unauthorized: no token").await;
    drop(without);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut with =
        RunningDiscovery::of(discovery(&fake.url()).token_file(&file).backoff(SHORT_PAUSE, SHORT_PAUSE));
    with.wait_for_failure("the token file").await;
    std::fs::write(&file, "read-me\n").unwrap();
    with.wait_for_ports(&[1]).await;
    until("a long poll", || fake.open_connections() == 1).await;
    drop(with);
    until("no connection is left", || fake.open_connections() == 0).await;
}

#[tokio::test]
async fn token_file_in_any_state_is_a_failure_until_it_is_whole_again() {
    let fake = FakeRegistry::new(|request| {
        if request.header("authorization") != Some("Bearer read-me") {
            return answer("401 Unauthorized", "", r#"{"error":"no token"}"#);
        }
        match (request.is("GET", LIST), request.target.contains("rev=1")) {
            (true, false) => json(&list("e", 1, &[1])),
            (true, true) => answer("304 Not Modified", "", ""),
            _ => not_found(),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "read-me\n").unwrap();
    let mut running = RunningDiscovery::of(discovery(&fake.url()).token_file(&file));
    running.wait_for_ports(&[1]).await;
    let states: [(&[u8], &str); 6] = [
        (b"", "has a token that is empty"),
        (b"\nread-me\n", "has a token that is empty"),
        // Half of it was written: the registry refuses what came.
        (b"read", "answered 401 Unauthorized: no token"),
        (b"read\0me", "has a token that has a control character at position 5"),
        (b"read\xffme", "has a token that has a character that is not UTF-8 at position 5"),
        (&[b'x'; 100_000], "the token file"),
    ];
    for (content, reason) in states {
        // In place, as an editor or a full disk may leave it.
        std::fs::write(&file, content).unwrap();
        running.wait_for_failure(reason).await;
        assert_eq!(running.ports(), [1], "the list stays");
        std::fs::write(&file, "read-me\n").unwrap();
        running.wait_for_ports(&[1]).await;
    }
    std::fs::remove_file(&file).unwrap();
    running.wait_for_failure("the token file").await;
    std::fs::create_dir(&file).unwrap();
    running.wait_for_failure("is not a regular file").await;
    std::fs::remove_dir(&file).unwrap();
    // Replaced by renaming, through a link.
    std::fs::write(folder.path().join("next"), "read-me").unwrap();
    std::os::unix::fs::symlink("next", &file).unwrap();
    running.wait_for_ports(&[1]).await;
}
