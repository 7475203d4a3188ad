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
async fn bearer_token_identifies_the_caller() {
    let world = world().await;
    for header in ["Authorization: Bearer q8mXe01rHsZ9", "authorization: bearer q8mXe01rHsZ9"] {
        let answer = world.call("Arith.multiply", &[header], "[6,7]").await;
        assert_eq!((answer.status, &*answer.body), (200, "42"), "{header}");
    }
    let answer = world.call("shop.v1.Probe.call", &["Authorization: Bearer bDF4vNyWTjL2"], "").await;
    assert_eq!(answer.json()["caller"], "ops");
}

#[tokio::test]
async fn missing_credential_is_401_with_a_challenge() {
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
async fn call_that_a_layer_forbids_is_403() {
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
async fn unauthenticated_request_reserves_no_body_buffer() {
    let settings = HttpOptions::default().gateway(Gateway::default().buffered_bytes(100 * 1024));
    let world = World::of(settings, guarded).await;
    let mut anonymous = world.connect().await;
    let head = format!(
        "POST /rpc/Arith.multiply HTTP/1.1\r\nHost: {}\r\nContent-Length: 50001\r\n\r\n",
        world.place
    );
    anonymous.write_all(format!("{head}{}", " ".repeat(50_000)).as_bytes()).await.unwrap();
    // The answer comes before the body is complete.
    let mut answer = [0; 12];
    timeout(PATIENCE, anonymous.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let web = "Authorization: Bearer q8mXe01rHsZ9";
    let called = world.call("Arith.multiply", &[web], &format!("[6,7]{}", " ".repeat(50_000))).await;
    assert_eq!((called.status, &*called.body), (200, "42"));
}

#[tokio::test]
async fn token_is_ignored_by_a_server_without_authentication() {
    let world = World::new().await;
    let answer = world.call("Arith.multiply", &["Authorization: Bearer q8mXe01rHsZ9"], "[6,7]").await;
    assert_eq!(answer.body, "42");
    let twice = ["Authorization: Bearer a", "Authorization: Bearer b"];
    assert_eq!(world.call("Arith.multiply", &twice, "[6,7]").await.status, 400);
}
