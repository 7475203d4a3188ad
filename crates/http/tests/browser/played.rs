//! The client and servers that are played in the page, because no server of ours does such things.

use serde_json::{Value, json};

use crate::site::Site;
use crate::{kind, message};

#[tokio::test]
async fn a_cancelled_call_keeps_its_place_until_it_is_answered() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const Socket = played((socket, { kind, seq }) => {
          if (kind === 'cancel') globalThis.answer = () => socket.say({ kind: 'response', seq }, '1');
          if (seq !== 2) socket.say({ kind: 'response', seq }, '2');
        }, { max_in_flight: 1 });
        const kinds = () => Socket.heard.map((header) => JSON.parse(header).kind).join();
        const client = connect('ws://127.0.0.1:1', { WebSocket: Socket });
        // Connects first, so that none of the second call's time passes before it is sent.
        await client.call('Any.thing');
        const failed = await failure(client.call('Any.thing', {}, { timeout: 200 }));
        const waits = client.call('Any.thing');
        await new Promise((resolve) => setTimeout(resolve, 50));
        const before = kinds();
        answer();
        return [failed, before, await waits, kinds()]";
    let answers = browser.script(script).await;
    assert_eq!(kind(&answers[0]), ("deadline_exceeded", "maybe"));
    assert_eq!(answers[1], "request,request,cancel");
    assert_eq!((&answers[2], &answers[3]), (&json!(2), &json!("request,request,cancel,request")));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const Silent = played((socket, { kind, seq }) => {
          if (kind === 'request' && seq === 1) socket.say({ kind: 'response', seq }, 'null');
        });
        const client = connect('ws://127.0.0.1:1', { WebSocket: Silent, pingAfter: 1000, pongTimeout: 300 });
        await client.call('Any.thing');
        return [await failure(client.call('Any.thing')), Silent.heard.map((header) => JSON.parse(header).kind)]";
    let answers = browser.script(script).await;
    assert_eq!(kind(&answers[0]), ("unavailable", "maybe"));
    assert!(message(&answers[0]).contains("the server was silent for"), "{answers}");
    assert_eq!(answers[1], json!(["request", "request", "ping"]));
    // One that answers is kept, however long nothing is called.
    let script = "
        const Socket = cutting(1e9);
        const client = connect(location.origin, { WebSocket: Socket, pingAfter: 1000, pongTimeout: 20_000 });
        await client.health();
        const before = Socket.messages;
        await until(() => Socket.messages >= before + 2);
        await client.health();
        return Socket.opened";
    assert_eq!(browser.script(script).await, 1);
}

