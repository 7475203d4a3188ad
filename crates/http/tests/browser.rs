//! The JavaScript client in a browser, on pages that call the server that served them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[path = "browser/fake_servers.rs"]
mod fake_servers;
#[path = "browser/once.rs"]
mod once;
#[path = "browser/readme.rs"]
mod readme;
#[path = "browser/refusals.rs"]
mod refusals;
#[path = "browser/site.rs"]
mod site;
#[path = "browser/stream_limits.rs"]
mod stream_limits;
#[path = "browser/stream_promises.rs"]
mod stream_promises;
#[path = "browser/stream_server.rs"]
mod stream_server;
mod support;
#[path = "browser/values.rs"]
mod values;

use farcall_http::HttpOptions;
use farcall_protocol::KeepAlive;
use farcall_server::Limits;
use farcall_test_browser::Browser;
use farcall_test_support::loopback::own_address;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::site::{Setup, Site};
use crate::support::PATIENCE;

/// Returns the code and the execution of a failed call.
fn kind(failure: &Value) -> (&str, &str) {
    let part = |name: &str| failure[name].as_str().unwrap_or_else(|| panic!("no {name}: {failure}"));
    (part("code"), part("execution"))
}

fn message(failure: &Value) -> &str {
    failure["message"].as_str().unwrap_or_else(|| panic!("no message: {failure}"))
}

#[tokio::test]
async fn page_calls_the_server_that_it_came_from() {
    let site = Site::new().await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/calculator.html", site.place)).await;
    browser.shows("6 × 7 = 42").await;
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn readme_examples_print_what_they_show() {
    let browser = Browser::start().await;
    let mut count = 0;
    for (number, example) in readme::examples().enumerate() {
        let site = Site::new().await;
        browser.open(&format!("http://{}/bench.html", site.place)).await;
        browser.sees("connect").await;
        let printed = browser.script(&format!("return await run('/readme/{number}.js')")).await;
        assert_eq!(printed, json!(example.prints), "{}", example.code);
        assert_eq!(
            example.prints.len(),
            readme::logs(example.code),
            "each printed line needs a comment: {}",
            example.code
        );
        count += 1;
    }
    assert!(count >= 6, "{count} examples were found");
}

#[tokio::test]
async fn error_has_a_code_an_execution_and_details() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let failures = browser
        .script(
            "const client = connect(location.origin);
             return [
               await failure(client.call('Arith.divide', { a: 6, b: 0 })),
               await failure(client.call('Arith.power', { a: 6, b: 0 })),
               await failure(client.call('Echo.panic')),
               await failure(client.call('')),
               await failure(client.call('Arith.multiply', 6)),
               await failure(client.call('Arith.multiply', { a: NaN })),
               await failure(client.call('Arith.multiply', {}, { metadata: { Tenant: 'a' } })),
             ]",
        )
        .await;
    assert_eq!(kind(&failures[0]), ("application", "done"));
    assert_eq!(failures[0]["details"], json!({"dividend": 6, "divisor": 0}));
    assert_eq!(kind(&failures[1]), ("unimplemented", "refused"));
    assert!(message(&failures[1]).contains("`power`"), "{failures}");
    assert_eq!(kind(&failures[2]), ("internal", "done"));
    for (number, what) in [(3, "name of a method"), (4, "an object"), (5, "no NaN"), (6, "\"Tenant\"")] {
        assert_eq!(kind(&failures[number]), ("invalid_argument", "not_sent"));
        assert!(message(&failures[number]).contains(what), "{failures}");
    }
}

