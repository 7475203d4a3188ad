//! The client against fake servers inside the page, which do what farcall's servers do not.

use serde_json::{Value, json};

use crate::site::Site;
use crate::{kind, message};

#[tokio::test]
async fn cancelled_call_keeps_its_slot_until_it_is_answered() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const Socket = fakeServer((socket, { kind, seq }) => {
          if (kind === 'cancel') globalThis.answer = () => socket.respond({ kind: 'response', seq }, '1');
          if (seq !== 2) socket.respond({ kind: 'response', seq }, '2');
        }, { max_in_flight: 1 });
        const kinds = () => Socket.received.map((header) => JSON.parse(header).kind).join();
        const client = connect('ws://127.0.0.1:1', { WebSocket: Socket });
        // Connect first, so that connecting takes none of the second call's time.
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
async fn silent_server_is_disconnected() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const Silent = fakeServer((socket, { kind, seq }) => {
          if (kind === 'request' && seq === 1) socket.respond({ kind: 'response', seq }, 'null');
        });
        const client = connect('ws://127.0.0.1:1', { WebSocket: Silent, pingAfter: 1000, pongTimeout: 300 });
        await client.call('Any.thing');
        return [await failure(client.call('Any.thing')), Silent.received.map((header) => JSON.parse(header).kind)]";
    let answers = browser.script(script).await;
    assert_eq!(kind(&answers[0]), ("unavailable", "maybe"));
    assert!(message(&answers[0]).contains("the server was silent for"), "{answers}");
    assert_eq!(answers[1], json!(["request", "request", "ping"]));
    // A connection without calls is kept while the server answers pings.
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
async fn request_may_take_longer_to_be_sent_than_a_server_may_be_silent() {
    let site = Site::new().await;
    let browser = site.browser().await;
    // The socket takes a byte of what waits before the ping each time it is looked.
    let script = "
        let [waiting, looks] = [0, 0];
        const Slow = fakeServer((socket, header) => {
          const { kind, seq } = header;
          // It waits, too.
          if (kind === 'ping') [waiting, looks] = [waiting + 8 + JSON.stringify(header).length, 0];
          if (kind !== 'request') return;
          if (seq === 1) return socket.respond({ kind: 'response', seq }, 'null');
          waiting = 10;
          Object.defineProperty(socket, 'bufferedAmount', { get: () => (looks++, waiting > 0 ? waiting-- : 0) });
        });
        const client = connect('ws://127.0.0.1:1', { WebSocket: Slow, pingAfter: 1000, pongTimeout: 20 });
        await client.call('Any.thing');
        return [await failure(client.call('Any.thing')), Slow.received.map((header) => JSON.parse(header).kind), looks]";
    let answers = browser.script(script).await;
    assert!(message(&answers[0]).contains("the server was silent for"), "{answers}");
    // Ten looks, at each of which one of the bytes was taken that waited before the ping, and one more.
    assert_eq!((&answers[1], &answers[2]), (&json!(["request", "request", "ping"]), &json!(11)));
}

#[tokio::test]
async fn calls_refused_by_goaway_go_to_the_next_connection() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const refusing = (times) => fakeServer((socket, { kind, seq, metadata }) => {
          if (kind !== 'request') return;
          // Refuse the second call of each connection, then answer the first.
          if (seq === 1 && socket.number > 1 && socket.number > times) return socket.respond({ kind: 'response', seq }, metadata ?? {});
          const goaway = () => socket.respond({ kind: 'goaway', seq: 0, error: { code: 'unavailable', message: 'moving' } });
          if (socket.number > 1) return goaway();
          if (seq === 1) return;
          socket.respond({ kind: 'goaway', seq: 1, error: { code: 'unavailable', message: 'moving' } });
          socket.respond({ kind: 'response', seq: 1 }, 'null');
        });
        const run = async (times) => {
          const Socket = refusing(times);
          const client = connect('ws://127.0.0.1:1', { WebSocket: Socket });
          const calls = [client.call('Any.thing'), failure(client.call('Any.thing'))];
          return [...(await Promise.all(calls)), Socket.opened];
        };
        // After connections that do not last, the client pauses.
        return [await run(1), await run(100)]";
    let answers = browser.script(script).await;
    assert_eq!(answers[0], json!([null, {"unexpected": {"farcall-attempt": "2"}}, 2]));
    assert_eq!(kind(&answers[1][1]), ("unavailable", "not_sent"));
    assert!(message(&answers[1][1]).contains("moving"), "{answers}");
    assert_eq!(answers[1][2], 2, "{answers}");
}

