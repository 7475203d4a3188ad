//! The open streams on the page, in a browser.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use farcall_http::HttpOptions;
use farcall_protocol::Bytes;
use farcall_server::Server;
use farcall_test_browser::Browser;
use serde_json::json;

use crate::served::Served;
use crate::support::feed::feed;

/// A JavaScript expression for the texts of these cells in each row of the open streams.
fn cells(columns: &[&str]) -> String {
    format!(
        "[...document.querySelectorAll('#streams tbody tr')].map((row) => \
         {}.map((column) => row.querySelector(`td.${{column}}`).innerText))",
        json!(columns)
    )
}

/// Returns a JavaScript condition: the rows have these texts in these cells, whatever their order is.
fn rows_are(columns: &[&str], rows: &serde_json::Value) -> String {
    let sorted = |rows: &str| format!("JSON.stringify(({rows}).sort())");
    format!("{} === {}", sorted(&cells(columns)), sorted(&rows.to_string()))
}

#[tokio::test]
async fn open_streams_are_shown_with_what_has_passed_and_what_they_wait_for() {
    let builder = feed(Server::builder(), &Arc::new(AtomicUsize::new(0)));
    let served = Served::start(builder, HttpOptions::default()).await;
    let browser = Browser::start().await;
    browser.screen(1280, 900, false).await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.shows("No stream is open").await;
    let channel = served.channel();

    // The handler has nothing to send; the client sends nothing; the client takes nothing.
    let mut ticks =
        channel.call::<()>("Feed.ticks", &json!({"every_ms": 3_600_000})).receive::<u64>().await.unwrap();
    assert_eq!(ticks.next().await.unwrap().unwrap(), 0);
    let mut echo = channel.call::<u64>("Feed.echo", &json!({})).exchange::<Bytes, Bytes>().await.unwrap();
    echo.send(Bytes::from(vec![1; 100])).await.unwrap();
    assert_eq!(echo.next().await.unwrap().unwrap().len(), 100);
    let blobs = channel
        .call::<u64>("Feed.blobs", &json!({"n": 100, "bytes": 64 * 1024}))
        .receive::<Bytes>()
        .await
        .unwrap();

    let waits = json!([["Feed.ticks", "handler"], ["Feed.echo", "peer"], ["Feed.blobs", "credit"]]);
    browser.sees(&rows_are(&["of-method", "waits"], &waits)).await;
    let passed = json!([
        ["Feed.ticks", "1, 1 B", "–", "–", "0"],
        ["Feed.echo", "1, 102 B", "1, 102 B", "64 KiB", "0"],
        ["Feed.blobs", "4, 256 KiB", "–", "–", "1"],
    ]);
    browser
        .sees(&rows_are(&["of-method", "items-sent", "items-received", "window", "stalls"], &passed))
        .await;
    browser.sees("document.querySelector('#streams .number').innerText === '3'").await;
    for (width, mobile) in [(360, true), (1280, false)] {
        browser.screen(width, 1700, mobile).await;
        let overflow = "const root = document.documentElement; return root.scrollWidth - root.clientWidth";
        assert_eq!(browser.script(overflow).await, 0, "the page scrolls horizontally at {width}");
    }

    // A stream that has ended leaves the page, and the others stay where they are.
    browser
        .script("window.rows = [...document.querySelectorAll('#streams tbody tr')]; window.loadedOnce = true")
        .await;
    drop(blobs);
    let left = json!([["Feed.ticks", "handler"], ["Feed.echo", "peer"]]);
    browser.sees(&rows_are(&["of-method", "waits"], &left)).await;
    let kept = "return [...document.querySelectorAll('#streams tbody tr')].every((row) => window.rows.includes(row))";
    assert_eq!(browser.script(kept).await, true);
    drop((ticks, echo));
    browser.shows("No stream is open").await;
    assert_eq!(browser.script("return window.loadedOnce").await, true);
    assert_eq!(browser.log().await, Vec::<String>::new());
}
