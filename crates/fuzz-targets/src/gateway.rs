//! Requests to a server's HTTP interface: calls as JSON, pages, and the upgrade.

use std::time::Duration;

use farcall_http::{Gateway, HttpOptions, router};
use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::pipes::in_paused_time;
use crate::registry_http::parse_request;
use crate::service::server;

/// Requests, with a byte of zero between two: first line, headers, and behind an empty line the body.
pub(crate) fn run(data: &[u8]) {
    in_paused_time(async {
        let server = server().build().unwrap();
        let handle = server.handle();
        let router = router(handle.clone(), HttpOptions::default().gateway(Gateway::default()));
        for bytes in data.split(|byte| *byte == 0).take(4) {
            let Some(request) = parse_request(bytes) else { continue };
            let answer = timeout(Duration::from_secs(30), router.clone().oneshot(request));
            let answer = answer.await.expect("a call ends within its time").unwrap();
            let code = answer.headers().get("farcall-code").cloned();
            assert!(answer.status().as_u16() != 500 || code.is_some(), "{answer:?}");
            let mut body = answer.into_body().into_data_stream();
            let reading = async { while body.next().await.is_some_and(|piece| piece.is_ok()) {} };
            let _ = timeout(Duration::from_secs(60), reading).await;
        }
        let at_rest = async {
            while handle.in_flight() > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(60), at_rest).await.expect("calls end with their requests");
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "POST /rpc/T.echo\ncontent-type: application/json\nfarcall-timeout-ms: 500\nfarcall-idempotent: true\n\
         farcall-meta-tenant: blue\nauthorization: Bearer abc\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n\
         {\"value\":[1,\"x\"]}",
        "POST /rpc/T.count\ncontent-type: application/json\naccept: text/event-stream\n\n{\"n\":7}",
        "POST /rpc/T.count\ncontent-type: application/json\naccept: application/x-ndjson\n\n{\"n\":7}",
        "POST /rpc/T.sum\ncontent-type: application/x-ndjson\n\n{}\n1\n2\n-3\n",
        "POST /rpc/T.exchange\ncontent-type: application/x-ndjson\naccept: application/x-ndjson\n\n{}\n1\n[2]\n",
        "GET /rpc",
        "GET /rpc/openapi.json",
        "GET /debug/farcall",
        "GET /metrics\0GET /healthz\0GET /readyz",
        "GET /_farcall_\nconnection: Upgrade\nupgrade: websocket\nsec-websocket-version: 13\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        "OPTIONS /rpc/T.echo\norigin: http://a.example\naccess-control-request-method: POST",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
