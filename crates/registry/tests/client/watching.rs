//! Watches of the full interface.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_test_support::wait::until;
use tokio::sync::watch;

use crate::fake_registry::{
    FakeRegistry, Feed, Reply, Request, RunningDiscovery, SHORT_TIMEOUT, answer, discovery, instance, json,
    list, not_found,
};

const LIST: &str = "/v1/services/S/instances";
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";

/// Sends the events of one watch.
struct Events(watch::Sender<Vec<u8>>);

impl Events {
    fn new() -> (Self, Feed) {
        let (sender, feed) = watch::channel(Vec::new());
        (Self(sender), feed)
    }

    fn send(&self, text: &str) {
        self.0.send_modify(|bytes| bytes.extend_from_slice(text.as_bytes()));
    }

    fn snapshot(&self, epoch: &str, rev: u64, ports: &[u16]) {
        self.send(&format!("event: snapshot\nid: {epoch}-{rev}\ndata: {}\n\n", list(epoch, rev, ports)));
    }

    fn put(&self, epoch: &str, rev: u64, port: u16) {
        let instance = instance(port);
        self.send(&format!(
            "event: put\nid: {epoch}-{rev}\ndata: {{\"epoch\":\"{epoch}\",\"rev\":{rev},\"service\":\"S\",\"instance\":{instance}}}\n\n"
        ));
    }

    fn delete(&self, epoch: &str, rev: u64, port: u16) {
        self.send(&format!(
            "event: delete\nid: {epoch}-{rev}\ndata: {{\"epoch\":\"{epoch}\",\"rev\":{rev},\"service\":\"S\",\"id\":\"i{port}\",\"cause\":\"deleted\"}}\n\n"
        ));
    }
}

/// A registry with watches: each watch gets the next of these feeds, and after them `after`.
fn watched(feeds: Vec<Feed>, after: Reply) -> impl FnMut(&Request) -> Reply + Send + 'static {
    let mut feeds = feeds.into_iter();
    move |request| {
        if !request.is("GET", "/v1/watch") {
            return not_found();
        }
        feeds.next().map_or_else(|| after.clone(), |feed| Reply::Stream(HEAD.into(), feed))
    }
}

async fn watching(feeds: Vec<Feed>) -> (FakeRegistry, RunningDiscovery) {
    let fake = FakeRegistry::new(watched(feeds, not_found())).await;
    let running = RunningDiscovery::of(discovery(&fake.url()));
    (fake, running)
}

#[tokio::test]
async fn changes_apply_to_the_snapshot() {
    let (events, feed) = Events::new();
    let (fake, mut running) = watching(vec![feed]).await;
    events.snapshot("e", 5, &[1, 2]);
    running.wait_for_ports(&[1, 2]).await;
    events.put("e", 6, 3);
    running.wait_for_ports(&[1, 2, 3]).await;
    events.delete("e", 7, 1);
    running.wait_for_ports(&[2, 3]).await;
    events.send("event: weather\ndata: fine\n\n");
    events.send("event: resync\ndata: {\"epoch\":\"e\",\"rev\":9,\"reason\":\"too slow\"}\n\n");
    events.snapshot("e", 9, &[9]);
    running.wait_for_ports(&[9]).await;
    assert_eq!(fake.requests().len(), 1, "all changes arrived in one watch");
    assert_eq!(fake.requests()[0].target, "/v1/watch?service=S");
    drop(running);
    until("no connection is left", || fake.open_connections() == 0).await;
}

#[tokio::test]
async fn pings_confirm_the_list() {
    let (events, feed) = Events::new();
    let (_told, mut running) = watching(vec![feed]).await;
    events.snapshot("e", 5, &[1]);
    running.wait_for_ports(&[1]).await;
    let first = running.last().confirmed;
    events.send(": ping\n\n");
    until("a ping confirms", || running.last().confirmed > first).await;
}

#[tokio::test]
async fn broken_watch_is_resumed_after_its_last_event() {
    let (first, first_feed) = Events::new();
    let (second, second_feed) = Events::new();
    let (fake, mut running) = watching(vec![first_feed, second_feed]).await;
    first.snapshot("e", 5, &[1]);
    first.put("e", 6, 2);
    running.wait_for_ports(&[1, 2]).await;
    drop(first);
    second.put("e", 7, 3);
    running.wait_for_ports(&[1, 2, 3]).await;
    let requests = fake.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("last-event-id"), None);
    assert_eq!(requests[1].header("last-event-id"), Some("e-6"));
}

#[tokio::test]
async fn broken_watch_that_works_again_is_no_failure() {
    let (first, first_feed) = Events::new();
    let (second, second_feed) = Events::new();
    let (_told, mut running) = watching(vec![first_feed, second_feed]).await;
    first.snapshot("e", 5, &[1]);
    running.wait_for_ports(&[1]).await;
    drop(first);
    second.snapshot("f", 1, &[2]);
    let failed = Arc::new(Mutex::new(false));
    running
        .wait_until("the other list", |seen| {
            *failed.lock().unwrap() |= seen.failing.is_some();
            seen.endpoints.iter().any(|endpoint| endpoint.address.port() == Some(2))
        })
        .await;
    assert!(!*failed.lock().unwrap());
}

