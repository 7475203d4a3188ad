//! Access to the page, and the content of its snapshot, with plain HTTP requests.

use farcall_http::{DebugPage, HttpOptions};
use serde_json::{Value, json};

use crate::served::{Served, services};
use crate::support::until;

const PAGE: &str = "/debug/farcall";
const OVERVIEW: &str = "/debug/farcall/overview.json";

async fn served(settings: HttpOptions) -> Served {
    Served::start(services(), settings).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

fn json_of(answer: &str) -> Value {
    assert_eq!(status(answer), "200", "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn loopback_client_sees_the_page_and_the_snapshot() {
    let served = served(HttpOptions::default()).await;
    for path in [PAGE, "/debug/farcall/"] {
        let answer = served.get(path, "").await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"), "{answer}");
        assert!(
            answer.contains("content-security-policy: default-src 'none'; script-src 'nonce-"),
            "{answer}"
        );
    }
    let overview = json_of(&served.get(OVERVIEW, "").await);
    assert_eq!(overview["server"]["health"], "serving");
    assert_eq!(overview["channels"], json!([]));
    let answer = served.ask(&format!("POST {PAGE} HTTP/1.1\r\nHost: {}\r\n", served.place)).await;
    assert_eq!(status(&answer), "405", "{answer}");
}

#[tokio::test]
async fn requests_of_proxies_and_foreign_pages_are_refused() {
    let served = served(HttpOptions::default()).await;
    for path in [PAGE, "/debug/farcall/", OVERVIEW] {
        for forwarded in
            ["X-Forwarded-For: 10.0.0.7\r\n", "Forwarded: for=10.0.0.7\r\n", "Via: 1.1 proxy\r\n"]
        {
            let answer = served.get(path, forwarded).await;
            assert_eq!(status(&answer), "403", "{answer}");
            assert!(answer.contains("HttpOptions::debug_page(DebugPage::Everyone)"), "{answer}");
        }
        // nginx sends HTTP/1.0 without further headers by default.
        let answer = served.ask(&format!("GET {path} HTTP/1.0\r\nHost: {}\r\n", served.place)).await;
        assert_eq!(status(&answer), "403", "{answer}");
        let answer = served.ask(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n")).await;
        assert_eq!(status(&answer), "403", "{answer}");
        let answer = served.get(path, "Origin: https://evil.example\r\n").await;
        assert_eq!(status(&answer), "403", "{answer}");
    }
}

#[tokio::test]
async fn page_for_everyone_is_served_through_a_proxy() {
    let settings = HttpOptions::default().debug_page(DebugPage::Everyone).allowed_host("calc.example.com");
    let served = served(settings).await;
    for path in [PAGE, OVERVIEW] {
        let answer = served
            .ask(&format!("GET {path} HTTP/1.1\r\nHost: calc.example.com\r\nX-Forwarded-For: 10.0.0.7\r\n"))
            .await;
        assert_eq!(status(&answer), "200", "{answer}");
        // The check of the host name still applies.
        let answer = served.ask(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n")).await;
        assert_eq!(status(&answer), "403", "{answer}");
    }
}

#[tokio::test]
async fn disabled_page_is_404() {
    let served = served(HttpOptions::default().debug_page(DebugPage::Off)).await;
    for path in [PAGE, "/debug/farcall/", OVERVIEW] {
        let answer = served.get(path, "").await;
        assert_eq!(status(&answer), "404", "{answer}");
        assert!(answer.contains("there is nothing at"), "{answer}");
    }
}

#[tokio::test]
async fn brief_snapshot_omits_the_descriptions() {
    let served = served(HttpOptions::default()).await;
    let channel = served.channel();
    channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
    channel.call::<()>("Probe.fail", &json!({})).await.unwrap_err();
    let sleeping = channel.call::<()>("Probe.sleep", &json!({})).start();
    until("the call is in flight", || served.handle.in_flight() == 1).await;

    let full = json_of(&served.get(OVERVIEW, "").await);
    let brief = json_of(&served.get(&format!("{OVERVIEW}?brief"), "").await);
    assert_eq!(full["server"]["services"][0]["methods"][0]["doc"], "Says it again.\n\nWord for word.");
    assert_eq!(brief["server"]["services"], json!([]));
    for overview in [&full["server"], &brief["server"]] {
        let methods = overview["methods"].as_array().unwrap();
        let of = |name: &str| methods.iter().find(|method| method["name"] == name).unwrap();
        assert_eq!(of("Probe.echo")["total"]["calls"], 1);
        assert_eq!(of("Probe.fail")["total"]["errors"], json!({"application": 1}));
        assert_eq!(of("Probe.sleep")["in_flight"], 1);
        assert_eq!(overview["calls"][0]["method"], "Probe.sleep");
        assert_eq!(overview["connections"][0]["scheme"], "http");
        assert_eq!(overview["failed"][0]["code"], "application");
    }
    drop(sleeping);
}

#[cfg(feature = "client")]
#[tokio::test]
async fn client_only_process_shows_its_channels() {
    use farcall_http::{ProgressRow, client_router, serve};
    use farcall_test_support::http;
    use farcall_transport::{Address, Listener};

    let served = served(HttpOptions::default()).await;
    let channel = served.channel();
    channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    let copied = || vec![ProgressRow::new("a.tar", 3).total(8).unit("bytes"), ProgressRow::new("b.tar", 1)];
    let options = HttpOptions::default()
        .channel("calc", channel)
        .progress("Copies", copied)
        .progress("Many", || (0..201).map(|n| ProgressRow::new(n.to_string(), n)).collect())
        .progress("Broken", || panic!("as the test wants it"));
    let router = client_router(&options);
    let serving = tokio::spawn(serve(listener, router, std::future::pending()));
    let get = async |path: &str| {
        let answer = http::ask(place, "GET", path).await.unwrap();
        String::from_utf8(answer.bytes).unwrap()
    };
    let overview = json_of(&get(OVERVIEW).await);
    assert_eq!(overview["server"], Value::Null);
    let channel = &overview["channels"][0];
    assert_eq!((&channel["name"], &channel["endpoint_count"]), (&json!("calc"), &json!(1)), "{channel}");
    assert_eq!(channel["endpoints"][0]["address"], format!("http@{}", served.place), "{channel}");
    assert_eq!(channel["endpoints"][0]["state"], "healthy", "{channel}");
    let [copies, many, broken] = [0, 1, 2].map(|list| &overview["progress"][list]);
    let rows = json!([
        {"name": "a.tar", "used": 3, "limit": 8, "unit": "bytes"},
        {"name": "b.tar", "used": 1, "limit": null, "unit": ""},
    ]);
    assert_eq!(*copies, json!({"title": "Copies", "row_count": 2, "rows": rows}));
    assert_eq!((&many["row_count"], many["rows"].as_array().unwrap().len()), (&json!(201), 200));
    assert_eq!(*broken, json!({"title": "Broken", "row_count": 0, "rows": []}));
    assert_eq!(status(&get("/healthz").await), "200");
    assert_eq!(status(&get("/metrics").await), "200");
    serving.abort();
}
