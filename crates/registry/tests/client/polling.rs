//! Lists that are asked for: long polls, the simple interface, and which of them when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::told::{Reply, Running, SOON, Told, answer, discovery, eventually, json, list, not_found};

const LIST: &str = "/v1/services/S/instances";

#[tokio::test]
async fn a_long_poll_says_what_is_known_and_gets_what_is_new() {
    let told = Told::new(|request| match (request.is("GET", LIST), request.target.contains("wait=55s")) {
        (true, false) => json(&list("e", 7, &[1])),
        (true, true) if request.target.contains("epoch=e&rev=7") => json(&list("e", 8, &[1, 2])),
        (true, true) => Reply::Hold(Vec::new()),
        _ => not_found(),
    })
    .await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1, 2]).await;
    let lists = || told.requests().into_iter().filter(|request| request.is("GET", LIST)).collect::<Vec<_>>();
    eventually("the next long poll", || lists().len() >= 3).await;
    let lists = lists();
    assert_eq!(lists[0].target, format!("{LIST}?include=stale"));
    assert_eq!(lists[2].target, format!("{LIST}?include=stale&epoch=e&rev=8&wait=55s"));
    assert!(running.last().failing.is_none());
}

#[tokio::test]
async fn a_registry_that_does_not_wait_is_not_asked_without_pause() {
    let told = Told::new(|request| match (request.is("GET", LIST), request.target.contains("rev=7")) {
        (true, false) => json(&list("e", 7, &[1])),
        (true, true) => answer("304 Not Modified", "", ""),
        _ => not_found(),
    })
    .await;
    let mut running = Running::of(discovery(&told.url()).refresh(Duration::from_millis(300)));
    running.until_ports(&[1]).await;
    let first = running.last().confirmed;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let count = told.requests().len();
    assert!(count <= 8, "{count} requests");
    eventually("304 confirms", || running.last().confirmed > first).await;
}

#[tokio::test]
async fn a_registry_with_too_many_that_wait_is_asked_for_lists() {
    let rev = Arc::new(AtomicU64::new(1));
    let current = Arc::clone(&rev);
    let told = Told::new(move |request| {
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
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    rev.store(2, Ordering::Relaxed);
    running.until_ports(&[2]).await;
    assert!(told.requests().iter().all(|request| !request.is("GET", "/registry")));
}

#[tokio::test]
async fn a_simple_list_is_named_when_it_is_asked_for_again() {
    let told = Told::new(|request| {
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
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    let first = running.last().confirmed;
    eventually("304 confirms", || running.last().confirmed > first).await;
    let last = told.requests().pop().unwrap();
    assert_eq!(last.target, "/registry?service=S");
}

#[tokio::test]
async fn a_304_to_a_question_without_a_condition_is_a_failure() {
    let told = Told::new(|request| {
        if request.is("GET", "/registry") { answer("304 Not Modified", "", "") } else { not_found() }
    })
    .await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_failing("answered 304").await;
}

#[tokio::test]
async fn a_registry_that_answers_every_path_with_its_only_list_is_understood() {
    let told = Told::new(|_| json(r#"["10.0.0.1:1"]"#)).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
}

#[tokio::test]
async fn a_registry_that_answers_unknown_paths_with_a_page_is_understood() {
    let told = Told::new(|request| {
        if request.is("GET", "/registry") {
            json(r#"["10.0.0.1:1"]"#)
        } else {
            answer("200 OK", "content-type: text/html\r\n", "<title>Welcome</title>")
        }
    })
    .await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
}

#[tokio::test]
async fn a_registry_that_gains_the_full_interface_is_used_so() {
    let told =
        Told::new(
            |request| {
                if request.is("GET", "/registry") { json(r#"["10.0.0.1:1"]"#) } else { not_found() }
            },
        )
        .await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    told.tell(|request| {
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
    running.until_ports(&[1, 2]).await;
}

#[tokio::test]
async fn a_registry_that_warms_takes_nothing_away() {
    let told = Told::new(|request| {
        if request.is("GET", "/registry") { json(r#"["10.0.0.1:1","10.0.0.1:2"]"#) } else { not_found() }
    })
    .await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1, 2]).await;
    told.tell(|request| {
        if request.is("GET", "/registry") {
            answer("200 OK", "x-farcall-warming: 1\r\netag: \"a\"\r\n", r#"["10.0.0.1:3"]"#)
        } else {
            not_found()
        }
    });
    running.until_ports(&[1, 2, 3]).await;
    told.tell(|request| if request.is("GET", "/registry") { json(r#"["10.0.0.1:3"]"#) } else { not_found() });
    running.until_ports(&[3]).await;
}

#[tokio::test]
async fn who_holds_nothing_takes_what_a_warming_registry_has() {
    let warming =
        list("e", 1, &[1]).replace(r#""rev":1,"instances""#, r#""rev":1,"warming":true,"instances""#);
    let told =
        Told::new(move |request| if request.is("GET", LIST) { json(&warming) } else { not_found() }).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    // The end of it cannot be waited for.
    told.tell(|request| {
        if !request.is("GET", LIST) {
            not_found()
        } else if request.target.contains("wait") {
            Reply::Hold(Vec::new())
        } else {
            json(&list("e", 1, &[1, 2]))
        }
    });
    running.until_ports(&[1, 2]).await;
}

#[tokio::test]
async fn an_empty_list_is_a_list() {
    let told =
        Told::new(|request| if request.is("GET", "/registry") { json("[]") } else { not_found() }).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until("a list", |seen| seen.confirmed.is_some() && seen.endpoints.is_empty()).await;
}

#[tokio::test]
async fn requests_carry_the_token_and_end_with_the_discovery() {
    let told = Told::new(|request| {
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
    let mut without = Running::of(discovery(&told.url()));
    without.until_failing("answered 401 Unauthorized: no token").await;
    drop(without);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut with = Running::of(discovery(&told.url()).token_file(&file).backoff(SOON, SOON));
    with.until_failing("the token file").await;
    std::fs::write(&file, "read-me\n").unwrap();
    with.until_ports(&[1]).await;
    eventually("a long poll", || told.open_connections() == 1).await;
    drop(with);
    eventually("no connection is left", || told.open_connections() == 0).await;
}