#[tokio::test]
async fn timeout_ends_the_call_and_its_handler() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let failed = browser
        .script(
            "globalThis.client = connect(location.origin);
             await client.health();
             return await failure(client.call('Report.build', {}, { timeout: 3000 }))",
        )
        .await;
    assert_eq!(kind(&failed), ("deadline_exceeded", "maybe"));
    assert_eq!(site.max_running.load(std::sync::atomic::Ordering::SeqCst), 1, "the handler had started");
    site.wait_for_running(0).await;
    let late = "return await failure(client.call('Report.build', {}, { timeout: 0.5 }))";
    assert_eq!(kind(&browser.script(late).await), ("deadline_exceeded", "not_sent"));
    assert_eq!(browser.script("return await client.call('Probe.sleep', { ms: 1 })").await, "awake");
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn aborted_call_stops_its_handler() {
    let site = Site::new().await;
    let browser = site.browser().await;
    browser
        .script(
            "globalThis.client = connect(location.origin);
             globalThis.leaving = new AbortController();
             globalThis.failed = failure(client.call('Report.build', {}, { signal: leaving.signal }))",
        )
        .await;
    site.wait_for_running(1).await;
    let failed = browser.script("leaving.abort('enough'); return await failed").await;
    assert_eq!(kind(&failed), ("cancelled", "maybe"));
    assert_eq!(failed["cause"], "enough");
    site.wait_for_running(0).await;
    let failed = browser
        .script("return await failure(client.call('Report.build', {}, { signal: leaving.signal }))")
        .await;
    assert_eq!(kind(&failed), ("cancelled", "not_sent"));
    // The connection stays usable.
    assert_eq!(browser.script("return await client.call('Probe.sleep', { ms: 1 })").await, "awake");
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn leaving_a_page_stops_its_handlers() {
    // Keep-alive must not end the connection: only the page may close it, as browsers may keep left pages open.
    let patient = KeepAlive::default().idle(20 * PATIENCE);
    let site = Site::with(Setup { limits: Limits::default().keep_alive(patient), ..Setup::default() }).await;
    let browser = site.browser().await;
    browser.script("connect(location.origin).call('Report.build')").await;
    site.wait_for_running(1).await;
    browser.open("about:blank").await;
    site.wait_for_running(0).await;
    site.wait_for_connections(0).await;
}

#[tokio::test]
async fn concurrent_calls_get_their_own_results() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let products = browser
        .script(
            "const arith = connect(location.origin).service('Arith');
             return await Promise.all(Array.from({ length: 200 }, (_, n) => arith.multiply({ a: n, b: 3 })))",
        )
        .await;
    assert_eq!(products, json!((0..200).map(|n| n * 3).collect::<Vec<_>>()));
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn calls_over_the_in_flight_limit_wait() {
    let site = Site::with(Setup { limits: Limits::default().max_in_flight(4), ..Setup::default() }).await;
    let browser = site.browser().await;
    let answers = browser
        .script(
            "const client = connect(location.origin, { maxWaiting: 40 });
             globalThis.client = client;
             const calls = Array.from({ length: 40 }, () => client.call('Probe.sleep', { ms: 20 }));
             const refused = await failure(client.call('Probe.sleep', { ms: 20 }));
             return [new Set(await Promise.all(calls)).size, refused]",
        )
        .await;
    assert_eq!(answers[0], 1, "all are awake");
    assert_eq!(kind(&answers[1]), ("resource_exhausted", "not_sent"));
    assert_eq!(site.max_running.load(std::sync::atomic::Ordering::SeqCst), 4);
    // A waiting call can time out, too, and is never sent to the server.
    let failed = browser
        .script(
            "const leaving = new AbortController();
             for (let n = 0; n < 4; n++) client.call('Report.build', {}, { signal: leaving.signal }).catch(() => {});
             const failed = await failure(client.call('Report.build', {}, { timeout: 100 }));
             leaving.abort();
             return failed",
        )
        .await;
    assert_eq!(kind(&failed), ("deadline_exceeded", "not_sent"));
    site.wait_for_running(0).await;
}

#[tokio::test]
async fn one_megabyte_round_trips() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let echoed = browser
        .script(
            "const Socket = cutting(1e9);
             const client = connect(location.origin, { WebSocket: Socket });
             const text = Array.from({ length: 250_000 }, (_, n) => String.fromCodePoint(0x1f300 + n % 500)).join('');
             const calls = await Promise.all([1, 2].map(() => client.call('Echo.echo', { text })));
             return [calls.every((echoed) => echoed.text === text), new TextEncoder().encode(text).length,
                     Socket.largestSent]",
        )
        .await;
    assert_eq!(echoed, json!([true, 1_000_000, 65536]));
}

