//! Requests of web pages in a real browser, which decides whether a page may read an answer.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use farcall_http::{Gateway, HttpOptions, serve};
use farcall_test_browser::Browser;
use farcall_transport::{Address, Listener};
use serde_json::{Value, json};

use crate::world::World;

/// Starts another server with a page, and returns its URL.
async fn page() -> String {
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let origin = format!("http://{}", listener.address().socket_addr().unwrap());
    let router = Router::new().route("/", get(async || Html("<!doctype html><title>a page</title>")));
    tokio::spawn(serve(listener, router, std::future::pending()));
    origin
}

/// Sends a request in a page, and returns the answer or the error as the page sees it.
async fn fetch(browser: &Browser, url: &str, options: &Value) -> Value {
    let script = format!(
        "try {{
            const answer = await fetch('{url}', {options});
            const meta = answer.headers.get('farcall-meta-seen-tenant');
            return {{ type: answer.type, status: answer.status, meta, text: await answer.text() }};
        }} catch (error) {{ return {{ error: error.name }}; }}"
    );
    browser.script(&script).await
}

#[tokio::test]
async fn page_of_an_allowed_origin_can_call_and_a_foreign_one_cannot() {
    let (allowed, foreign) = (page().await, page().await);
    let settings = HttpOptions::default().gateway(Gateway::default()).allowed_origin(&allowed);
    let world = World::with(settings).await;
    let url = |method: &str| format!("http://{}/rpc/{method}", world.place);
    let browser = Browser::start().await;

    browser.open(&allowed).await;
    // The gateway's headers make the browser send a preflight request first.
    let headers = json!({
        "content-type": "application/json",
        "farcall-timeout-ms": "30000",
        "farcall-meta-tenant": "blue",
    });
    let options = json!({ "method": "POST", "headers": headers, "body": "[6,7]" });
    let seen = fetch(&browser, &url("Arith.multiply"), &options).await;
    assert_eq!((&seen["status"], &seen["text"]), (&json!(200), &json!("42")), "{seen}");
    let seen = fetch(&browser, &url("Odd.tagged"), &options).await;
    assert_eq!((&seen["meta"], &seen["text"]), (&json!("blue"), &json!("null")), "{seen}");
    let seen = fetch(&browser, &url("Arith.power"), &options).await;
    assert!(seen["status"] == 404 && seen["text"].to_string().contains("no method"), "{seen}");
    assert_eq!(world.multiplied(), 1);

    browser.open(&foreign).await;
    let plain = json!({ "method": "POST", "headers": { "content-type": "text/plain" }, "body": "[6,7]" });
    for options in [&options, &plain] {
        assert_eq!(fetch(&browser, &url("Arith.multiply"), options).await, json!({ "error": "TypeError" }));
    }
    // The browser sends this request without a preflight, and hides the answer from the page.
    let no_cors = json!({ "method": "POST", "mode": "no-cors", "body": "[6,7]" });
    assert_eq!(fetch(&browser, &url("Arith.multiply"), &no_cors).await["type"], "opaque");
    assert_eq!(fetch(&browser, &url("openapi.json"), &json!({})).await, json!({ "error": "TypeError" }));
    // A form whose only field, with its name and value joined by `=`, is JSON. The browser shows the answer.
    let form = format!(
        "document.body.innerHTML = `<form method=post enctype=text/plain action='{}'><input \
         name='{{\"a\":6,\"b\":7,\"c\":\"' value='\"}}'>\
         </form>`; document.forms[0].submit();",
        url("Arith.multiply")
    );
    browser.script(&form).await;
    browser.shows("is a foreign origin").await;
    assert_eq!(world.multiplied(), 1);
}
