//! The promises of streams, held by the JavaScript client against fake servers inside the page.

use serde_json::json;

use crate::kind;
use crate::site::Site;

#[tokio::test]
async fn messages_of_a_stream_are_the_vectors_in_json() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 100 });
        const client = connect("ws://127.0.0.1:1", { WebSocket: server.Socket });
        const stream = client.stream("Feed.count", { from: 3, to: 5 });
        await until(() => server.messages.length === 1);
        const option = server.Socket.options[0];
        server.says('{"kind":"item","seq":1}', "3");
        server.says('{"kind":"item","seq":1,"flags":16}', "4");
        server.says('{"kind":"credit","seq":1}', "327680");
        const taken = [(await stream[Symbol.asyncIterator]().next()).value, (await stream[Symbol.asyncIterator]().next()).value];
        await stream.send("x".repeat(40));
        const two = client.stream("Feed.echo");
        await two.send("x".repeat(40));
        const starved = two.send(true);
        server.says('{"kind":"credit","seq":2}', "327680");
        await starved;
        const three = client.stream("Feed.sum");
        three.stop();
        two.finish();
        three.cancel();
        server.says('{"kind":"response","seq":1}', "2");
        await stream.result.then((result) => taken.push(result));
        return [option.features, option.stream_window, server.Socket.received, taken, server.messages.map(({ body }) => body)]"#;
    let answer = browser.script(script).await;
    assert_eq!((&answer[0], &answer[1]), (&json!(["streams"]), &json!(262_144)));
    let headers = json!([
        r#"{"kind":"request","seq":1,"service_method":"Feed.count","flags":8}"#,
        r#"{"kind":"item","seq":1}"#,
        r#"{"kind":"request","seq":2,"service_method":"Feed.echo","flags":8}"#,
        r#"{"kind":"item","seq":2}"#,
        r#"{"kind":"item","seq":2,"flags":16}"#,
        r#"{"kind":"request","seq":3,"service_method":"Feed.sum","flags":8}"#,
        r#"{"kind":"stop","seq":3}"#,
        r#"{"kind":"end","seq":2}"#,
        r#"{"kind":"cancel","seq":3}"#,
    ]);
    assert_eq!(answer[2], headers);
    assert_eq!(answer[3], json!([3, 4, 2]));
    let item = format!("\"{}\"", "x".repeat(40));
    assert_eq!(answer[4], json!([r#"{"from":3,"to":5}"#, item, "{}", item, "true", "{}", "", "", ""]));
}

#[tokio::test]
async fn stream_with_credit_sends_whatever_other_streams_do() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 100, max_streams: 256 });
        const client = await server.client();
        const stuck = Array.from({ length: 255 }, () => client.stream("Feed.hold"));
        let sent = 0;
        for (const stream of stuck) for (let n = 0; n < 3; n++) stream.send("x".repeat(100)).then(() => sent++);
        const free = client.stream("Feed.sum");
        for (let n = 0; n < 50; n++) {
          server.credit(257, 1_000_000);
          await free.send("y");
        }
        return [sent, server.of("item").filter(({ seq }) => seq === 257).length]"#;
    assert_eq!(browser.script(script).await, json!([255, 50]));
}

#[tokio::test]
async fn item_of_any_size_passes_any_window() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 1 });
        const client = await server.client({ streamWindow: 1 });
        const stream = client.stream("Feed.echo");
        await stream.send("x".repeat(60_000));
        const second = stream.send("y");
        await settle();
        const before = server.of("item").length;
        server.credit(2, 60_002 + 64 + 1);
        await second;
        server.item(2, "z".repeat(300_000));
        const iterator = stream[Symbol.asyncIterator]();
        const { value } = await iterator.next();
        return [before, server.of("item").map(({ body, flags }) => [body.length, flags ?? 0]), value.length,
                server.of("credit").map(({ body }) => body)]"#;
    let expected = json!([1, [[60_002, 0], [3, 16]], 300_000, ["300067"]]);
    assert_eq!(browser.script(script).await, expected);
}

#[tokio::test]
async fn receiver_holds_what_it_granted_and_one_item_more() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client({ streamWindow: 1000 });
        const stream = client.stream("Feed.count");
        // They are not taken: 1,008 bytes are held, for a window of 1,000.
        for (let n = 0; n < 14; n++) server.item(2, "aaaaaa");
        const credits = server.of("credit").length;
        server.item(2, "one too many");
        const [taken, error] = await items(stream);
        return [credits, taken.length, error, server.of("goaway").map(({ error }) => error), server.sockets[0].isClosed]"#;
    let answer = browser.script(script).await;
    assert_eq!((&answer[0], &answer[1]), (&json!(0), &json!(14)));
    assert_eq!(kind(&answer[2]), ("unavailable", "maybe"));
    let message = "an item was sent although 1008 of 1000 had been spent";
    assert_eq!(answer[3], json!([{"code": "invalid_argument", "message": message}]));
    assert_eq!(answer[4], true);
}