#[tokio::test]
async fn frames_may_be_split_or_joined_in_messages() {
    let site = Site::new().await;
    let browser = site.browser().await;
    for (cut, joins) in [(1, false), (3, false), (7, true), (1_000_000, true)] {
        let script = format!(
            "const Socket = cutting({cut}, {joins});
             const client = connect(location.origin, {{ WebSocket: Socket }});
             const texts = Array.from({{ length: 100 }}, (_, n) => '…\u{1f600}'.repeat(n));
             const echoed = await Promise.all(texts.map((text) => client.call('Echo.echo', {{ text }})));
             return [echoed.every((echo, n) => echo.text === texts[n]), Socket.messages]"
        );
        let answer = browser.script(&script).await;
        assert_eq!(answer[0], true);
        let messages = answer[1].as_u64().unwrap();
        assert!(
            if cut > 1000 { messages < 100 } else { messages > 2000 },
            "{cut} {joins}: {messages} messages"
        );
    }
}

#[tokio::test]
async fn unicode_text_round_trips() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        const texts = ["", "\u0000\u0007\u001b\u007f", "Grüße, 世界, שלום", "👩‍👩‍👧‍👦 🇺🇳", "\ufeff\u2028\u2029\u202e", "\"\\/"];
        const args = Object.fromEntries(texts.map((text) => [text, text]));
        args.__proto__x = { constructor: null, list: [true, 1.5, -0.25, 1e300] };
        const echoed = await client.call("Echo.echo", args);
        return [JSON.stringify(Object.entries(echoed).sort()) === JSON.stringify(Object.entries(args).sort())]"#;
    assert_eq!(browser.script(script).await, json!([true]));
}

#[tokio::test]
async fn integers_over_two_to_the_53_are_exact() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const client = connect(location.origin);
        const integers = [2n ** 63n - 1n, -(2n ** 63n), 9007199254740993n, 2n ** 64n - 1n];
        const { echoed } = await client.call('Echo.echo', { echoed: integers });
        const { mixed } = await client.call('Echo.echo', { mixed: [9007199254740991, 5n, 0.1, '9007199254740993', 1e300] });
        const product = await client.call('Arith.multiply', { a: 3037000493, b: 3037000493 });
        return [echoed.map(String), echoed.map((n) => typeof n), mixed, String(product)]";
    let expected = json!([
        ["9223372036854775807", "-9223372036854775808", "9007199254740993", "18446744073709551615"],
        ["bigint", "bigint", "bigint", "bigint"],
        [9_007_199_254_740_991_i64, 5, 0.1, "9007199254740993", 1e300],
        "9223371994482243049"
    ]);
    assert_eq!(browser.script(script).await, expected);
    // Runtimes without `JSON.rawJSON` fail such calls.
    let script = "
        delete JSON.rawJSON;
        const parse = JSON.parse;
        JSON.parse = (text, reviver) => parse(text, reviver && ((key, value) => reviver(key, value)));
        const client = connect(location.origin);
        return [await failure(client.call('Echo.echo', { n: 9007199254740993n })),
                await failure(client.call('Arith.multiply', { a: 3037000493, b: 3037000493 }))]";
    let failed = browser.script(script).await;
    assert_eq!(kind(&failed[0]), ("invalid_argument", "not_sent"));
    assert_eq!(kind(&failed[1]), ("internal", "done"));
}

