//! Calls that are carried out once, and those that a server asks to make again later, against fake servers in the page.

use serde_json::json;

use crate::kind;
use crate::site::Site;

/// A server that keeps keys in the store `terms.once_store`, and does with a request what `first` says over the first
/// connection, and `later` over others; `seen` has their metadata. `cut` breaks a connection.
const KEEPING: &str = "
    const cut = (socket) => setTimeout(() => socket.onclose?.({ code: 1006, reason: '' }));
    const answer = (socket, seq) => socket.respond({ kind: 'response', seq }, '42');
    const refuse = (socket, seq, after, code = 'resource_exhausted') => socket.respond({
      kind: 'response', seq, error: { code, message: 'busy', execution: 'refused' },
      metadata: { 'farcall-retry-after-ms': String(after) },
    });
    const keeping = (first, later = answer, terms = { once_store: 's' }) => {
      const seen = [];
      const Socket = fakeServer((socket, { kind, seq, metadata }) => {
        if (kind !== 'request') return;
        seen.push(metadata ?? {});
        (socket.number === 1 ? first : later)(socket, seq);
      }, terms);
      return { terms, seen, Socket, client: connect('ws://127.0.0.1:1', { WebSocket: Socket }) };
    };
    const once = { once: true };
";

#[tokio::test]
async fn call_over_a_broken_connection_is_made_again_with_its_key() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const { client, seen, Socket } = keeping(cut);
        return [await client.call('A.pay', {}, once), seen, Socket.opened]";
    let answers = browser.script(&format!("{KEEPING}{script}")).await;
    assert_eq!((&answers[0], &answers[2]), (&json!(42), &json!(2)), "{answers}");
    let (first, second) = (&answers[1][0], &answers[1][1]);
    assert_eq!(first["farcall-idempotency-key"].as_str().unwrap().len(), 32);
    assert_eq!(first["farcall-idempotency-key"], second["farcall-idempotency-key"]);
    assert_eq!((&first["farcall-once"], &second["farcall-attempt"]), (&json!("1"), &json!("2")));
}

#[tokio::test]
async fn each_call_has_a_key_that_its_caller_may_choose() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const { client, seen } = keeping(answer);
        const metadata = { 'farcall-idempotency-key': 'order-17' };
        for (const options of [once, once, { ...once, metadata }]) await client.call('A.pay', {}, options);
        return seen.map((metadata) => metadata['farcall-idempotency-key'])";
    let keys = browser.script(&format!("{KEEPING}{script}")).await;
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2], "order-17");
}

#[tokio::test]
async fn server_that_does_not_know_of_a_try_is_not_asked_again() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const run = async (server, options = once) =>
          [await failure(server.client.call('A.pay', {}, options)), server.seen.length, server.Socket.opened];
        const restarted = keeping((socket) => ((restarted.terms.once_store = 'another'), cut(socket)));
        const answers = [await run(restarted), await run(keeping(answer, answer, {})), await run(keeping(cut), {}),
          await run(keeping(answer, answer, { once_store: '' }))];
        // Two minutes later it may have forgotten.
        const now = performance.now.bind(performance);
        const late = keeping((socket) => ((performance.now = () => now() + 121_000), cut(socket)));
        answers.push(await run(late));
        performance.now = now;
        // What was not begun is not a try.
        const leaving = keeping((socket) => {
          leaving.terms.once_store = 'another';
          socket.respond({ kind: 'goaway', seq: 0 });
        });
        return [...answers, await run(leaving), String(await failure((async () => leaving.client.stream('A.b', {}, once))())
          .then(({ code, execution }) => [code, execution]))]";
    let answers = browser.script(&format!("{KEEPING}{script}")).await;
    for (answer, expected) in [
        (&answers[0], (("unavailable", "maybe"), 1, 2)),
        (&answers[1], (("unimplemented", "not_sent"), 0, 1)),
        (&answers[2], (("unavailable", "maybe"), 1, 1)),
        (&answers[3], (("unimplemented", "not_sent"), 0, 1)),
        (&answers[4], (("unavailable", "maybe"), 1, 2)),
    ] {
        let (failed, requests, connections) = expected;
        assert_eq!(kind(&answer[0]), failed, "{answers}");
        assert_eq!((&answer[1], &answer[2]), (&json!(requests), &json!(connections)), "{answers}");
    }
    assert_eq!(answers[5][0], json!({ "unexpected": 42 }), "{answers}");
    assert_eq!(answers[6], "invalid_argument,not_sent");
}

#[tokio::test]
async fn refused_call_is_made_again_after_the_time_that_the_server_says() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const run = async (after, code, options) => {
          const times = [];
          const refusing = (socket, seq) => (times.push(performance.now()), refuse(socket, seq, after, code));
          const { client } = keeping(refusing);
          const failed = await failure(client.call('A.b', {}, options));
          return [failed.execution, times.length, times.slice(1).every((time, n) => time - times[n] >= after - 1)];
        };
        let refusals = 0;
        const busy = keeping((socket, seq) => (refusals++ ? answer(socket, seq) : refuse(socket, seq, 1)));
        const answers = [
          await run(30), await run(30_001), await run('soon'), await run(10, 'invalid_argument'),
          await run(10, 'unimplemented'), await run(20_000, undefined, { timeout: 10_000 }),
          [await busy.client.call('A.b'), refusals, busy.seen[1]],
        ];
        // While a call waits for its next try it can be given up, and its client closed.
        const giving = keeping((socket, seq) => (globalThis.refused = true, refuse(socket, seq, 20_000)));
        const controller = new AbortController();
        const left = [failure(giving.client.call('A.b', {}, { signal: controller.signal })), failure(giving.client.call('A.b'))];
        await until(() => giving.seen.length === 2);
        await new Promise((resolve) => setTimeout(resolve, 50));
        controller.abort();
        giving.client.close();
        for (const { code, execution } of await Promise.all(left)) answers.push([code, execution]);
        return answers";
    let answers = browser.script(&format!("{KEEPING}{script}")).await;
    assert_eq!(answers[0], json!(["refused", 3, true]), "{answers}");
    for once in 1..=5 {
        assert_eq!(answers[once], json!(["refused", 1, true]), "{answers}");
    }
    assert_eq!(answers[6], json!([42, 2, { "farcall-attempt": "2" }]), "{answers}");
    assert_eq!(answers[7][0], "cancelled", "{answers}");
    assert_eq!(answers[8][0], "unavailable", "{answers}");
}

#[tokio::test]
async fn tries_stay_within_the_budget_of_the_client() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        // Without time that passes, there are no more than a hundred.
        const fixed = performance.now();
        performance.now = () => fixed;
        const { client, seen } = keeping((socket, seq) => refuse(socket, seq, 0));
        await Promise.all(Array.from({ length: 200 }, () => failure(client.call('A.b'))));
        delete performance.now;
        return seen.length";
    assert_eq!(browser.script(&format!("{KEEPING}{script}")).await, 300);
}
