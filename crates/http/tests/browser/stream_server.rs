//! Streams of the JavaScript client to a real server, over the WebSocket of a browser.

use std::time::Duration;

use farcall_server::Limits;
use serde_json::json;

use crate::kind;
use crate::site::{Setup, Site};

#[tokio::test]
async fn items_come_in_order_and_then_the_result() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        const stream = client.stream("Feed.count", { from: 0, to: 20_000 });
        let expected = 0;
        for await (const n of stream) if (n !== expected++) throw new Error(`${n} instead of ${expected - 1}`);
        const empty = client.stream("Feed.count", { from: 5, to: 5 });
        return [expected, await stream.result, await items(empty), await empty.result]"#;
    assert_eq!(browser.script(script).await, json!([20_000, 20_000, [[], null], 0]));
    assert_eq!(site.handle.connections(), 1);
}

#[tokio::test]
async fn items_are_sent_and_answered() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        const numbers = Array.from({ length: 5000 }, (_, n) => n);
        const sum = client.stream("Feed.sum");
        let sent = 0;
        for (const n of numbers) if (await sum.send(n)) sent++;
        const first = client.stream("Feed.first", { n: 3 });
        return [sent, await sum.finish(), await client.stream("Feed.sum").sendAll(numbers), await first.sendAll(numbers)]"#;
    let total = 5000 * 4999 / 2;
    assert_eq!(browser.script(script).await, json!([5000, total, total, 3]));
}

#[tokio::test]
async fn both_directions_run_at_once_with_items_of_any_size() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        const stream = client.stream("Feed.echo");
        const sizes = [0, 1, 100_000, 1_000_000, 2, 3_000_000, 10];
        const upload = stream.sendAll(sizes.map((size) => new Uint8Array(size).fill(7)));
        const back = [];
        for await (const text of stream) back.push(atob(text).length);
        return [back, await upload]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer, json!([[0, 1, 100_000, 1_000_000, 2, 3_000_000, 10], 7]));
}

#[tokio::test]
async fn reader_that_stands_still_holds_up_only_its_own_stream() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        const still = Array.from({ length: 100 }, () => client.stream("Feed.blobs", { n: 1000, bytes: 10_000 }));
        for (const stream of still) await stream[Symbol.asyncIterator]().next();
        const [taken, error] = await items(client.stream("Feed.count", { from: 0, to: 10_000 }));
        const health = await client.health();
        for (const stream of still) stream.cancel();
        return [taken.length, error, health]"#;
    assert_eq!(browser.script(script).await, json!([10_000, null, {"status": "serving"}]));
}

#[tokio::test]
async fn leaving_a_stream_stops_its_handler() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        globalThis.client = connect(location.origin);
        for await (const n of client.stream("Feed.ticks", { every_ms: 1 })) if (n === 3) break;
        globalThis.kept = client.stream("Feed.ticks", { every_ms: 1 });
        globalThis.leaving = new AbortController();
        globalThis.aborted = items(client.stream("Feed.ticks", { every_ms: 1 }, { signal: leaving.signal }));
        await kept[Symbol.asyncIterator]().next();"#;
    browser.script(script).await;
    site.wait_for_running(2).await;
    let answer = browser.script("leaving.abort(); kept.cancel(); return await aborted").await;
    assert_eq!(kind(&answer[1]), ("cancelled", "maybe"));
    site.wait_for_running(0).await;
    browser.script("client.stream('Feed.hold')").await;
    browser.script("globalThis.held = client.stream('Feed.hold'); held.send(1)").await;
    site.wait_for_running(2).await;
    // The first was forgotten; the page has the second.
    browser.collect_garbage().await;
    site.wait_for_running(1).await;
    browser.open("about:blank").await;
    site.wait_for_running(0).await;
}

