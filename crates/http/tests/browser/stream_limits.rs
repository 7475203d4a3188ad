//! The limits, times and errors of streams in the JavaScript client, against fake servers inside the page.

use serde_json::{Value, json};

use crate::site::Site;
use crate::{kind, message};

#[tokio::test]
async fn server_without_streams_gives_an_error_that_was_not_sent() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const run = async (terms) => {
          const server = streamingServer(terms);
          const client = await server.client();
          const stream = client.stream("Feed.count");
          return [await failure(stream.result), await items(stream), server.of("request").length];
        };
        return [await run({ features: undefined }), await run({ features: ["other"] }), await run({ max_streams: 0 })]"#;
    let answer = browser.script(script).await;
    let codes = ["unimplemented", "unimplemented", "resource_exhausted"];
    for (run, code) in answer.as_array().unwrap().iter().zip(codes) {
        assert_eq!(kind(&run[0]), (code, "not_sent"));
        assert_eq!(run[1], json!([[], run[0]]));
        assert_eq!(run[2], 0, "the request of the handshake is the only one");
    }
    assert!(message(&answer[0][0]).contains("has not agreed on streams"), "{answer}");
    assert!(message(&answer[2][0]).contains("max_streams is 0"), "{answer}");
}

#[tokio::test]
async fn streams_have_slots_of_their_own() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ max_streams: 2, max_in_flight: 1 });
        const client = await server.client();
        const streams = [1, 2, 3].map((n) => client.stream("Feed.count", [n]));
        const calls = [4, 5].map((n) => client.call("Any.thing", [n]));
        const bodies = () => server.of("request").map(({ body }) => body).join();
        const seen = [bodies()];
        server.responds(2, 1);
        seen.push(bodies());
        server.responds(4, 1);
        seen.push(bodies());
        for (const seq of [3, 5, 6]) server.responds(seq, seq);
        return [seen, await Promise.all([...streams.map(({ result }) => result), ...calls])]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer[0], json!(["[1],[2],[4]", "[1],[2],[4],[3]", "[1],[2],[4],[3],[5]"]));
    assert_eq!(answer[1], json!([1, 3, 5, 1, 6]));
}

#[tokio::test]
async fn violations_of_the_protocol_of_streams_end_the_connection() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const agreed = { features: ["streams"] };
        const violations = {
          end: [agreed, { kind: "end", seq: 2 }, ""],
          kept: [agreed, { kind: "part", seq: 2 }, ""],
          noNumber: [agreed, { kind: "credit", seq: 2 }, "\"5\""],
          noCredit: [agreed, { kind: "credit", seq: 2 }, ""],
          negative: [agreed, { kind: "credit", seq: 2 }, "-1"],
          fraction: [agreed, { kind: "credit", seq: 2 }, "1.5"],
          tooHigh: [agreed, { kind: "credit", seq: 2 }, "18446744073709551616"],
          ofNoCall: [agreed, { kind: "credit", seq: 99 }, "{}"],
          itemWithoutAgreement: [{ features: [] }, { kind: "item", seq: 2 }, "1"],
          creditWithoutAgreement: [{ features: [] }, { kind: "credit", seq: 2 }, "1"],
          stopWithoutAgreement: [{ features: [] }, { kind: "stop", seq: 2 }, ""],
        };
        const answers = {};
        for (const [name, [terms, header, body]] of Object.entries(violations)) {
          const server = streamingServer(terms);
          const client = await server.client();
          const call = failure(name.endsWith("Agreement") ? client.call("Any.thing") : client.stream("Feed.count").result);
          server.says(header, body);
          answers[name] = [await call, server.sockets[0].isClosed];
        }
        return answers"#;
    let answers = browser.script(script).await;
    assert_eq!(answers.as_object().unwrap().len(), 11);
    for (name, answer) in answers.as_object().unwrap() {
        assert_eq!(kind(&answer[0]), ("unavailable", "maybe"), "{name}");
        assert!(message(&answer[0]).contains("the server broke the protocol: "), "{name}: {answer}");
        assert_eq!(answer[1], true, "{name}");
    }
}