#[tokio::test]
async fn call_options_reach_the_handler() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let call = browser
        .script(
            "const client = connect(location.origin);
             const metadata = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
             return [await client.call('Echo.call', {}, { timeout: 20_000, idempotent: true, metadata }),
                     await client.call('Echo.call')]",
        )
        .await;
    let remaining = call[0]["remaining"].as_u64().unwrap();
    assert!((1..=20_000).contains(&remaining), "{call}");
    assert_eq!(call[0]["idempotent"], true);
    assert_eq!(call[0]["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!((&call[1]["remaining"], &call[1]["idempotent"]), (&Value::Null, &json!(false)));
}

#[tokio::test]
async fn oversized_message_fails_alone() {
    let site =
        Site::with(Setup { limits: Limits::default().max_frame_bytes(100_000), ..Setup::default() }).await;
    let browser = site.browser().await;
    let failed = browser
        .script(
            "const client = connect(location.origin, { maxFrameBytes: 50_000 });
             return [await failure(client.call('Echo.echo', { text: 'x'.repeat(100_000) })),
                     await failure(client.call('Echo.echo', {}, { metadata: { key: 'x'.repeat(65_536) } })),
                     await failure(client.call('Echo.letters', { count: 60_000 })),
                     (await client.call('Echo.letters', { count: 40_000 })).length]",
        )
        .await;
    assert_eq!(kind(&failed[0]), ("resource_exhausted", "not_sent"));
    assert_eq!(kind(&failed[1]), ("resource_exhausted", "not_sent"));
    assert_eq!(kind(&failed[2]), ("resource_exhausted", "done"));
    assert_eq!(failed[3], 40_000);
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn stopping_server_finishes_calls_and_its_successor_is_dialed() {
    // Its successor listens at the same port.
    let site = Site::at(&own_address(), Setup::default()).await;
    let browser = site.browser().await;
    browser
        .script(
            "globalThis.client = connect(location.origin);
             globalThis.begun = client.call('Probe.sleep', { ms: 4000 })",
        )
        .await;
    site.wait_for_running(1).await;
    site.handle.stop();
    assert_eq!(browser.script("return await begun").await, "awake");
    let place = site.place.clone();
    site.wait_until_ended().await;
    // Both in one script: the pause before the next dial is a second.
    let failed = browser
        .script(
            "const call = () => failure(client.call('Arith.multiply', { a: 6, b: 7 }));
             return [await call(), await call()]",
        )
        .await;
    assert_eq!(kind(&failed[0]), ("unavailable", "not_sent"));
    assert!(message(&failed[1]).contains("dialed again in "), "{failed}");

    let _site = Site::at(&place, Setup::default()).await;
    browser
        .script(
            "globalThis.product = null;
             const again = () => client.call('Arith.multiply', { a: 6, b: 7 }).then((n) => (product = n), () => setTimeout(again, 50));
             again()",
        )
        .await;
    browser.sees("product === 42").await;
}

#[tokio::test]
async fn lost_connection_fails_its_calls_and_the_next_call_redials() {
    let site = Site::with(Setup { limits: Limits::default().max_in_flight(1), ..Setup::default() }).await;
    let browser = site.browser().await;
    browser
        .script(
            "const sockets = globalThis.sockets = [];
             globalThis.Kept = class extends WebSocket { constructor(url) { super(url); sockets.push(this); } };
             globalThis.client = connect(location.origin, { WebSocket: Kept });
             globalThis.cut = failure(client.call('Report.build'));
             // This call waits for a slot, so that it is not sent on the connection that breaks.
             globalThis.waited = client.call('Arith.multiply', { a: 6, b: 7 })",
        )
        .await;
    site.wait_for_running(1).await;
    let answers =
        browser.script("sockets[0].close(); return [await cut, await waited, sockets.length]").await;
    assert_eq!(kind(&answers[0]), ("unavailable", "maybe"));
    assert!(message(&answers[0]).contains("the connection was lost"), "{answers}");
    assert_eq!((&answers[1], &answers[2]), (&json!(42), &json!(2)));
    site.wait_for_running(0).await;
    // A call that starts while a connection closes uses a new connection.
    let script = "const client = connect(location.origin, { WebSocket: Kept });
                  await client.health();
                  sockets[2].close();
                  return await client.call('Arith.multiply', { a: 6, b: 7 })";
    let product = browser.script(script).await;
    assert_eq!(product, 42);
}

#[tokio::test]
async fn server_requires_a_token() {
    let site = Site::with(Setup { token: Some("q8mXe01rHsZ9"), ..Setup::default() }).await;
    let browser = site.browser().await;
    let answers = browser
        .script(
            "const call = (options) => connect(location.origin, options).call('Echo.call');
             return [await failure(call({})),
                     await failure(call({ token: 'q8mXe01rHsZ8' })),
                     await failure(call({ token: () => { throw new Error('signed out'); } })),
                     (await call({ token: 'q8mXe01rHsZ9' })).caller,
                     (await call({ token: async () => 'q8mXe01rHsZ9' })).caller]",
        )
        .await;
    for number in 0..3 {
        assert_eq!(kind(&answers[number]), ("unauthenticated", "not_sent"), "{answers}");
    }
    assert!(!answers.to_string().contains("q8mXe01rHsZ"), "an error shows a token: {answers}");
    assert_eq!(answers[2]["cause"], "Error: signed out");
    assert_eq!((&answers[3], &answers[4]), (&json!("web"), &json!("web")));
}

#[tokio::test]
async fn page_of_another_origin_is_refused_unless_allowed() {
    let home = Site::new().await;
    let origin = format!("http://{}", home.place);
    let foreign = Site::new().await;
    let friendly =
        Site::with(Setup { settings: HttpOptions::default().allowed_origin(&origin), ..Setup::default() })
            .await;
    let browser = home.browser().await;
    let call = |url: String| {
        format!("return await failure(connect('{url}').call('Arith.multiply', {{ a: 6, b: 7 }}))")
    };
    let failed = browser.script(&call(foreign.url())).await;
    assert_eq!(kind(&failed), ("unavailable", "not_sent"));
    let expected = format!("does not allow WebSockets of pages from {origin}");
    assert!(message(&failed).contains(&expected), "{failed}");
    assert!(message(&failed).contains(&format!("connecting to {}/_farcall_", foreign.url())), "{failed}");
    assert_eq!(browser.script(&call(friendly.url())).await, json!({"unexpected": 42}));
}

#[tokio::test]
async fn closed_client_finishes_its_calls_and_accepts_no_more() {
    let site = Site::new().await;
    let browser = site.browser().await;
    // In one script: the driver may be late with a second one.
    let answers = browser
        .script(
            "const client = connect(location.origin);
             const begun = client.call('Probe.sleep', { ms: 3000 });
             await client.health();
             let isClosed = false;
             const closed = client.close().then(() => (isClosed = true));
             const late = await failure(client.call('Probe.sleep'));
             const answer = [late, isClosed, await begun];
             await closed;
             await client.close();
             await connect(location.origin).close();
             return answer",
        )
        .await;
    assert_eq!(kind(&answers[0]), ("unavailable", "not_sent"));
    assert_eq!((&answers[1], &answers[2]), (&json!(false), &json!("awake")));
    site.wait_for_connections(0).await;
}

#[tokio::test]
async fn invalid_addresses_and_options_are_refused_at_once() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const thrown = (...args) => { try { connect(...args); return 'nothing'; } catch (error) { return `${error}`; } };
        return [thrown('tcp@127.0.0.1:7001'), thrown('127.0.0.1:7001'), thrown(''), thrown('ws@'),
                thrown('ws://me:secret@127.0.0.1:7001'), thrown('ws://127.0.0.1:7001/?a=b'),
                thrown('ws@127.0.0.1:7001', { timeout: 'long' }), thrown('ws@127.0.0.1:7001', { connectTimeout: 0 }),
                thrown('ws@127.0.0.1:7001', { pingAfter: 10 }),
                thrown('ws@127.0.0.1:7001'), thrown('wss://example.com/proxied'), thrown(new URL('https://example.com'))]";
    let thrown = browser.script(script).await;
    for (number, error) in thrown.as_array().unwrap().iter().enumerate() {
        let error = error.as_str().unwrap();
        assert_eq!(error.starts_with("TypeError: "), number < 9, "{number}: {error}");
        assert!(!error.contains("[object"), "{error}");
    }
    let reached = format!(
        "return await Promise.all(['{0}', 'ws@{0}', 'http://{0}/', 'ws://{0}/_farcall_'].map((place) =>
           connect(place.includes('@') || place.includes('/') ? place : 'ws://' + place).call('Arith.multiply', {{ a: 6, b: 7 }})))",
        site.place
    );
    assert_eq!(timeout(PATIENCE, browser.script(&reached)).await.unwrap(), json!([42, 42, 42, 42]));
}
