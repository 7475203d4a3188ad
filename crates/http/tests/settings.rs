//! Every setting of HTTP takes every value of its type.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::time::Duration;

use farcall_http::{Gateway, HttpOptions, ServeOptions};
use farcall_test_support::extremes::{COUNTS, TIMES, count_panics};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, World};

type With<S, V> = fn(S, V) -> S;

const SERVE_TIMES: [With<ServeOptions, Duration>; 3] =
    [ServeOptions::head_timeout, ServeOptions::write_timeout, ServeOptions::stop_timeout];

const GATEWAY_COUNTS: [With<Gateway, usize>; 2] = [Gateway::max_body_bytes, Gateway::buffered_bytes];

/// Makes a call over WebSocket and reads a page; each may fail.
async fn use_world(options: HttpOptions, limits: ServeOptions) {
    let world = World::with("ws", options, limits).await;
    let call = world.channel();
    let call = call.call::<String>("Echo.echo", &json!({"text": "x"})).timeout(Duration::from_secs(5));
    if let Err(error) = call.await {
        assert!(!error.to_string().contains("panicked"), "{error}");
    }
    for request in ["GET /readyz", "POST /rpc/Echo.echo"] {
        let body = r#"{"text":"x"}"#;
        let head = format!("host: {}\r\nconnection: close\r\ncontent-type: application/json", world.place);
        let request = format!("{request} HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(&world.place).await.unwrap();
        // The server may close at any time.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await;
    }
    world.handle.stop();
    let _ = timeout(PATIENCE, world.ended).await;
}

#[tokio::test]
async fn every_setting_takes_every_value() {
    let before = count_panics();
    for time in TIMES {
        for with in SERVE_TIMES {
            use_world(HttpOptions::default(), with(ServeOptions::default(), time)).await;
        }
        use_world(
            HttpOptions::default().gateway(Gateway::default().body_timeout(time)),
            ServeOptions::default(),
        )
        .await;
    }
    for count in COUNTS {
        for with in GATEWAY_COUNTS {
            let gateway = with(Gateway::default(), count);
            use_world(HttpOptions::default().gateway(gateway), ServeOptions::default()).await;
        }
        use_world(HttpOptions::default().max_message_bytes(count), ServeOptions::default()).await;
        use_world(HttpOptions::default(), ServeOptions::default().max_connections(count)).await;
    }
    assert_eq!(count_panics(), before);
}