#[tokio::test]
async fn messages_for_calls_not_in_flight_are_ignored() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client();
        const left = client.stream("Feed.ticks");
        left.cancel();
        const plain = client.call("Any.thing");
        for (const seq of [0, 2, 3, 99, Number.MAX_SAFE_INTEGER]) {
          server.item(seq, 1, 16);
          server.credit(seq, "18446744073709551615");
          server.says({ kind: "stop", seq });
        }
        const stream = client.stream("Feed.echo");
        server.credit(4, 18446744073709551615n);
        server.credit(4, 0);
        server.item(4, 5);
        for (let n = 0; n < 30; n++) await stream.send("x".repeat(1000));
        server.responds(4, 30);
        for (let n = 0; n < 5; n++) server.item(4, n);
        server.responds(3, 3);
        return [await items(stream), await stream.result, await plain, server.of("item").length, server.Socket.opened]"#;
    assert_eq!(browser.script(script).await, json!([[[5], null], 30, 3, 30, 1]));
}

#[tokio::test]
async fn response_while_the_client_sends_is_the_outcome() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 100 });
        const client = await server.client();
        const run = async (error) => {
          const stream = client.stream("Feed.first");
          const { seq } = server.of("request").at(-1);
          const sends = ["x".repeat(100), 2, 3].map((item) => failure(stream.send(item)));
          server.responds(seq, 1, error);
          return [await Promise.all(sends), await failure(stream.send(4)), await failure(stream.finish())];
        };
        const error = { code: "application", message: "no", execution: "done" };
        return [await run(), await run(error), server.messages.map(({ kind }) => kind).join()]"#;
    let answer = browser.script(script).await;
    let (sent, unwanted) = (json!({"unexpected": true}), json!({"unexpected": false}));
    assert_eq!(answer[0], json!([[sent, unwanted, unwanted], unwanted, {"unexpected": 1}]));
    assert_eq!(answer[1][0][0], sent);
    for failure in [&answer[1][0][1], &answer[1][0][2], &answer[1][1], &answer[1][2]] {
        assert_eq!(kind(failure), ("application", "done"));
    }
    assert_eq!(answer[2], "request,item,request,item");
}

#[tokio::test]
async fn stop_of_the_server_ends_the_sending_and_not_the_call() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 100 });
        const client = await server.client();
        const stream = client.stream("Feed.echo");
        const sends = ["x".repeat(100), 2, 3].map((item) => stream.send(item));
        server.says({ kind: "stop", seq: 2 });
        server.credit(2, 100_000);
        const wanted = [...(await Promise.all(sends)), await stream.send(4)];
        stream.finish();
        server.item(2, 5);
        server.responds(2, 6);
        return [wanted, await items(stream), await stream.result, server.messages.map(({ kind }) => kind).join()]"#;
    let expected = json!([[true, false, false, false], [[5], null], 6, "request,item"]);
    assert_eq!(browser.script(script).await, expected);
}

#[tokio::test]
async fn stop_of_the_caller_ends_the_items_and_not_the_call() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client({ streamWindow: 200 });
        const stream = client.stream("Feed.count");
        const waiting = items(stream);
        server.item(2, 1);
        await settle();
        stream.stop();
        stream.stop();
        server.item(2, 2);
        const kinds = server.messages.map(({ kind }) => kind).join();
        server.responds(2, 9);
        return [await waiting, await items(stream), await stream.result, kinds]"#;
    assert_eq!(browser.script(script).await, json!([[[1], null], [[], null], 9, "request,stop"]));
}

