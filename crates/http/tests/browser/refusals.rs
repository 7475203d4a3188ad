//! Calls and streams that a server refuses, by a goaway or for its load, against fake servers in the page.

use serde_json::json;

use crate::kind;
use crate::site::Site;

/// A server that does with each request what `say` says, with `leave(socket)` and `refuse(socket, seq, after)` for the two
/// ways of refusing it. Pauses of chance are none, and each connection that is left has lasted for two seconds.
const REFUSING: &str = "
    let ahead = 0;
    const clock = performance.now.bind(performance);
    performance.now = () => clock() + ahead;
    Math.random = () => 0;
    const leave = (socket) => {
      ahead += 2000;
      socket.respond({ kind: 'goaway', seq: 0 });
    };
    const refuse = (socket, seq, after) => socket.respond({
      kind: 'response', seq, error: { code: 'resource_exhausted', message: 'busy', execution: 'refused' },
      metadata: { 'farcall-retry-after-ms': String(after) },
    });
    const serving = (say) => {
      const Socket = fakeServer((socket, { kind, seq, metadata }) => {
        if (kind === 'request') say(socket, seq, metadata ?? {});
      }, { features: ['streams'], stream_window: 1000, max_streams: 8 });
      return { Socket, client: connect('ws://127.0.0.1:1', { WebSocket: Socket }) };
    };
";

#[tokio::test]
async fn goaways_count_as_no_tries() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const leaving = (times) => serving((socket, seq, metadata) =>
          socket.number > times ? socket.respond({ kind: 'response', seq }, metadata) : leave(socket));
        const run = async (times, call) => {
          const { client, Socket } = leaving(times);
          return [await failure(call(client)), Socket.opened];
        };
        const calls = [(client) => client.call('A.b'), (client) => client.stream('A.b').result];
        const answers = [];
        for (const call of calls) answers.push(await run(20, call), await run(100, call));
        return answers";
    let answers = browser.script(&format!("{REFUSING}{script}")).await;
    for way in 0..2 {
        let (answered, failed) = (&answers[2 * way], &answers[2 * way + 1]);
        assert_eq!(*answered, json!([{"unexpected": {"farcall-attempt": "21"}}, 21]), "{answers}");
        assert_eq!(kind(&failed[0]), ("unavailable", "refused"), "{answers}");
        assert_eq!(failed[1], 23, "three that count, after those: {answers}");
    }
}

#[tokio::test]
async fn refusals_for_load_count_whatever_goaways_come_between() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        let requests = 0;
        const { client, Socket } = serving((socket, seq) => (requests++ % 2 ? leave(socket) : refuse(socket, seq, 1)));
        return [await failure(client.call('A.b')), requests, Socket.opened]";
    let answer = browser.script(&format!("{REFUSING}{script}")).await;
    assert_eq!(kind(&answer[0]), ("resource_exhausted", "refused"));
    assert_eq!((&answer[1], &answer[2]), (&json!(5), &json!(3)), "{answer}");
}

#[tokio::test]
async fn refused_stream_is_made_again_after_the_time_that_the_server_says() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const run = async (after) => {
          const times = [];
          const { client } = serving((socket, seq) => (times.push(clock()), refuse(socket, seq, after)));
          const { execution } = await failure(client.stream('A.b').result);
          return [execution, times.length, times.slice(1).every((time, n) => time - times[n] >= after - 1)];
        };
        return [await run(30), await run(30_001)]";
    let answers = browser.script(&format!("{REFUSING}{script}")).await;
    assert_eq!(answers, json!([["refused", 3, true], ["refused", 1, true]]));
}

#[tokio::test]
async fn refused_stream_is_made_again_with_its_items_unless_some_have_come() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const refuses = (server, seq, after) => server.says({
          kind: "response", seq, error: { code: "resource_exhausted", message: "busy", execution: "refused" },
          metadata: { "farcall-retry-after-ms": String(after) },
        });
        const server = streamingServer();
        const client = await server.client();
        const stream = client.stream("Feed.sum");
        await stream.send(1);
        refuses(server, 2, 5);
        const sent = stream.send(2);
        const result = stream.finish();
        await until(() => server.of("end").length === 1);
        server.responds(3, 3);
        const answers = [[await sent, await result, server.messages.slice(2).map(({ kind, seq, body }) => [kind, seq, body])]];

        const begun = client.stream("Feed.count");
        server.item(4, 1);
        refuses(server, 4, 5);
        answers.push(await items(begun));

        // While it waits for its next try it can be left.
        const left = client.stream("Feed.count");
        refuses(server, 5, 20_000);
        left.cancel();
        answers.push([await failure(left.result), server.messages.at(-1).seq]);
        return answers"#;
    let answers = browser.script(script).await;
    let again = json!([["request", 3, "{}"], ["item", 3, "1"], ["item", 3, "2"], ["end", 3, ""]]);
    assert_eq!(answers[0], json!([true, 3, again]), "{answers}");
    assert_eq!(answers[1][0], json!([1]));
    assert_eq!(kind(&answers[1][1]), ("resource_exhausted", "maybe"), "{answers}");
    assert_eq!(answers[2][0]["code"], "cancelled", "{answers}");
    assert_eq!(answers[2][1], 5, "nothing was sent after it: {answers}");
}