#[tokio::test]
async fn failures_of_streams_have_a_code_and_an_execution() {
    let site = Site::with(Setup {
        limits: Limits::default().max_streams(2).stream_stall(Duration::from_millis(200)),
        ..Setup::default()
    })
    .await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin, { streamStall: 200 });
        const failed = [await items(client.stream("Feed.fail_after", { n: 3 }))];
        failed.push(await items(client.stream("Arith.multiply", { a: 6, b: 7 })));
        failed.push([[], await failure(client.call("Feed.count", { from: 0, to: 1 }))]);
        failed.push(await items(client.stream("Feed.none")));
        // More streams than the server runs wait for a slot.
        const many = await Promise.all([1, 2, 3, 4, 5].map((n) => items(client.stream("Feed.count", { from: 0, to: n }))));
        // A server that reads nothing, and a caller that reads nothing.
        const hold = client.stream("Feed.hold");
        failed.push([[], await failure(hold.sendAll((function* () { for (;;) yield 1; })()))]);
        const unread = client.stream("Feed.blobs", { n: 1000, bytes: 10_000 });
        failed.push([[], await failure(unread.result)]);
        return [failed, many.map(([taken, error]) => [taken.length, error])]"#;
    let answer = browser.script(script).await;
    assert_eq!(answer[0][0][0], json!([0, 1, 2]));
    for (number, expected) in [
        ("unavailable", "done"),
        ("invalid_argument", "refused"),
        ("invalid_argument", "refused"),
        ("unimplemented", "refused"),
        ("resource_exhausted", "maybe"),
        ("resource_exhausted", "maybe"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(kind(&answer[0][number][1]), expected, "{answer}");
    }
    assert_eq!(answer[1], json!([[1, null], [2, null], [3, null], [4, null], [5, null]]));
    site.wait_for_running(0).await;
}

#[tokio::test]
async fn stream_that_its_server_cuts_while_draining_is_not_complete() {
    let limits = Limits::default().drain_timeout(Duration::from_millis(100));
    let site = Site::with(Setup { limits, ..Setup::default() }).await;
    let browser = site.browser().await;
    let script = r#"
        globalThis.client = connect(location.origin);
        globalThis.stream = client.stream("Feed.ticks", { every_ms: 1 });
        globalThis.taken = items(stream);
        globalThis.drained = stream.draining.then(() => stream.isDraining);"#;
    browser.script(script).await;
    site.wait_for_running(1).await;
    site.handle.stop();
    let answer = browser.script("const [, error] = await taken; return [await drained, error]").await;
    assert_eq!(answer[0], true);
    assert_eq!(kind(&answer[1]), ("unavailable", "maybe"));
    site.wait_until_ended().await;
}

#[tokio::test]
async fn large_transfers_keep_their_bounds_both_ways() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const client = connect(location.origin);
        let bytes = 0;
        for await (const text of client.stream("Feed.blobs", { n: 300, bytes: 48_000 })) bytes += text.length;
        let most = 0;
        class Watched extends WebSocket {
          send(data) { super.send(data); most = Math.max(most, this.bufferedAmount); }
        }
        const watched = connect(location.origin, { WebSocket: Watched });
        const stream = watched.stream("Feed.echo");
        const upload = stream.sendAll(Array.from({ length: 300 }, () => new Uint8Array(48_000)));
        let count = 0;
        for await (const item of stream) count++;
        return [bytes, count, await upload, most <= 128 * 1024 + 70_000]"#;
    assert_eq!(browser.script(script).await, json!([300 * 64_000, 300, 300, true]));
}

#[tokio::test]
async fn stream_goes_on_after_it_was_cut_and_moves_while_its_server_drains() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const resume = (last) => ({ from: last + 1 });
        const open = async () => {
          const server = streamingServer();
          const stream = (await server.client()).stream("Feed.count", { from: 0 }, { resume });
          const taken = items(stream);
          await until(() => server.of("end").length === 1);
          server.item(2, 0);
          await settle();
          return [server, stream, taken];
        };
        const finish = async ([server, stream, taken]) => {
          const { seq, body } = server.of("request").at(-1);
          const cancels = server.of("cancel").length;
          server.item(seq, 1);
          if (stream.isDraining) await until(() => server.of("cancel").length === 1);
          server.responds(seq, 2);
          return [body, cancels, await taken, await stream.result];
        };
        const [cut, drains, fails, given] = [await open(), await open(), await open(), await open()];
        cut[0].cut();
        await until(() => cut[0].of("end").length === 2);
        drains[0].says({ kind: "goaway", seq: 2, error: { code: "unavailable", message: "moving" } });
        await until(() => drains[0].of("end").length === 2);
        fails[0].responds(2, null, { code: "internal", message: "no", execution: "done" });
        given[1].cancel();
        return [await finish(cut), await finish(drains), await fails[2], await failure(fails[1].send(1)),
                await given[2], given[0].of("request").length]"#;
    let answer = browser.script(script).await;
    let went_on = json!(["{\"from\":1}", 0, [[0, 1], null], 2]);
    assert_eq!(answer[0], went_on);
    assert_eq!(answer[1], went_on, "the old stream is let go of once the new one has begun");
    assert_eq!(answer[2][0], json!([0]));
    assert_eq!(kind(&answer[2][1]), ("internal", "done"));
    assert_eq!(kind(&answer[3]), ("invalid_argument", "not_sent"));
    assert_eq!(kind(&answer[4][1]), ("cancelled", "maybe"));
    assert_eq!(answer[5], 1, "a stream that its caller left is not made again");
}