#[tokio::test]
async fn credit_is_sent_when_half_of_the_window_was_taken() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client({ streamWindow: 4096 });
        const stream = client.stream("Feed.blobs");
        const iterator = stream[Symbol.asyncIterator]();
        const credits = [];
        for (let n = 0; n < 4; n++) {
          server.item(2, "x".repeat(1024 - 64 - 2));
          credits.push(server.of("credit").length);
          await iterator.next();
          credits.push(server.of("credit").length);
        }
        return [credits, server.of("credit").map(({ body }) => body)]"#;
    assert_eq!(browser.script(script).await, json!([[0, 0, 0, 1, 1, 1, 1, 2], ["6144", "8192"]]));
}

#[tokio::test]
async fn answers_ends_cancels_and_credits_wait_for_no_credit_and_no_items() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 1_000_000 });
        const client = await server.client({ streamWindow: 100 });
        const [busy, empty, left] = ["Feed.hold", "Feed.sum", "Feed.echo"].map((method) => client.stream(method));
        // The socket has as much to send as items may wait behind.
        server.sockets[0].bufferedAmount = 128 * 1024;
        busy.send("waits for the socket").catch(() => {});
        empty.finish();
        server.item(4, "x".repeat(100));
        await left[Symbol.asyncIterator]().next();
        left.stop();
        left.cancel();
        client.call("Any.thing").catch(() => {});
        server.says({ kind: "ping", seq: 9 });
        const before = server.messages.slice(3).map(({ kind }) => kind);
        server.sockets[0].bufferedAmount = 0;
        await until(() => server.of("item").length === 1);
        return before"#;
    assert_eq!(browser.script(script).await, json!(["end", "credit", "stop", "cancel", "request", "pong"]));
}

#[tokio::test]
async fn cut_stream_is_never_complete() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client();
        const [reading, writing] = [client.stream("Feed.count"), client.stream("Feed.sum")];
        for (let n = 0; n < 3; n++) server.item(2, n);
        const sends = [];
        for (let n = 0; n < 40; n++) sends.push(writing.send(n));
        writing.finish();
        server.cut();
        return [await items(reading), await failure(reading.result), await items(reading),
                await failure(sends.at(-1)), await failure(writing.result), server.of("end").length]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer[0][0], json!([0, 1, 2]), "what has arrived is delivered");
    assert_eq!(answer[2], json!([[], null]), "the error is thrown once");
    for failure in [&answer[0][1], &answer[1], &answer[3], &answer[4]] {
        assert_eq!(kind(failure), ("unavailable", "maybe"));
    }
    assert_eq!(answer[5], 0);
}

#[tokio::test]
async fn stream_ends_as_complete_failed_or_cancelled() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client();
        const outcomes = [];
        const run = async (end) => {
          const stream = client.stream("Feed.count");
          const { seq } = server.of("request").at(-1);
          server.item(seq, 1);
          end(seq);
          outcomes.push([...(await items(stream)), await failure(stream.result)]);
        };
        await run((seq) => server.responds(seq, 1));
        await run((seq) => server.responds(seq, undefined, null));
        await run((seq) => server.responds(seq, { left: 2 }, { code: "application", message: "no", execution: "done" }));
        await run((seq) => server.responds(seq, undefined, { code: "unavailable", message: "no", execution: "maybe" }));
        await run((seq) => server.responds(seq, undefined, { code: "unavailable", message: "no", execution: "refused" }));
        await run((seq) => (server.says({ kind: "item", seq }, "{"), server.responds(seq, 1)));
        await run((seq) => (server.item(seq, 5, 1), server.responds(seq, 1)));
        return outcomes"#;
    let answer = browser.script(script).await;
    assert_eq!(answer[0], json!([[1], null, {"unexpected": 1}]));
    assert_eq!(answer[1], json!([[1], null, {"unexpected": null}]));
    for (number, failed) in [
        (2, ("application", "done")),
        (3, ("unavailable", "maybe")),
        // A server that has sent an item has started the call.
        (4, ("unavailable", "maybe")),
    ] {
        assert_eq!(answer[number][0], json!([1]));
        assert_eq!(kind(&answer[number][1]), failed);
        assert_eq!(answer[number][1], answer[number][2]);
    }
    assert_eq!(answer[2][1]["details"], json!({"left": 2}));
    for number in [5, 6] {
        assert_eq!(kind(&answer[number][1]), ("internal", "maybe"), "{answer}");
    }
}