#[tokio::test]
async fn item_that_waits_for_credit_too_long_ends_the_call() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 100 });
        const client = await server.client({ streamStall: 50 });
        const [stuck, idle] = [client.stream("Feed.hold"), client.stream("Feed.sum")];
        await stuck.send("x".repeat(100));
        // Without an item that waits, a direction without credit may stay as it is.
        await idle.send("x".repeat(100));
        const failed = [await failure(stuck.send(2)), await failure(stuck.finish())];
        const cancelled = server.of("cancel").map(({ seq }) => seq);
        server.credit(3, 1000);
        const sent = await idle.send(1);
        return [failed, cancelled, sent]"#;
    let answer = browser.script(script).await;
    for failure in answer[0].as_array().unwrap() {
        assert_eq!(kind(failure), ("resource_exhausted", "maybe"));
        assert!(message(failure).contains("waited for credit for 50 ms, the streamStall"), "{failure}");
    }
    assert_eq!((&answer[1], &answer[2]), (&json!([2]), &json!(true)));
}

#[tokio::test]
async fn window_of_0_lets_nothing_be_sent_before_a_credit() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 0 });
        const client = await server.client({ streamStall: 50 });
        const failed = await failure(client.stream("Feed.hold").send(1));
        return [failed, server.of("item").length]"#;
    let answer = browser.script(script).await;
    assert_eq!(kind(&answer[0]), ("resource_exhausted", "maybe"));
    assert_eq!(answer[1], 0, "an item was sent");
}

#[tokio::test]
async fn window_grows_for_starved_items_and_shrinks_without_them() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        let time = performance.now();
        performance.now = () => time;
        const server = streamingServer();
        const limits = { streamWindow: 4096, maxStreamWindow: 16384, maxStreamGrowth: 16384, pingAfter: 1e9 };
        const client = await server.client(limits);
        let sequence = 1;
        // Returns by how much the credit of each stream is over what it has consumed, at most, for rounds of items.
        const open = () => {
          const iterator = client.stream("Feed.blobs")[Symbol.asyncIterator]();
          const seq = ++sequence;
          let consumed = 0;
          return async (rounds, flags, waiting = 0) => {
            let most = 0;
            for (let n = 0; n < rounds; n++) {
              server.item(seq, "x".repeat(1024 - 64 - 2), flags);
              if (n >= waiting) await iterator.next();
              consumed += n >= waiting ? 1024 : 0;
              const credit = server.of("credit").filter((message) => message.seq === seq).at(-1);
              most = Math.max(most, Number(credit?.body ?? 4096) - consumed);
            }
            return most;
          };
        };
        const [first, second, slow] = [open(), open(), open()];
        const sizes = { unstarved: await first(20, 0), once: await first(1, 16), starved: await first(40, 16) };
        // Growth for one window of 16 KiB is taken, for another there are 4 KiB.
        sizes.second = await second(40, 16);
        sizes.slow = await slow(20, 16, 1);
        time += 9999;
        await first(1, 0);
        sizes.still = await first(16, 0);
        time += 2;
        // What was granted stays granted; then there is less.
        await first(16, 0);
        sizes.shrunk = await first(16, 0);
        sizes.secondAgain = await second(40, 16);
        return sizes"#;
    let sizes = browser.script(script).await;
    let expected = json!({
        "unstarved": 4096, "once": 7168, "starved": 16384, "second": 8192, "slow": 4096,
        "still": 16384, "shrunk": 8192, "secondAgain": 16384,
    });
    assert_eq!(sizes, expected);
}