#[tokio::test]
async fn server_that_violates_the_protocol_is_disconnected() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const responses = {
          unknown: (socket) => socket.respond({ kind: "stream", seq: 1 }),
          notTheirs: (socket) => socket.respond({ kind: "cancel", seq: 1 }),
          noSeq: (socket) => socket.respond({ kind: "response" }),
          hugeSeq: (socket) => socket.respond('{"kind":"response","seq":9007199254740992}'),
          noObject: (socket) => socket.respond("[1]"),
          errorOfText: (socket) => socket.respond({ kind: "response", seq: 1, error: "no" }),
          errorOfNothing: (socket) => socket.respond({ kind: "response", seq: 1, error: false }, "1"),
          errorOfAList: (socket) => socket.respond({ kind: "response", seq: 1, error: ["internal", "no"] }),
          metadataOfCounts: (socket) => socket.respond({ kind: "response", seq: 1, metadata: { a: 1 } }, "1"),
          negativeFlags: (socket) => socket.respond({ kind: "response", seq: 1, flags: -1 }, "1"),
          timeoutOfText: (socket) => socket.respond({ kind: "response", seq: 1, timeout_ms: "1" }, "1"),
          methodOfANumber: (socket) => socket.respond({ kind: "response", seq: 1, service_method: 1 }, "1"),
          noJson: (socket) => socket.respond("{"),
          noText: (socket) => socket.respond(new Uint8Array([0xff, 0xfe])),
          text: (socket) => socket.deliver({ buffer: "text" }),
          longHeader: (socket) => socket.deliver(new Uint8Array([0, 1, 0, 1])),
          longBody: (socket) => socket.deliver(new Uint8Array([...framed({ kind: "pong", seq: 1 }), 0, 1, 0x86, 0xa1])),
          flood: (socket) => { for (let n = 0; n < 11; n++) socket.respond({ kind: "ping", seq: n }); },
        };
        const answers = {};
        for (const [name, respond] of Object.entries(responses)) {
          const Socket = fakeServer((socket, { kind, error }) => {
            globalThis.socket = socket;
            if (kind === "goaway") globalThis.goaway = error?.code;
            if (kind === "request") respond(socket);
          });
          globalThis.goaway = undefined;
          const client = connect("ws://127.0.0.1:1", { WebSocket: Socket, maxFrameBytes: 100_000 });
          answers[name] = [await failure(client.call("Any.thing")), socket.isClosed, goaway ?? null];
        }
        return answers"#;
    let answers = browser.script(script).await;
    assert_eq!(answers.as_object().unwrap().len(), 18);
    for (name, answer) in answers.as_object().unwrap() {
        assert_eq!(kind(&answer[0]), ("unavailable", "maybe"), "{name}");
        assert_eq!(answer[1], true, "{name}");
        let reason = if name == "text" { "the server sent text" } else { "the server broke the protocol: " };
        assert!(message(&answer[0]).contains(reason), "{name}: {answer}");
        let goaway = if name.starts_with("long") { json!("resource_exhausted") } else { Value::Null };
        assert_eq!(answer[2], goaway, "{name}");
    }
}

#[tokio::test]
async fn terms_of_another_type_are_named_and_large_ones_are_taken() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r#"
        const broken = [{ compression: "lz4" }, { features: "streams" }, { features: ["streams", 1] }, { once_store: 1 },
          { max_in_flight: -1 }, { max_frame_bytes: "1" }, { features: ["streams"], stream_window: 1.5 }];
        const unusual = [{ max_in_flight: 0 }, { max_frame_bytes: 0 }, { max_in_flight: 2 ** 60, max_frame_bytes: 2 ** 60 },
          { compression: null, features: null, max_in_flight: null }, { features: ["streams"], stream_window: 2 ** 60 }];
        const ask = (terms) => {
          const Socket = fakeServer((socket, { seq }) => socket.respond({ kind: "response", seq }, "7"), terms);
          return failure(connect("ws://127.0.0.1:1", { WebSocket: Socket }).call("Any.thing"));
        };
        return [await Promise.all(broken.map(ask)), await Promise.all(unusual.map(ask)),
          await Promise.all([{}, "no", false].map((error) => ask({ error })))]"#;
    let answer = browser.script(script).await;
    let fields = [
        "compression",
        "features",
        "features",
        "once_store",
        "max_in_flight",
        "max_frame_bytes",
        "stream_window",
    ];
    for (error, field) in answer[0].as_array().unwrap().iter().zip(fields) {
        assert_eq!(kind(error), ("unavailable", "not_sent"), "{error}");
        assert!(message(error).contains(&format!("{field} in its Option")), "{error}");
    }
    assert_eq!(answer[1], json!(vec![json!({"unexpected": 7}); 5]));
    for error in answer[2].as_array().unwrap() {
        assert_eq!(kind(error), ("internal", "not_sent"), "{error}");
        assert!(message(error).ends_with("the server refused: internal"), "{error}");
    }
}

#[tokio::test]
async fn unusual_but_valid_server_messages_are_accepted() {
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
        const Socket = fakeServer((socket, { kind, seq }) => {
          if (kind !== "request") return;
          socket.respond({ kind: "response", seq: seq + 100 }, "1");
          socket.respond({ kind: "pong", seq: 5 });
          socket.respond({ kind: "ping", seq: 9 });
          socket.respond(...results[seq - 1](seq));
          socket.respond({ kind: "response", seq }, "2");
        });
        const client = connect("ws://127.0.0.1:1", { WebSocket: Socket });
        const answers = [];
        for (const _ of results) answers.push(await failure(client.call("Any.thing")));
        return [answers, Socket.opened, Socket.received.filter((header) => header === '{"kind":"pong","seq":9}').length]"#;
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