#[tokio::test]
async fn calls_that_a_goaway_refuses_go_to_another_connection_at_most_three_times() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const refusing = (times) => played((socket, { kind, seq, metadata }) => {
          if (kind !== 'request') return;
          // The second call of each connection is refused, the first one answered behind that.
          if (seq === 1 && socket.number > 1 && socket.number > times) return socket.say({ kind: 'response', seq }, metadata ?? {});
          if (socket.number > 1) return socket.say({ kind: 'goaway', seq: 0, error: { code: 'unavailable', message: 'moving' } });
          if (seq === 1) return;
          socket.say({ kind: 'goaway', seq: 1, error: { code: 'unavailable', message: 'moving' } });
          socket.say({ kind: 'response', seq: 1 }, 'null');
        });
        const run = async (times) => {
          const Socket = refusing(times);
          const client = connect('ws://127.0.0.1:1', { WebSocket: Socket });
          const calls = [client.call('Any.thing'), failure(client.call('Any.thing'))];
          return [...(await Promise.all(calls)), Socket.opened];
        };
        return [await run(1), await run(100)]";
    let answers = browser.script(script).await;
    assert_eq!(answers[0], json!([null, {"unexpected": {"farcall-attempt": "2"}}, 2]));
    assert_eq!(kind(&answers[1][1]), ("unavailable", "refused"));
    assert!(message(&answers[1][1]).contains("moving"), "{answers}");
    assert_eq!(answers[1][2], 3, "{answers}");
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_let_go() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const says = {
          unknown: (socket) => socket.say({ kind: "stream", seq: 1 }),
          notTheirs: (socket) => socket.say({ kind: "cancel", seq: 1 }),
          noSeq: (socket) => socket.say({ kind: "response" }),
          hugeSeq: (socket) => socket.say('{"kind":"response","seq":9007199254740992}'),
          noObject: (socket) => socket.say("[1]"),
          noJson: (socket) => socket.say("{"),
          noText: (socket) => socket.say(new Uint8Array([0xff, 0xfe])),
          text: (socket) => socket.sends({ buffer: "text" }),
          longHeader: (socket) => socket.sends(new Uint8Array([0, 1, 0, 1])),
          longBody: (socket) => socket.sends(new Uint8Array([...framed({ kind: "pong", seq: 1 }), 0, 1, 0x86, 0xa1])),
          flood: (socket) => { for (let n = 0; n < 11; n++) socket.say({ kind: "ping", seq: n }); },
        };
        const answers = {};
        for (const [name, say] of Object.entries(says)) {
          const Socket = played((socket, { kind, error }) => {
            globalThis.socket = socket;
            if (kind === "goaway") globalThis.goaway = error?.code;
            if (kind === "request") say(socket);
          });
          globalThis.goaway = undefined;
          const client = connect("ws://127.0.0.1:1", { WebSocket: Socket, maxFrameBytes: 100_000 });
          answers[name] = [await failure(client.call("Any.thing")), socket.isClosed, goaway ?? null];
        }
        return answers"#;
    let answers = browser.script(script).await;
    assert_eq!(answers.as_object().unwrap().len(), 11);
    for (name, answer) in answers.as_object().unwrap() {
        assert_eq!(kind(&answer[0]), ("unavailable", "maybe"), "{name}");
        assert_eq!(answer[1], true, "{name}");
        let why = if name == "text" { "the server sent text" } else { "the server broke the protocol: " };
        assert!(message(&answer[0]).contains(why), "{name}: {answer}");
        let told = if name.starts_with("long") { json!("resource_exhausted") } else { Value::Null };
        assert_eq!(answer[2], told, "{name}");
    }
}

#[tokio::test]
async fn what_a_server_may_say_is_taken() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const results = [
          (seq) => [{ kind: "response", seq, error: null, metadata: null, flags: null, later: 1 }, " 42\n"],
          (seq) => [{ kind: "response", seq }, ""],
          (seq) => [{ kind: "response", seq, error: { code: "tired", message: "\u001b[31m\u202e" + "é".repeat(2000), execution: "nearly" } }, "{"],
          (seq) => [{ kind: "response", seq, error: {} }, ""],
          (seq) => [{ kind: "response", seq }, "42 43"],
          (seq) => [{ kind: "response", seq, flags: 1 }, "42"],
        ];
        const Socket = played((socket, { kind, seq }) => {
          if (kind !== "request") return;
          socket.say({ kind: "response", seq: seq + 100 }, "1");
          socket.say({ kind: "pong", seq: 5 });
          socket.say({ kind: "ping", seq: 9 });
          socket.say(...results[seq - 1](seq));
          socket.say({ kind: "response", seq }, "2");
        });
        const client = connect("ws://127.0.0.1:1", { WebSocket: Socket });
        const answers = [];
        for (const _ of results) answers.push(await failure(client.call("Any.thing")));
        return [answers, Socket.opened, Socket.heard.filter((header) => header === '{"kind":"pong","seq":9}').length]"#;
    let answer = browser.script(script).await;
    let results = &answer[0];
    assert_eq!((&results[0], &results[1]), (&json!({"unexpected": 42}), &json!({"unexpected": null})));
    assert_eq!(kind(&results[2]), ("internal", "maybe"));
    let text = message(&results[2]);
    assert!(text.starts_with("Any.thing: \\u{1b}[31m\\u{202e}é") && text.len() < 1100, "{text}");
    assert_eq!(kind(&results[3]), ("internal", "maybe"));
    assert_eq!(kind(&results[4]), ("internal", "done"));
    assert_eq!(kind(&results[5]), ("internal", "done"));
    assert_eq!((&answer[1], &answer[2]), (&json!(1), &json!(6)));
}
