//! The page in a browser, with a real server behind it.

use farcall_http::HttpOptions;
use farcall_protocol::describe::MethodInfo;
use farcall_server::{Server, Service};
use farcall_test_browser::Browser;
use serde_json::{Value, json};

use crate::served::{Front, HOSTILE, Served, services, sleeping};
use crate::support::until;

/// A server, and the page, live.
async fn open() -> (Served, Browser) {
    let served = Served::start(services(), HttpOptions::default()).await;
    let browser = Browser::start().await;
    browser.screen(1280, 900, false).await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.shows("Live").await;
    (served, browser)
}

/// An expression for the age of the first call under way.
const AGE: &str = "document.querySelector('#calls td.age').innerText";

/// An expression for the text of a cell of the method's row.
fn cell(method: &str, column: &str) -> String {
    format!(
        "[...document.querySelectorAll('#methods tr')].find((row) => row.querySelector('.method-name')?.textContent \
         === {}).querySelector('td.{column}').innerText.trim()",
        json!(method)
    )
}

#[tokio::test]
async fn calls_are_seen_under_way_and_counted_without_reloading() {
    let (served, browser) = open().await;
    browser.script("window.loadedOnce = true").await;
    browser.shows("No call is in flight").await;
    let channel = served.channel();
    let sleeping = channel.call::<()>("Probe.sleep", &json!({})).timeout(crate::support::S * 900).start();
    browser.sees("document.querySelector('#calls td.of-method').innerText === 'Probe.sleep'").await;
    browser.sees(&format!("{} === '1'", cell("sleep", "flight"))).await;
    browser.sees("/^in \\d+ (min|s)/.test(document.querySelector('#calls td.deadline').innerText)").await;
    // It is the same row all the time.
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
async fn what_is_open_selected_and_looked_for_stays_while_figures_change() {
    let (served, browser) = open().await;
    let channel = served.channel();
    browser.click("#methods .opener").await;
    browser.shows("Word for word.").await;
    browser.shows("echo(text: Vec<String>) -> Result<String, Failure>").await;
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
    // The first step of the history comes with the server's next look at itself.
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

    // Sorted by its head, by the keyboard.
    browser.keys("#methods .h-calls-count button", "\u{e007}").await;
    browser.sees("document.querySelector('#methods .h-calls-count').ariaSort === 'descending'").await;
    browser.sees("document.querySelector('#methods .method-name').innerText === 'echo'").await;
    browser.keys("#methods .h-calls-count button", "\u{e007}").await;
    browser.sees("document.querySelector('#methods .h-calls-count').ariaSort === 'ascending'").await;
    browser.sees("document.querySelector('#methods .method-name').innerText !== 'echo'").await;
    assert_eq!(browser.log().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_others_say_is_shown_as_text_and_never_run() {
    let (served, browser) = open().await;
    served.channel().call::<()>("Probe.fail", &json!({})).await.unwrap_err();
    let text = json!(format!("{HOSTILE} it says"));
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
    assert_eq!(browser.script(parsed).await, json!([0, 1, null]), "its own script");
    // Nor would the browser run what was slipped in.
    let slipped = "const s = document.createElement('script'); \
                   try { s.textContent = 'window.ran = 1'; document.body.append(s); } catch {} \
                   try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.ran=2>'); } catch {} \
                   return [window.ran ?? null, document.querySelectorAll('img').length]";
    assert_eq!(browser.script(slipped).await, json!([null, 0]));
}

#[tokio::test]
async fn it_fits_a_phone_and_is_dark_for_those_who_like_it() {
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
        let sideways =
            "const r = document.documentElement; return [r.scrollWidth - r.clientWidth, innerWidth]";
        assert_eq!(browser.script(sideways).await, json!([0, width]), "it scrolls sideways");
        // Nothing is written over something else or cut off, but in what scrolls itself.
        let outside = "return [...document.querySelectorAll('#sections *, #tiles *')].filter((e) => \
                       e.checkVisibility() && !e.closest('.spans, svg, .unseen') && \
                       (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)) \
                       .map((e) => e.outerHTML.slice(0, 200))";
        assert_eq!(browser.script(outside).await, json!([]), "at {width}");
        // What is open is as wide as the row that it belongs to, once it is drawn again.
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
        // The ratio that WCAG 2 asks for text that is not large.
        assert_eq!(browser.script(POOR_CONTRAST).await, json!([]), "{scheme}");
    }
    drop(sleeping);
}

/// Texts with a contrast to what is behind them of less than 4.5.
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
async fn a_server_that_goes_is_told_and_one_that_comes_is_shown() {
    let first = Served::start(services(), HttpOptions::default()).await;
    let front = Front::before(&first).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall/", front.place)).await;
    browser.shows("Live").await;
    first.channel().call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
    browser.sees(&format!("{} === '1'", cell("echo", "calls-count"))).await;

    front.leads_to(None);
    drop(first);
    browser.sees("/^The server has not answered since \\d\\d:\\d\\d:\\d\\d: /.test(document.querySelector('#lost').innerText)").await;
    browser.sees("/^No answer for \\d+ s/.test(document.querySelector('#connection').innerText)").await;
    // What was there is still to be read.
    assert_eq!(browser.script(&format!("return {}", cell("echo", "calls-count"))).await, "1");

    let other = Service::new("Other")
        .handler(MethodInfo { name: "method".to_owned(), ..MethodInfo::default() }, sleeping());
    let second = Served::start(Server::builder().service(other), HttpOptions::default()).await;
    front.leads_to(Some(&second));
    browser.shows("Live").await;
    browser.sees("document.querySelector('#lost').hidden").await;
    browser.sees("document.querySelector('#methods .full-name').innerText === 'Other.method'").await;
    browser.sees("document.querySelectorAll('#methods tbody tr').length === 1").await;
}

#[tokio::test]
async fn nobody_is_asked_while_it_is_paused_or_hidden() {
    let (served, browser) = open().await;
    let channel = served.channel();
    // How often it asks is counted where it asks.
    browser
        .script("window.asked = 0; const ask = window.fetch; window.fetch = (...given) => { window.asked += 1; return ask(...given); }")
        .await;
    let mut calls = 0;
    for (stop, go_on) in [
        ("document.querySelector('#pause').click()", "document.querySelector('#pause').click()"),
        (
            "Object.defineProperty(document, 'hidden', { value: true, configurable: true }); \
             document.dispatchEvent(new Event('visibilitychange'))",
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))",
        ),
    ] {
        browser.sees("window.asked > 1").await;
        browser.script(&format!("{stop}; window.asked = 0")).await;
        channel.call::<String>("Probe.echo", &json!({"text": "x"})).await.unwrap();
        calls += 1;
        // Three times as long as it waits from one time to the next.
        let waited = "return new Promise((done) => setTimeout(() => done(window.asked), 3000))";
        assert_eq!(browser.script(waited).await, 0, "{stop}");
        browser.script(go_on).await;
        browser.sees(&format!("{} === '{calls}'", cell("echo", "calls-count"))).await;
    }
}

#[tokio::test]
async fn two_hundred_methods_and_calls_are_no_burden() {
    let describe = |n: usize| MethodInfo {
        name: format!("method{n:03}"),
        doc: "Does what it does. ".repeat(10),
        ..MethodInfo::default()
    };
    let service = (0..200).fold(Service::new("Many"), |service, n| service.handler(describe(n), sleeping()));
    let served = Served::start(Server::builder().service(service), HttpOptions::default()).await;
    let channel = served.channel();
    let names: Vec<_> = (0..200).map(|n| format!("Many.method{n:03}")).collect();
    let calls: Vec<_> =
        names.iter().map(|name| channel.call::<()>(name.clone(), &json!({})).start()).collect();
    until("all calls are under way", || served.handle.in_flight() == 200).await;

    let browser = Browser::start().await;
    browser.open(&format!("http://{}/debug/farcall", served.place)).await;
    browser.sees("document.querySelector('#methods .number').innerText === '200'").await;
    browser.sees("document.querySelector('#calls .number').innerText === '200'").await;
    // Not all at once, but all of them when asked.
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
