//! [`KubernetesDiscovery`] against a stand-in for the API server.
//!
//! The behaviours of every source are in the tests of the crate `farcall`; here are those of Kubernetes alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod api_server;

use std::time::Duration;

use farcall_discovery::{Discovery, EndpointList, Subscription, publisher};
use farcall_kubernetes::{KubernetesDiscovery, KubernetesOptions, KubernetesOptionsError};
use farcall_test_support::pki::Authority;
use farcall_test_support::wait::{until, within_patience};
use farcall_transport::Scheme;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use self::api_server::{ApiServer, Gone, slice};

/// A discovery that runs until this is dropped.
struct Watcher {
    seen: Subscription,
    running: AbortHandle,
}

impl Watcher {
    fn of(api: &ApiServer, service: &str) -> Self {
        Self::with(&options(api), service)
    }

    fn with(options: &KubernetesOptions, service: &str) -> Self {
        let (publisher, seen) = publisher();
        let discovery = KubernetesDiscovery::new(options, service).unwrap();
        Self { seen, running: tokio::spawn(discovery.run(publisher)).abort_handle() }
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&EndpointList) -> bool) -> EndpointList {
        within_patience(what, self.seen.wait_for(is)).await.unwrap().clone()
    }

    async fn until_ports(&mut self, expected: &[u16]) {
        let is = |seen: &EndpointList| {
            let ports: Vec<_> =
                seen.endpoints.iter().filter_map(|endpoint| endpoint.address.port()).collect();
            seen.confirmed.is_some() && seen.failing.is_none() && ports == expected
        };
        self.until(&format!("{expected:?}"), is).await;
    }

    /// Waits for a failure, and returns its reason.
    async fn failure(&mut self) -> String {
        let seen = self.until("failing", |seen| seen.failing.is_some()).await;
        seen.failing.unwrap().reason.to_string()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn options(api: &ApiServer) -> KubernetesOptions {
    KubernetesOptions::new(&format!("http://{}", api.address), "shop").unwrap()
}

/// Waits until a watch was requested, after `lists` lists of the service in all.
async fn until_watched(api: &ApiServer, lists: usize) {
    until("a watch is open", || {
        // Without those that look for other services.
        let requests = api.requests().into_iter().filter(|request| request.contains("labelSelector"));
        let are_watches: Vec<_> = requests.map(|request| request.contains("watch=1")).collect();
        are_watches.iter().filter(|is_watch| !**is_watch).count() == lists
            && are_watches.last() == Some(&true)
    })
    .await;
}

#[tokio::test]
async fn list_has_pages_and_changes_follow_without_another_list() {
    let api = ApiServer::start().await;
    for port in 1..=120 {
        api.put("shop", &slice("arith", &format!("s{port}"), port, &["10.0.0.1"]));
        api.put("other", &slice("arith", &format!("s{port}"), port + 1000, &["10.0.0.1"]));
    }
    let mut watcher = Watcher::of(&api, "arith");
    let ports: Vec<u16> = (1..=120).collect();
    watcher.until_ports(&ports).await;
    until_watched(&api, 3).await; // pages of 50
    api.delete("shop", "s1");
    api.put("shop", &slice("arith", "s2", 1002, &["10.0.0.1"]));
    // A slice that changes its service is not this one's any more.
    api.put("shop", &slice("text", "s3", 3, &["10.0.0.1"]));
    let expected: Vec<u16> = (4..=120).chain([1002]).collect();
    watcher.until_ports(&expected).await;
    until_watched(&api, 3).await;
    let mut elsewhere = Watcher::of(&api, "arith.other");
    elsewhere.until("others", |seen| seen.endpoints.len() == 120).await;
}

#[tokio::test]
async fn forgotten_version_is_listed_again_however_it_is_told() {
    for gone in [Gone::Status, Gone::Event] {
        let api = ApiServer::start().await;
        api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
        let mut watcher = Watcher::of(&api, "arith");
        watcher.until_ports(&[1]).await;
        until_watched(&api, 1).await;
        api.put("shop", &slice("arith", "a", 2, &["10.0.0.1"]));
        watcher.until_ports(&[2]).await;
        api.compact(gone);
        api.delete("shop", "a");
        api.compact(gone);
        api.cut_watches();
        watcher.until_ports(&[]).await;
        until_watched(&api, 2).await;
        assert!(watcher.seen.borrow().failing.is_none());
    }
}

#[tokio::test]
async fn watch_goes_on_from_the_last_bookmark() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let mut watcher = Watcher::of(&api, "arith");
    watcher.until_ports(&[1]).await;
    until_watched(&api, 1).await;
    let first = api.requests().last().unwrap().clone();
    assert!(first.contains("allowWatchBookmarks=true") && first.contains("resourceVersion=1001"), "{first}");
    let confirmed = watcher.seen.borrow().confirmed;
    api.bookmark();
    until("the bookmark confirms the list", || watcher.seen.borrow().confirmed > confirmed).await;
    api.cut_watches();
    until("another watch", || api.requests().last().unwrap().contains("resourceVersion=1002")).await;
    api.put("shop", &slice("arith", "b", 2, &["10.0.0.1"]));
    watcher.until_ports(&[1, 2]).await;
    assert_eq!(api.requests().iter().filter(|request| !request.contains("watch=1")).count(), 1);
}