#[tokio::test]
async fn silent_watch_is_opened_again() {
    let (first, first_feed) = Events::new();
    // Later watches are silent as well, after one change.
    let (second, second_feed) = Events::new();
    second.put("e", 6, 2);
    let later = Reply::Stream(HEAD.into(), second_feed);
    let fake = FakeRegistry::new(watched(vec![first_feed], later)).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()).silence(Duration::from_millis(500)));
    first.snapshot("e", 5, &[1]);
    running.wait_for_ports(&[1, 2]).await;
    until("the first watch is closed", || fake.open_connections() <= 1).await;
}

#[tokio::test]
async fn malformed_event_is_reported_and_leaves_the_list_unchanged() {
    let put = |address: &str| {
        format!(
            "event: put\nid: e-6\ndata: {{\"epoch\":\"e\",\"rev\":6,\"service\":\"S\",\"instance\":{}}}\n\n",
            instance(7).replace("tcp@10.0.0.1:7", address)
        )
    };
    for (event, reason) in [
        ("event: put\ndata: <html>\n\n".to_owned(), "event `put`: the answer is HTML"),
        (put("tcp@0.0.0.0:1"), "event `put`: instance `i7`: addr `tcp@0.0.0.0:1`"),
        (put("tcp@10.0.0.1:8").replace("\"epoch\":\"e\"", "\"epoch\":\"f\""), "a change of another epoch"),
        (put("tcp@10.0.0.1:8").replace("\"service\":\"S\"", "\"service\":\"T\""), "another service, `T`"),
        (put("tcp@10.0.0.1:8").replace("\"rev\":6", "\"rev\":4"), "the revision went back from 5 to 4"),
        ("event: snapshot\ndata: {}\n\n".to_owned(), "event `snapshot`: the answer is not"),
    ] {
        let (first, first_feed) = Events::new();
        let (second, second_feed) = Events::new();
        let fake = FakeRegistry::new(watched(vec![first_feed], Reply::Hold(Vec::new()))).await;
        // Every later request is silent, so that the reported failure is the event's.
        let pause = Duration::from_secs(2);
        let mut running =
            RunningDiscovery::of(discovery(&fake.url()).timeout(SHORT_TIMEOUT * 4).backoff(pause, pause));
        first.snapshot("e", 5, &[1]);
        running.wait_for_ports(&[1]).await;
        first.send(&event);
        let error = running.wait_for_failure(reason).await;
        assert!(error.starts_with(&format!("GET http://{}/v1/watch?service=S: ", fake.address)), "{error}");
        assert_eq!(running.ports(), [1]);

        second.snapshot("e", 6, &[2]);
        fake.set_script(watched(vec![], Reply::Stream(HEAD.into(), second_feed)));
        running.wait_for_ports(&[2]).await;
        let last = fake.requests().pop().unwrap();
        assert_eq!(last.header("last-event-id"), None, "the malformed event is not skipped");
    }
}

#[tokio::test]
async fn warming_registry_removes_no_instances() {
    let (events, feed) = Events::new();
    let (_told, mut running) = watching(vec![feed]).await;
    events.snapshot("e", 5, &[1, 2]);
    running.wait_for_ports(&[1, 2]).await;
    let warming =
        list("f", 1, &[3]).replace(r#""rev":1,"instances""#, r#""rev":1,"warming":true,"instances""#);
    events.send(&format!("event: snapshot\nid: f-1\ndata: {warming}\n\n"));
    running.wait_for_ports(&[1, 2, 3]).await;
    events.put("f", 2, 4);
    running.wait_for_ports(&[1, 2, 3, 4]).await;
    events.snapshot("f", 2, &[3, 4]);
    running.wait_for_ports(&[3, 4]).await;
}

#[tokio::test]
async fn list_is_polled_if_events_do_not_arrive() {
    // As behind a proxy that buffers responses until they are complete.
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/v1/watch") {
            Reply::Hold(HEAD.into())
        } else if request.is("GET", LIST) && !request.target.contains("wait") {
            json(&list("e", 1, &[1]))
        } else {
            Reply::Hold(Vec::new())
        }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()).timeout(SHORT_TIMEOUT));
    running.wait_for_ports(&[1]).await;
}

#[tokio::test]
async fn list_is_polled_if_watches_keep_breaking() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/v1/watch") {
            let snapshot = format!("{HEAD}event: snapshot\nid: e-1\ndata: {}\n\n", list("e", 1, &[1]));
            Reply::Bytes(snapshot.into_bytes())
        } else if request.is("GET", LIST) && request.target.contains("rev=1&wait") {
            json(&list("e", 2, &[2]))
        } else {
            Reply::Hold(Vec::new())
        }
    })
    .await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[2]).await;
    let watches = fake.requests().iter().filter(|request| request.is("GET", "/v1/watch")).count();
    assert_eq!(watches, 3);
}

#[tokio::test]
async fn endless_event_is_not_buffered() {
    let fake = FakeRegistry::new(|request| {
        if request.is("GET", "/v1/watch") {
            let mut head = HEAD.as_bytes().to_vec();
            head.extend_from_slice(b"data: ");
            Reply::Flood(head, 100_000_000)
        } else if request.is("GET", LIST) {
            answer("500 Internal Server Error", "", "")
        } else {
            not_found()
        }
    })
    .await;
    let slow = Duration::from_secs(20);
    let mut running = RunningDiscovery::of(discovery(&fake.url()).backoff(slow, slow));
    running.wait_for_failure("answered 500").await;
    assert!(fake.flooded() < 40_000_000, "{} bytes were read", fake.flooded());
}
