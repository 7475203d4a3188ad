//! Access of callers to the gateway.

use farcall_http::{Gateway, HttpOptions};
use farcall_server::{AuthorizeLayer, ServerBuilder, Tokens};
use serde_json::json;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::world::World;

fn guarded(builder: ServerBuilder) -> ServerBuilder {
    builder
        .authenticate(Tokens::fixed([("web", "q8mXe01rHsZ9"), ("ops", "bDF4vNyWTjL2")]).unwrap())
        .layer(AuthorizeLayer::deny_by_default().identity("web", ["Arith.multiply"]).identity("ops", ["*"]))
}

async fn world() -> World {
    World::of(HttpOptions::default().gateway(Gateway::default()), guarded).await
}

#[tokio::test]
async fn a_bearer_token_says_who_calls() {
    let world = world().await;
    for header in ["Authorization: Bearer q8mXe01rHsZ9", "authorization: bearer q8mXe01rHsZ9"] {
        let answer = world.call("Arith.multiply", &[header], "[6,7]").await;
        assert_eq!((answer.status, &*answer.body), (200, "42"), "{header}");
    }
    let answer = world.call("shop.v1.Probe.call", &["Authorization: Bearer bDF4vNyWTjL2"], "").await;
    assert_eq!(answer.json()["caller"], "ops");
}

#[tokio::test]
async fn without_a_credential_it_is_401_and_says_what_is_wanted() {
    let world = world().await;
    for (header, challenge) in [
        ("X-None: none", "Bearer"),
        ("Authorization: Basic cThtWGUwMXJIc1o5", "Bearer"),
        ("Authorization: Bearer wrong", "Bearer error=\"invalid_token\""),
    ] {
        for line in
            ["POST /rpc/Arith.multiply", "POST /rpc/farcall.services", "GET /rpc", "GET /rpc/openapi.json"]
        {
            let answer = world.ask(line, &[header], "").await;
            let (code, message) = answer.error();
            assert_eq!((answer.status, code.as_str()), (401, "unauthenticated"), "{header} {line}");
            assert_eq!(answer.header("www-authenticate"), Some(challenge), "{header} {line}");
            assert!(!message.contains("wrong"), "{message}");
        }
    }
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn what_a_layer_forbids_is_403() {
    let world = world().await;
    let answer = world.call("Arith.divide", &["Authorization: Bearer q8mXe01rHsZ9"], "[6,7]").await;
    let error = json!({
        "code": "permission_denied",
        "message": "`web` may not call `Arith.divide`",
        "execution": "refused",
        "details": null,
    });
    assert_eq!((answer.status, answer.json()["error"].clone()), (403, error));
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn who_may_not_call_takes_no_room_with_a_body() {
    let settings = HttpOptions::default().gateway(Gateway::default().buffered_bytes(100));
    let world = World::of(settings, guarded).await;
    let mut nobody = world.connect().await;
    let head =
        format!("POST /rpc/Arith.multiply HTTP/1.1\r\nHost: {}\r\nContent-Length: 95\r\n\r\n", world.place);
    nobody.write_all(format!("{head}{}", " ".repeat(94)).as_bytes()).await.unwrap();
    // It is answered though its body is not complete.
    let mut answer = [0; 12];
    timeout(PATIENCE, nobody.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let web = "Authorization: Bearer q8mXe01rHsZ9";
    let called = world.call("Arith.multiply", &[web], &format!("[6,7]{}", " ".repeat(60))).await;
    assert_eq!((called.status, &*called.body), (200, "42"));
}

#[tokio::test]
async fn a_token_that_nobody_asked_for_does_no_harm() {
    let world = World::new().await;
    let answer = world.call("Arith.multiply", &["Authorization: Bearer q8mXe01rHsZ9"], "[6,7]").await;
    assert_eq!(answer.body, "42");
    let twice = ["Authorization: Bearer a", "Authorization: Bearer b"];
    assert_eq!(world.call("Arith.multiply", &twice, "[6,7]").await.status, 400);
}