#[tokio::test]
async fn window_grows_beyond_1_mib_only_while_that_helps() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        let time = performance.now();
        performance.now = () => time;
        const server = streamingServer();
        const client = await server.client({ pingAfter: 1e9 });
        const item = "x".repeat(256 * 1024);
        let sequence = 1;
        // Has a server send all that it has credit for, `delay` after the last, an item in `each` milliseconds. They are
        // taken at once. Returns the largest credit in MiB over what was consumed.
        const sizeAt = async (delay, each) => {
          const iterator = client.stream("Feed.blobs")[Symbol.asyncIterator]();
          const seq = ++sequence;
          const granted = () =>
            Number(server.of("credit").filter((message) => message.seq === seq).at(-1)?.body ?? 256 * 1024);
          let [spent, most] = [0, 0];
          for (let turn = 0; turn < 16; turn++) {
            time += delay;
            const limit = granted();
            for (let flags = turn > 0 ? 16 : 0; spent < limit; flags = 0) {
              server.item(seq, item, flags);
              await iterator.next();
              spent += item.length + 2 + 64;
              time += each;
            }
            most = Math.max(most, granted() - spent);
          }
          await iterator.return();
          return most / 1048576;
        };
        const sizes = [await sizeAt(0.1, 1), await sizeAt(10, 1), await sizeAt(50, 0.1)];
        return sizes"#;
    // A round with 1 MiB takes 4.1 ms of 1 ms; one with 2 MiB 18 ms of 20 ms, and with 4 MiB 26 ms; one with 8 MiB 53 ms of 100 ms.
    assert_eq!(browser.script(script).await, json!([1, 4, 16]));
}

#[tokio::test]
async fn times_of_a_stream_are_limited_as_its_caller_says() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client({ timeout: 60 });
        const begin = (options) => {
          const stream = client.stream("Feed.ticks", {}, options);
          return [stream, server.of("request").at(-1)];
        };
        // Each is waited for from its beginning, whatever time the others take.
        const [first] = begin({ firstWithin: 50 });
        const waits = [items(first)];
        const [usual, usualRequest] = begin({});
        waits.push(items(usual));
        const [whole, wholeRequest] = begin({ timeout: 100, firstWithin: 1e9 });
        waits.push(items(whole));
        server.item(wholeRequest.seq, 1);
        // Only the time between items counts in which the caller waits.
        const [gap, gapRequest] = begin({ gap: 50, firstWithin: 1e9 });
        await Promise.all(waits);
        waits.push(items(gap));
        server.item(gapRequest.seq, 1);
        const [kept, keptRequest] = begin({ firstWithin: 50 });
        server.item(keptRequest.seq, 1);
        const failed = await Promise.all(waits);
        server.item(keptRequest.seq, 2);
        server.responds(keptRequest.seq, 3);
        return [failed, usualRequest.timeout_ms ?? null, wholeRequest.timeout_ms, await items(kept),
                await failure((async () => client.stream("A.b", {}, { gap: "1" }))()), server.of("cancel").length]"#;
    let answer = browser.script(script).await;
    let parts = ["50 ms, the firstWithin", "60 ms, the firstWithin", "not within 100 ms", "50 ms, the gap"];
    for ((failed, items), part) in answer[0].as_array().unwrap().iter().zip([0, 0, 1, 1]).zip(parts) {
        assert_eq!(failed[0].as_array().unwrap().len(), items, "{failed}");
        assert_eq!(kind(&failed[1]), ("deadline_exceeded", "maybe"));
        assert!(message(&failed[1]).contains(part), "{failed}");
    }
    assert_eq!(answer[1], Value::Null, "a default is no limit for the whole of a stream");
    assert!(answer[2].as_u64().unwrap() <= 100);
    assert_eq!(answer[3], json!([[1, 2], null]));
    assert_eq!(kind(&answer[4]), ("invalid_argument", "not_sent"));
    assert_eq!(answer[5], 4);
}