#[tokio::test]
async fn leaving_a_stream_in_any_way_cancels_it_and_leaks_nothing() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ max_streams: 1 });
        const client = await server.client();
        const ways = {
          async break(stream) { for await (const item of stream) break; },
          async throw(stream) { try { for await (const item of stream) throw new Error("mine"); } catch {} },
          async cancel(stream) { stream.cancel("enough"); },
          async dispose(stream) { await stream[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")](); },
          async abort(stream, leaving) { leaving.abort("enough"); },
        };
        const seen = [];
        for (const [name, leave] of Object.entries(ways)) {
          const leaving = new AbortController();
          const stream = client.stream("Feed.ticks", {}, { signal: leaving.signal });
          const { seq } = server.of("request").at(-1);
          server.item(seq, 1);
          server.item(seq, 2);
          await leave(stream, leaving);
          // Its place is free when the server has answered.
          const next = client.stream("Feed.count");
          const waits = server.of("request").at(-1).seq === seq;
          server.item(seq, 3);
          server.responds(seq, undefined, { code: "cancelled", message: "cancelled", execution: "maybe" });
          const last = server.of("request").at(-1).seq;
          server.responds(last, 5);
          seen.push([name, await failure(stream.result), await items(stream), waits, await next.result]);
        }
        return [seen, server.of("cancel").length, server.of("end").length]"#;
    let answer = browser.script(script).await;
    for seen in answer[0].as_array().unwrap() {
        assert_eq!(kind(&seen[1]), ("cancelled", "maybe"), "{seen}");
        assert_eq!(seen[2][0], json!([]), "{seen}");
        assert_eq!(kind(&seen[2][1]), ("cancelled", "maybe"), "a loop does not take it for complete: {seen}");
        assert_eq!((&seen[3], &seen[4]), (&json!(true), &json!(5)), "{seen}");
    }
    assert_eq!((&answer[1], &answer[2]), (&json!(5), &json!(0)));
}

#[tokio::test]
async fn forgotten_stream_is_cancelled() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = globalThis.server = streamingServer();
        const client = globalThis.client = await server.client();
        client.stream("Feed.ticks");
        await (() => client.stream("Feed.sum").send(1))();
        // These are waited for.
        globalThis.results = [client.stream("Feed.count").result, client.stream("Feed.sum").finish()];
        globalThis.taken = items(client.stream("Feed.count"));
        globalThis.sends = (async () => { await client.stream("Feed.hold").sendAll(["x".repeat(1000), 2]); })();"#;
    browser.script(script).await;
    browser.collect_garbage().await;
    browser.sees("server.of('cancel').length >= 2").await;
    let script = r#"
        const cancelled = server.of("cancel").map(({ seq }) => seq).sort();
        for (const seq of [4, 5, 6]) server.responds(seq, seq);
        server.credit(7, 10_000);
        await until(() => server.of("end").length === 2);
        server.responds(7, 7);
        await sends;
        return [cancelled, await Promise.all(results), await taken, server.of("end").map(({ seq }) => seq)]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer, json!([[2, 3], [4, 5], [[], null], [5, 7]]));
}

#[tokio::test]
async fn broken_upload_sends_cancel_and_never_end() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const unhandled = [];
        globalThis.addEventListener?.("unhandledrejection", (event) => unhandled.push(String(event.reason)));
        const server = streamingServer();
        const client = await server.client();
        async function* broken() { yield 1; yield 2; throw new Error("the disk failed"); }
        const stream = client.stream("Feed.sum");
        const thrown = await stream.sendAll(broken()).catch(String);
        // Without a caller that waits, it is no unhandled rejection.
        client.stream("Feed.sum").sendAll(broken());
        await until(() => server.of("cancel").length === 2);
        const bad = client.stream("Feed.sum");
        const refused = await failure(bad.sendAll([1, NaN]));
        const whole = client.stream("Feed.sum");
        const finished = whole.sendAll([1, 2, 3]);
        await until(() => server.of("end").length === 1);
        server.responds(5, 6);
        return [thrown, await failure(stream.result), refused, await failure(bad.result), await finished,
                server.messages.filter(({ seq }) => seq !== 5 && seq !== 3).map(({ kind }) => kind),
                server.messages.filter(({ seq }) => seq === 5).map(({ kind }) => kind), unhandled]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer[0], "Error: the disk failed");
    assert_eq!(kind(&answer[1]), ("cancelled", "maybe"));
    assert_eq!(kind(&answer[2]), ("invalid_argument", "maybe"));
    assert_eq!(kind(&answer[3]), ("cancelled", "maybe"));
    assert_eq!(answer[4], 6);
    assert_eq!(answer[5], json!(["request", "item", "item", "cancel", "request", "item", "cancel"]));
    assert_eq!(answer[6], json!(["request", "item", "item", "item", "end"]));
    assert_eq!(answer[7], json!([]));
}
