//! Values that the JavaScript client sends, and names that it does not call.

use serde_json::json;

use crate::kind;
use crate::site::Site;

#[tokio::test]
async fn names_of_the_language_are_no_methods() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        globalThis.unhandled = [];
        addEventListener('unhandledrejection', (event) => unhandled.push(String(event.reason)));
        const client = connect(location.origin);
        const arith = client.service('Arith');
        const printed = [JSON.stringify({ arith }), `${arith}`, String(arith), arith + ''];
        console.log(arith);
        const asked = [arith.then, arith.toJSON, arith[Symbol.toPrimitive], arith[Symbol.iterator], arith.$$typeof];
        const own = ['constructor', 'valueOf', '__proto__', 'hasOwnProperty'];
        const isObject = own.every((name) => arith[name] === Object.prototype[name] || name === '__proto__');
        const same = (await arith) === arith;
        const connected = await client.call('Arith.multiply', { a: 6, b: 7 });
        const failed = await failure(client.call('Arith.toJSON'));
        await new Promise((resolve) => setTimeout(resolve));
        return [printed, asked.every((it) => it === undefined), isObject, same, connected, failed.code, unhandled]";
    let text = "[object farcall service Arith]";
    let expected = json!([[r#"{"arith":{}}"#, text, text, text], true, true, true, 42, "unimplemented", []]);
    assert_eq!(browser.script(script).await, expected);
}

#[tokio::test]
async fn values_that_json_would_lose_are_refused() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = r"
        const client = connect(location.origin);
        const values = [
          NaN, -Infinity, new Number(NaN), [1, undefined], [, 1], () => 1, Symbol('s'), new Map([[1, 2]]),
          new Set([1]), Promise.resolve(1), new Error('e'), /x/, new Float32Array(2), new Date(NaN), '\ud800',
          { '\ud800': 1 }, { toJSON() {} }, new (class { #hidden = 1 })(),
        ];
        const failed = values.map((value) => failure(client.call('Echo.echo', { value })));
        // Text that is none would end the connection in a header.
        failed.push(failure(client.call('Echo.\ud800')));
        failed.push(failure(client.call('Echo.echo', {}, { metadata: { key: '\ud800' } })));
        return await Promise.all(failed)";
    let failed = browser.script(script).await;
    let failed = failed.as_array().unwrap();
    assert_eq!(failed.len(), 20);
    for failure in failed {
        assert_eq!(kind(failure), ("invalid_argument", "not_sent"), "{failure}");
    }
    // What has a form in JSON is sent, and a property without a value is left out.
    let script = "
        const client = connect(location.origin);
        const value = {
          date: new Date(0), left: undefined, wide: 2n ** 100n, bytes: new Uint8Array([1, 255]), number: new Number(5),
          none: null, list: [[], {}], pair: '\\u{1f600}', bare: Object.create(null),
        };
        return await client.call('Echo.echo', { value })";
    let expected = json!({"value": {
        "date": "1970-01-01T00:00:00.000Z", "wide": "1267650600228229401496703205376", "bytes": "Af8=", "number": 5,
        "none": null, "list": [[], {}], "pair": "\u{1f600}", "bare": {},
    }});
    assert_eq!(browser.script(script).await, expected);
}

#[tokio::test]
async fn long_names_leave_room_for_what_is_said_of_them() {
    let site = Site::new().await;
    let browser = site.browser().await;
    let script = "
        const client = connect(location.origin);
        const long = 'x'.repeat(100000);
        const calls = [
          client.call(long, {}, { signal: AbortSignal.abort() }), client.call(long),
          client.call('Echo.echo', {}, { metadata: { [long]: '' } }), client.call('Echo.echo', { [long]: () => 1 }),
        ];
        return (await Promise.all(calls.map(failure))).map((failed) => failed.message)";
    let messages = browser.script(script).await;
    let expected = ["its caller gave up", "bytes is over", "at most 256 letters", "JSON has no function"];
    for (message, expected) in messages.as_array().unwrap().iter().zip(expected) {
        let message = message.as_str().unwrap();
        assert!(message.contains(expected) && message.len() < 500, "{message}");
    }
}