#[tokio::test]
async fn stream_refused_by_goaway_is_made_again_with_the_items_it_sent() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const run = async (sizes) => {
          const server = streamingServer({ stream_window: 1_000_000 });
          const client = await server.client();
          const begun = client.stream("Feed.ticks");
          server.item(2, 1);
          const drained = begun.draining;
          const stream = client.stream("Feed.sum");
          for (const size of sizes) await stream.send("x".repeat(size));
          const before = begun.isDraining;
          server.says({ kind: "goaway", seq: 2, error: { code: "unavailable", message: "moving" } });
          await drained;
          const finished = failure(stream.finish());
          const isAgain = await Promise.race([finished.then(() => false), until(() => server.of("end").length === 1).then(() => true)]);
          if (isAgain) server.responds(1, 5);
          const again = server.messages.slice(2 + sizes.length).map(({ kind, seq, body }) => [kind, seq, body.length]);
          return [before, begun.isDraining, again, await finished];
        };
        return [await run([5, 6]), await run([40_000, 40_000])]"#;
    let answer = browser.script(script).await;
    let again = json!([["request", 1, 2], ["item", 1, 7], ["item", 1, 8], ["end", 1, 0]]);
    assert_eq!(answer[0], json!([false, true, again, {"unexpected": 5}]));
    assert_eq!(answer[1][2], json!([]), "too much was sent to keep it");
    assert_eq!(kind(&answer[1][3]), ("unavailable", "refused"));
}

#[tokio::test]
async fn invalid_items_fail_alone_and_too_many_at_once_are_refused() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 10, max_frame_bytes: 61_000 });
        const client = await server.client();
        const stream = client.stream("Feed.sum");
        const failed = [];
        for (const item of [NaN, undefined, new Map(), "x".repeat(61_000)]) failed.push(await failure(stream.send(item)));
        const sends = [];
        for (let n = 0; n < 20; n++) sends.push(failure(stream.send("x".repeat(59_998))));
        await settle();
        server.credit(2, 10_000_000);
        const sent = await Promise.all(sends);
        stream.finish();
        failed.push(sent.at(-1), await failure(stream.send(1)));
        server.responds(2, 7);
        return [failed, sent.filter((it) => it.unexpected === true).length, await stream.result, server.of("end").length]"#;
    let answer = browser.script(script).await;
    let codes = [
        "invalid_argument",
        "invalid_argument",
        "invalid_argument",
        "resource_exhausted",
        "resource_exhausted",
        "invalid_argument",
    ];
    for (failure, code) in answer[0].as_array().unwrap().iter().zip(codes) {
        assert_eq!(kind(failure), (code, "maybe"), "{failure}");
    }
    assert!(message(&answer[0][4]).contains("wait for each send"), "{answer}");
    assert_eq!((&answer[1], &answer[2], &answer[3]), (&json!(19), &json!(7), &json!(1)));
}

#[tokio::test]
async fn streams_share_the_socket_by_bytes() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer({ stream_window: 1_000_000 });
        const client = await server.client();
        const [large, small] = [client.stream("Feed.sum"), client.stream("Feed.sum")];
        server.sockets[0].bufferedAmount = 128 * 1024;
        for (let n = 0; n < 4; n++) large.send("x".repeat(16 * 1024 - 64 - 2));
        for (let n = 0; n < 16; n++) small.send("x".repeat(4 * 1024 - 64 - 2));
        const before = server.of("item").length;
        server.sockets[0].bufferedAmount = 0;
        await until(() => server.of("item").length === 20);
        return [before, server.of("item").map(({ seq }) => seq).join("")]"#;
    assert_eq!(browser.script(script).await, json!([0, "23333233332333323333"]));
}

#[tokio::test]
async fn metadata_has_at_most_1024_pairs() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const server = streamingServer();
        const client = await server.client();
        const metadata = (count) => ({ metadata: Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, ""])) });
        const failed = [await failure(client.call("Any.thing", {}, metadata(1025))),
                        await failure((async () => client.stream("Any.thing", {}, metadata(1025)))())];
        const sent = client.call("Any.thing", {}, metadata(1024));
        server.responds(2, 5);
        return [failed, await sent]"#;
    let answer = browser.script(script).await;
    for failure in answer[0].as_array().unwrap() {
        assert_eq!(kind(failure), ("invalid_argument", "not_sent"));
        assert!(message(failure).contains("1025 pairs: the limit is 1024"), "{failure}");
    }
    assert_eq!(answer[1], 5);
}
