//! The page in a browser, with a real server behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farcall_http::{Gateway, HttpOptions, ProgressRow};
use farcall_protocol::describe::MethodInfo;
use farcall_server::{Receiver, Sender, Server, Service};
use farcall_test_browser::Browser;
use serde_json::{Value, json};

use crate::served::{Front, HOSTILE, Served, services, sleeping};
use crate::support::until;

/// Starts a server, and opens its page.
async fn open() -> (Served, Browser) {
    let served = Served::start(services(), HttpOptions::default()).await;
    let browser = Browser::start().await;
    browser.screen(1280, 900, false).await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.shows("Live").await;
    (served, browser)
}

/// A JavaScript expression for the age of the first call in flight.
const AGE: &str = "document.querySelector('#calls td.age').innerText";

/// Returns a JavaScript expression for the text of a cell in the method's row.
fn cell(method: &str, column: &str) -> String {
    format!(
        "[...document.querySelectorAll('#methods tr')].find((row) => row.querySelector('.method-name')?.textContent \
         === {}).querySelector('td.{column}').innerText.trim()",
        json!(method)
    )
}

#[tokio::test]
async fn calls_are_shown_and_counted_without_reloading() {
    let (served, browser) = open().await;
    browser.script("window.loadedOnce = true").await;
    browser.shows("No call is in flight").await;
    let channel = served.channel();
    let sleeping = channel.call::<()>("Probe.sleep", &json!({})).timeout(crate::support::S * 900).start();
    browser.sees("document.querySelector('#calls td.of-method').innerText === 'Probe.sleep'").await;
    browser.sees(&format!("{} === '1'", cell("sleep", "flight"))).await;
    browser.sees("/^in \\d+ (min|s)/.test(document.querySelector('#calls td.deadline').innerText)").await;
    // Updates keep the row's element.
    browser
        .script(&format!("window.row = document.querySelector('#calls tbody tr'); window.age = {AGE}"))
        .await;
    browser.sees(&format!("{AGE} !== window.age")).await;
    assert_eq!(browser.script("return window.row === document.querySelector('#calls tbody tr')").await, true);
    drop(sleeping);
    browser.shows("No call is in flight").await;

    for round in 1..=3 {
        channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
        browser.sees(&format!("{} === '{round}'", cell("echo", "calls-count"))).await;
    }
    channel.call::<()>("Probe.fail", &json!({})).await.unwrap_err();
    browser.sees("document.querySelector('#failed .code').innerText === 'application'").await;
    browser.sees(&format!("{}.startsWith('1')", cell("fail", "failures"))).await;
    browser.sees("document.querySelector('#connections td.scheme').innerText === 'http'").await;
    browser
        .sees(
            "document.querySelector('#limits [role=meter][aria-label=max_connections]').ariaValueNow === '1'",
        )
        .await;
    assert_eq!(browser.script("return window.loadedOnce").await, true);
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn progress_of_the_program_is_shown_and_updated() {
    let copied = Arc::new(AtomicU64::new(3));
    let seen = Arc::clone(&copied);
    let options = HttpOptions::default().progress(HOSTILE, move || {
        let copied = seen.load(Relaxed);
        vec![
            ProgressRow::new("a.tar", copied * 1024).total(8 * 1024).unit("bytes"),
            ProgressRow::new(HOSTILE, copied).unit("files"),
        ]
    });
    let served = Served::start(services(), options).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.sees(&format!("document.querySelector('#progress h3').textContent === {}", json!(HOSTILE))).await;
    browser.shows("3 KiB of 8 KiB").await;
    browser.shows("3 files").await;
    copied.store(8, Relaxed);
    browser.sees("document.querySelector('#progress [role=meter]').ariaValueNow === '8192'").await;
    // A whole job is no warning.
    assert_eq!(browser.script("return document.querySelector('#progress [data-state]')").await, Value::Null);
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn open_details_selection_and_search_survive_updates() {
    let (served, browser) = open().await;
    let channel = served.channel();
    browser.click("#methods .opener").await;
    browser.shows("Word for word.").await;
    browser.shows("echo(text: Vec<String>) -> Result<String, Failure>").await;
    // The copy of it is what a shell runs.
    let example = format!(
        "document.querySelector('.example').textContent === \"farcall call http@{}\" + \" Probe.echo \" + \
         String.raw`'{{\"text\":[\"text\"]}}'`",
        served.place
    );
    browser.sees(&example).await;
    browser
        .script(
            "window.detail = document.querySelector('#methods .detail'); \
             const range = document.createRange(); range.selectNodeContents(document.querySelector('.signature')); \
             getSelection().removeAllRanges(); getSelection().addRange(range); \
             document.querySelector('#methods .opener').focus()",
        )
        .await;
    channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
    browser.sees(&format!("{} === '1'", cell("echo", "calls-count"))).await;
    // The history is drawn once the server has taken its next sample.
    browser.sees("document.querySelector('.detail .line.calls').getAttribute('d') !== ''").await;
    assert_eq!(
        browser
            .script(
                "return [window.detail === document.querySelector('#methods .detail'), String(getSelection()), \
                 document.activeElement.className]"
            )
            .await,
        json!([true, "echo(text: Vec<String>) -> Result<String, Failure>", "opener"])
    );
    browser.keys("#search", "fail").await;
    browser.sees("document.querySelectorAll('#methods tbody > tr').length === 1").await;
    browser.sees("document.querySelector('#methods .number').innerText === '1 of 3'").await;
    browser.script("document.querySelector('#search').value = ''").await;
    browser.keys("#search", " ").await;
    browser
        .sees("document.querySelectorAll('#methods .listed > table > tbody > tr:not(.detail)').length === 3")
        .await;

    // The Enter key on a column head sorts the table.
    browser.keys("#methods .h-calls-count button", "\u{e007}").await;
    browser.sees("document.querySelector('#methods .h-calls-count').ariaSort === 'descending'").await;
    browser.sees("document.querySelector('#methods .method-name').innerText === 'echo'").await;
    browser.keys("#methods .h-calls-count button", "\u{e007}").await;
    browser.sees("document.querySelector('#methods .h-calls-count').ariaSort === 'ascending'").await;
    browser.sees("document.querySelector('#methods .method-name').innerText !== 'echo'").await;
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_of_methods_that_stream_run_in_a_shell() {
    #[derive(serde::Deserialize)]
    struct Count {
        word: String,
    }
    let service = Service::new("Feed")
        .stream_out("count", async |count: Count, mut out: Sender<u64>| {
            let _ = out.send(7).await;
            count.word
        })
        .stream_both("it's", async |(): (), mut items: Receiver<String>, mut out: Sender<String>| {
            while let Some(Ok(item)) = items.recv().await {
                let _ = out.send(item).await;
            }
        });
    let options = HttpOptions::default().gateway(Gateway::default());
    let served = Served::start(Server::builder().service(service), options).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.shows("Live").await;
    browser
        .script("for (const opener of document.querySelectorAll('#methods .opener')) opener.click()")
        .await;
    browser.sees("document.querySelectorAll('.example').length === 2").await;
    let all =
        "return [...document.querySelectorAll('.example')].map((example) => example.textContent).sort()";
    let mut printed = Vec::new();
    for command in browser.script(all).await.as_array().unwrap() {
        let command = command.as_str().unwrap();
        assert!(command.contains("curl -N ") && !command.contains("farcall call"), "{command}");
        let mut shell = tokio::process::Command::new("sh");
        let output = shell.args(["-c", command]).env("no_proxy", "*").output().await.unwrap();
        printed.push(String::from_utf8(output.stdout).unwrap());
    }
    let count = "{\"item\":7}\n{\"result\":\"text\"}\n";
    assert_eq!(printed, [count, "{\"item\":\"text\"}\n{\"result\":null}\n"]);
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn foreign_text_is_shown_and_never_executed() {
    let (served, browser) = open().await;
    served.channel().call::<()>("Probe.fail", &json!({})).await.unwrap_err();
    let text = json!(format!("{HOSTILE} as text"));
    browser.sees(&format!("document.querySelector('#failed td.message').textContent.includes({text})")).await;
    browser
        .script("for (const opener of document.querySelectorAll('#methods .opener')) opener.click()")
        .await;
    let doc = json!(HOSTILE);
    browser
        .sees(&format!(
            "[...document.querySelectorAll('.whole-doc')].some((doc) => doc.textContent === {doc})"
        ))
        .await;
    let parsed = "return [document.querySelectorAll('img, iframe').length, document.querySelectorAll('script').length, \
                  window.ran ?? null]";
    assert_eq!(browser.script(parsed).await, json!([0, 1, null]), "the page has one script");
    // The content security policy also prevents the browser from running injected code.
    let injected = "const s = document.createElement('script'); \
                   try { s.textContent = 'window.ran = 1'; document.body.append(s); } catch {} \
                   try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.ran=2>'); } catch {} \
                   return [window.ran ?? null, document.querySelectorAll('img').length]";
    assert_eq!(browser.script(injected).await, json!([null, 0]));
}

#[tokio::test]
async fn page_fits_a_phone_and_follows_the_color_scheme() {
    let (served, browser) = open().await;
    let channel = served.channel();
    let sleeping = channel.call::<()>("Probe.sleep", &json!({})).start();
    channel.call::<()>("Probe.fail", &json!({})).await.unwrap_err();
    browser.sees("document.querySelector('#failed .code') && document.querySelector('#calls td.age')").await;
    browser
        .script("for (const opener of document.querySelectorAll('#methods .opener')) opener.click()")
        .await;
    for (width, mobile) in
        [(360, true), (600, true), (901, false), (1000, false), (1181, false), (1280, false)]
    {
        browser.screen(width, 780, mobile).await;
        let overflow =
            "const r = document.documentElement; return [r.scrollWidth - r.clientWidth, innerWidth]";
        assert_eq!(browser.script(overflow).await, json!([0, width]), "the page scrolls horizontally");
        // No element extends past the window, except in areas that scroll.
        let outside = "return [...document.querySelectorAll('#sections *, #tiles *')].filter((e) => \
                       e.checkVisibility() && !e.closest('.spans, svg, .unseen') && \
                       (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)) \
                       .map((e) => e.outerHTML.slice(0, 200))";
        assert_eq!(browser.script(outside).await, json!([]), "at {width}");
        // The open details are as wide as their table after the page is drawn again.
        browser
            .sees(
                "[...document.querySelectorAll('#methods .detail')].every((row) => \
                 row.getBoundingClientRect().width === row.closest('table').getBoundingClientRect().width) && \
                 document.querySelector('#methods td.method').getBoundingClientRect().width > 180",
            )
            .await;
    }
    for (scheme, back, text) in [("light", "> 200", "< 80"), ("dark", "< 60", "> 200")] {
        browser.scheme(scheme).await;
        let colors = format!(
            "const parts = (color) => color.match(/\\d+/g); const style = getComputedStyle(document.body); return \
             [parts(style.backgroundColor).every((part) => part {back}), parts(style.color).every((part) => part {text})]"
        );
        assert_eq!(browser.script(&colors).await, json!([true, true]), "{scheme}");
        // WCAG 2 requires a contrast of 4.5 for text of normal size.
        assert_eq!(browser.script(POOR_CONTRAST).await, json!([]), "{scheme}");
    }
    drop(sleeping);
}

/// A script that returns the texts whose contrast to their background is less than 4.5.
const POOR_CONTRAST: &str = "
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => {
        const [r, g, b] = parts(color).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (parts(color)[3] !== 0) return color;
        }
    };
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return [...document.querySelectorAll('body *')].filter((element) => own(element) && element.checkVisibility()).map((element) => {
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        return [(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 120)];
    }).filter(([ratio]) => ratio < 4.5)";

#[tokio::test]
async fn lost_server_is_reported_and_its_successor_is_shown() {
    let first = Served::start(services(), HttpOptions::default()).await;
    let front = Front::before(&first).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall/", front.place)).await;
    browser.shows("Live").await;
    first.channel().call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
    browser.sees(&format!("{} === '1'", cell("echo", "calls-count"))).await;

    front.forward_to(None);
    drop(first);
    browser.sees("/^The server has not answered since \\d\\d:\\d\\d:\\d\\d: /.test(document.querySelector('#lost').innerText)").await;
    browser.sees("/^No answer for \\d+ s/.test(document.querySelector('#connection').innerText)").await;
    // The last figures stay visible.
    assert_eq!(browser.script(&format!("return {}", cell("echo", "calls-count"))).await, "1");

    let other = Service::new("Other").handler(MethodInfo::new("method"), sleeping());
    let second = Served::start(Server::builder().service(other), HttpOptions::default()).await;
    front.forward_to(Some(&second));
    browser.shows("Live").await;
    browser.sees("document.querySelector('#lost').hidden").await;
    browser.sees("document.querySelector('#methods .full-name').innerText === 'Other.method'").await;
    browser.sees("document.querySelectorAll('#methods tbody tr').length === 1").await;
}

#[tokio::test]
async fn paused_or_hidden_page_sends_no_requests() {
    let (served, browser) = open().await;
    let channel = served.channel();
    // Count the requests at `fetch`.
    browser
        .script("window.requests = 0; const original = window.fetch; window.fetch = (...args) => { window.requests += 1; return original(...args); }")
        .await;
    let mut calls = 0;
    for (pause, resume) in [
        ("document.querySelector('#pause').click()", "document.querySelector('#pause').click()"),
        (
            "Object.defineProperty(document, 'hidden', { value: true, configurable: true }); \
             document.dispatchEvent(new Event('visibilitychange'))",
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))",
        ),
    ] {
        browser.sees("window.requests > 1").await;
        browser.script(&format!("{pause}; window.requests = 0")).await;
        channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
        calls += 1;
        // Three times the page's polling interval.
        let waited = "return new Promise((done) => setTimeout(() => done(window.requests), 3000))";
        assert_eq!(browser.script(waited).await, 0, "{pause}");
        browser.script(resume).await;
        browser.sees(&format!("{} === '{calls}'", cell("echo", "calls-count"))).await;
    }
}

#[tokio::test]
async fn two_hundred_methods_and_calls_are_rendered_in_parts() {
    let describe = |n: usize| MethodInfo::new(format!("method{n:03}")).doc("Does what it does. ".repeat(10));
    let service = (0..200).fold(Service::new("Many"), |service, n| service.handler(describe(n), sleeping()));
    let served = Served::start(Server::builder().service(service), HttpOptions::default()).await;
    let channel = served.channel();
    let names: Vec<_> = (0..200).map(|n| format!("Many.method{n:03}")).collect();
    let calls: Vec<_> =
        names.iter().map(|name| channel.call::<()>(name.clone(), &json!({})).start()).collect();
    until("all calls are in flight", || served.handle.in_flight() == 200).await;

    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.sees("document.querySelector('#methods .number').innerText === '200'").await;
    browser.sees("document.querySelector('#calls .number').innerText === '200'").await;
    // The page shows the first rows, and the others after clicks.
    browser.sees("document.querySelectorAll('#methods tbody tr').length === 50").await;
    for _ in 0..2 {
        browser.click("#methods .rest").await;
    }
    browser.sees("document.querySelectorAll('#methods tbody tr').length === 200").await;
    browser.sees("document.querySelector('#methods .rest').hidden").await;
    for _ in 0..2 {
        browser.click("#calls .rest").await;
    }
    browser.sees("document.querySelectorAll('#calls tbody tr').length === 200").await;
    let rows = "[...document.querySelectorAll('#calls tbody tr')]";
    browser.script(&format!("window.rows = {rows}; window.age = {AGE}")).await;
    browser.sees(&format!("{AGE} !== window.age")).await;
    let same = format!("return {rows}.every((row, index) => row === window.rows[index])");
    assert_eq!(browser.script(&same).await, true, "rows were replaced");
    drop(calls);
    browser.shows("No call is in flight").await;
    assert_eq!(browser.log().await, Vec::<String>::new());
    assert_eq!(browser.script("return window.ran ?? null").await, Value::Null);
}