#[tokio::test]
async fn slow_and_partial_streams_lose_nothing() {
    let api = ApiServer::start().await;
    api.send_in_pieces(50, Duration::from_millis(1));
    let mut watcher = Watcher::of(&api, "arith");
    watcher.until_ports(&[]).await;
    until_watched(&api, 1).await;
    for port in 1..=5 {
        api.put("shop", &slice("arith", &format!("s{port}"), port, &["10.0.0.1"]));
    }
    // Ends in the middle of a line, wherever it is.
    watcher.until("some", |seen| !seen.endpoints.is_empty()).await;
    api.cut_watches();
    watcher.until_ports(&[1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn watch_ends_by_its_time_and_another_one_follows() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let mut watcher = Watcher::with(&options(&api).watch_for(Duration::from_secs(1)), "arith");
    watcher.until_ports(&[1]).await;
    until("three watches", || api.requests().len() >= 4).await;
    assert!(api.requests()[1..].iter().all(|request| request.contains("timeoutSeconds=1")));
    api.put("shop", &slice("arith", "a", 2, &["10.0.0.1"]));
    watcher.until_ports(&[2]).await;
}

#[tokio::test]
async fn token_is_read_again_and_refusals_are_explained() {
    let api = ApiServer::start().await;
    api.require_token("first");
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("token");
    let mut watcher = Watcher::with(&options(&api).token_file(&path), "arith");
    let reason = watcher.failure().await;
    assert!(reason.contains("token"), "{reason}");
    std::fs::write(&path, "first\n").unwrap();
    watcher.until_ports(&[]).await;
    until_watched(&api, 1).await;
    api.require_token("second");
    api.cut_watches();
    let reason = watcher.failure().await;
    assert!(reason.contains("status 401: Unauthorized; the token is missing"), "{reason}");
    std::fs::write(&path, "second\n").unwrap();
    watcher.until_ports(&[]).await;

    let mut forbidden = Watcher::with(&options(&api).token("second"), "arith.forbidden");
    let reason = forbidden.failure().await;
    assert!(reason.contains("must allow to list and watch endpointslices"), "{reason}");
}

#[tokio::test]
async fn wrong_answers_keep_the_list() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let mut watcher = Watcher::of(&api, "arith");
    watcher.until_ports(&[1]).await;
    until_watched(&api, 1).await;
    for (status, headers, body, expected) in [
        (429, "retry-after: 1", String::new(), "status 429"),
        (500, "", r#"{"kind":"Status","message":"etcd is away"}"#.to_owned(), "status 500: etcd is away"),
    ] {
        api.fail_next(status, headers, body);
        api.cut_watches();
        let reason = watcher.failure().await;
        assert!(reason.contains(expected), "{reason}");
        watcher.until_ports(&[1]).await;
    }
    for (body, expected) in [
        ("<html>".to_owned(), "not that of an API server"),
        (
            r#"{"kind":"PodList","metadata":{"resourceVersion":"7"}}"#.to_owned(),
            "no EndpointSliceList, but `PodList`",
        ),
        ("x".repeat(9 * 1024 * 1024), "longer than 8388608 bytes"),
    ] {
        api.fail_next(200, "", body.clone());
        // A page that is too long is requested again with fewer slices.
        for _ in 0..5 * usize::from(body.len() > 1000) {
            api.fail_next(200, "", body.clone());
        }
        let mut fresh = Watcher::of(&api, "arith");
        let reason = fresh.failure().await;
        assert!(reason.contains(expected), "{reason}");
        fresh.until_ports(&[1]).await;
        // Its watch must not take the next wrong answer.
        until("its watch is open", || api.requests().last().unwrap().contains("watch=1")).await;
    }
}

#[tokio::test]
async fn pages_without_an_end_are_reported() {
    let api = ApiServer::start().await;
    for number in 0..12_000 {
        let metadata = format!(r#"{{"resourceVersion":"1","continue":"{number}"}}"#);
        api.fail_next(200, "", format!(r#"{{"kind":"EndpointSliceList","metadata":{metadata},"items":[]}}"#));
    }
    let options = options(&api).request_timeout(Duration::from_millis(200));
    let reason = Watcher::with(&options, "arith").failure().await;
    // By their number on a quick machine, and by their time on a slow one.
    let expected =
        ["more than 10000 EndpointSlices", "the list was not complete within 2.4", "no answer within 200"];
    assert!(expected.iter().any(|expected| reason.contains(expected)), "{reason}");
}

#[tokio::test]
async fn service_of_very_many_bytes_is_reported() {
    // 34 pages just under the limit of one make 272 MB.
    let long = "x".repeat(8_000_000);
    let api = ApiServer::start().await;
    for number in 1..=34 {
        let metadata = format!(r#"{{"resourceVersion":"1","continue":"{number}"}}"#);
        let item = format!(r#"{{"metadata":{{"name":"{number}"}},"annotations":"{long}"}}"#);
        let body = format!(r#"{{"kind":"EndpointSliceList","metadata":{metadata},"items":[{item}]}}"#);
        api.fail_next(200, "", body);
    }
    // A limit of time that no machine is too slow for.
    let options = options(&api).request_timeout(Duration::from_secs(60));
    let reason = Watcher::with(&options, "arith").failure().await;
    assert!(reason.contains("more than 268435456 bytes"), "{reason}");
}

#[tokio::test]
async fn event_that_cannot_be_used_makes_it_list_again() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let mut watcher = Watcher::of(&api, "arith");
    watcher.until_ports(&[1]).await;
    until_watched(&api, 1).await;
    for line in [
        "{\"type\":\"ADDED\",\"object\":7}\n",
        "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"no\"}}\n",
    ] {
        let lists =
            |api: &ApiServer| api.requests().iter().filter(|request| !request.contains("watch=1")).count();
        let before = lists(&api);
        api.fail_next(200, "", line);
        api.cut_watches();
        until("another list", || lists(&api) > before).await;
        until_watched(&api, before + 1).await;
    }
    api.put("shop", &slice("arith", "b", 2, &["10.0.0.1"]));
    watcher.until_ports(&[1, 2]).await;
}

#[tokio::test]
async fn port_that_no_slice_has_is_reported_and_the_list_kept() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let (publisher, mut seen) = publisher();
    let discovery = KubernetesDiscovery::new(&options(&api), "arith").unwrap().port("grpc").unwrap();
    let running = tokio::spawn(discovery.run(publisher));
    let failing = within_patience("failing", seen.wait_for(|seen| seen.failing.is_some())).await.unwrap();
    let reason = failing.failing.clone().unwrap().reason;
    assert_eq!(&*reason, "no port of the service is named `grpc`; there are `rpc`");
    running.abort();
}

#[tokio::test]
async fn empty_list_names_the_other_services() {
    let api = ApiServer::start().await;
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    api.put("shop", &slice("text", "b", 1, &["10.0.0.1"]));
    let list = Watcher::of(&api, "arit").until("a note", |list| list.note.is_some()).await;
    assert_eq!(list.note.as_deref(), Some("it lists `arith`, `text`"));
}

#[tokio::test]
async fn services_of_all_pages_are_listed_once() {
    let api = ApiServer::start().await;
    for number in 0..120 {
        let slice =
            slice(&format!("service-{:02}", number % 40), &format!("s{number}"), number, &["10.0.0.1"]);
        api.put("shop", &slice);
    }
    let discovery = KubernetesDiscovery::new(&options(&api), "any").unwrap();
    let expected: Vec<_> = (0..40).map(|number| format!("service-{number:02}")).collect();
    assert_eq!(discovery.services().await.unwrap(), expected);
    assert_eq!(api.requests().len(), 3, "pages of 50");
}

#[tokio::test]
async fn authorities_of_the_service_account_are_trusted_and_read_again() {
    let api = ApiServer::start().await;
    api.require_token("hush");
    api.put("shop", &slice("arith", "a", 1, &["10.0.0.1"]));
    let (authority, stranger) = (Authority::new("cluster"), Authority::new("stranger"));
    let certificate = authority.issue(&["127.0.0.1"]);
    let identity = farcall_tls::Identity::from_pem(certificate.chain.clone(), certificate.key.clone());
    let config = farcall_tls::server_config(&identity, farcall_tls::ClientAuth::None, &[]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let plain = api.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(stream).await?;
                copy_bidirectional(&mut client, &mut TcpStream::connect(plain).await?).await
            });
        }
    });

    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    write("namespace", "shop");
    write("token", "hush\n");
    write("ca.crt", &stranger.certificate);
    let options = KubernetesOptions::in_pod("127.0.0.1", &port, files.path()).unwrap();
    let mut watcher = Watcher::with(&options, "arith");
    let reason = watcher.failure().await;
    assert!(reason.contains("connecting failed"), "{reason}");
    write("ca.crt", &authority.certificate);
    watcher.until_ports(&[1]).await;
}

#[test]
fn servers_are_dialed_by_any_scheme_but_that_of_unix_sockets() {
    let options = KubernetesOptions::new("https://10.0.0.1:6443", "shop").unwrap();
    let by = |scheme| KubernetesDiscovery::new(&options, "arith").unwrap().scheme(scheme).map(drop);
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Http, Scheme::Ws] {
        by(scheme).unwrap();
    }
    let error = by(Scheme::Unix).unwrap_err();
    assert!(matches!(error, KubernetesOptionsError::Scheme(Scheme::Unix)), "{error}");
}
