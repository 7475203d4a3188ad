//! The registry over HTTP: answers that its clients read, and requests to the registry itself.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use farcall_discovery::{Discovery, publisher};
use farcall_registry::client::HttpDiscovery;
use farcall_registry::server::{Registry, RegistryOptions};
use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::input::Input;
use crate::pipes::{Pipes, in_paused_time, read_some, write};

/// The bytes of an answer's body that are read.
const MAX_ANSWER: usize = 1 << 20;

/// A registry's answer, head and body, to each request of a client.
pub(crate) fn answer(data: &[u8]) {
    in_paused_time(async {
        let mut input = Input::new(data);
        let piece = 1 + usize::from(input.byte());
        let answer = input.rest();
        let (dialer, mut accepted) = Pipes::dialer();
        let discovery = HttpDiscovery::new("http://registry.example:7070", "Arith").unwrap().dialer(dialer);
        let (publisher, list) = publisher();
        let answering = async {
            while let Some(mut far) = accepted.recv().await {
                let _ = read_some(&mut far).await;
                for piece in answer.chunks(piece) {
                    write(&mut far, piece).await;
                    tokio::task::yield_now().await;
                }
            }
        };
        // Long enough for a few requests.
        let looking =
            async { drop(timeout(Duration::from_secs(5), Box::pin(discovery.run(publisher))).await) };
        tokio::select! {
            () = looking => {}
            () = answering => {}
        }
        assert!(list.borrow().endpoints.len() <= data.len(), "an answer is no longer than it is");
    });
}

/// Requests to the registry: their first line, headers, and behind an empty line the body. Requests follow one another
/// behind a line with a dot.
pub(crate) fn request(data: &[u8]) {
    in_paused_time(async {
        let registry = Registry::open(RegistryOptions::default()).await.unwrap();
        let router = registry.router(&[SocketAddr::from(([127, 0, 0, 1], 7070))]);
        for bytes in data.split(|byte| *byte == 0).take(8) {
            let Some(request) = parse_request(bytes) else { continue };
            let Ok(answer) = timeout(Duration::from_secs(2), router.clone().oneshot(request)).await else {
                continue;
            };
            let answer = answer.unwrap();
            assert_ne!(answer.status().as_u16(), 500, "a mistake of the client is told as one");
            let mut body = answer.into_body().into_data_stream();
            let mut read = 0;
            let reading = async {
                while let Some(Ok(piece)) = body.next().await {
                    read += piece.len();
                    if read > MAX_ANSWER {
                        break;
                    }
                }
            };
            // A watch has no end.
            let _ = timeout(Duration::from_secs(1), reading).await;
        }
        // In paused time: long enough for all that was registered to expire.
        let run = registry.run(sleep(Duration::from_secs(60)));
        run.await;
        registry.close().await;
    });
}

/// Parses a request: `None` if it has no method, path or header that HTTP knows.
pub(crate) fn parse_request(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(2).position(|window| window == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = str::from_utf8(lines.next()?).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder()
        .method(method.parse::<Method>().ok()?)
        .uri(path.parse::<Uri>().ok()?)
        .header("host", "127.0.0.1:7070");
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request = request.header(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    request.body(Body::from(body.to_vec())).ok()
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let instance = r#"{"service":"Arith","id":"tcp@10.0.0.1:7001","addr":"10.0.0.1:7001","state":"up"}"#;
    let list =
        format!(r#"{{"epoch":"e","rev":7,"warming":false,"service":"Arith","instances":[{instance}]}}"#);
    let plain = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{list}",
        list.len()
    );
    let watch = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: snapshot\ndata: {list}\n\n\
         event: put\ndata: {{\"epoch\":\"e\",\"rev\":8,\"instance\":{instance}}}\n\n\
         event: delete\ndata: {{\"epoch\":\"e\",\"rev\":9,\"service\":\"Arith\",\"id\":\"tcp@10.0.0.1:7001\"}}\n\n"
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    let error = "HTTP/1.1 429 Busy\r\nRetry-After: 3\r\nContent-Length: 17\r\n\r\n{\"error\":\"busy\"}\n";
    let moved = "HTTP/1.1 307 Moved\r\nLocation: http://other.example/\r\nContent-Length: 0\r\n\r\n";
    [plain.as_str(), &watch, chunked, error, moved].map(|text| [&[255], text.as_bytes()].concat()).into()
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let put = "PUT /v1/services/Arith/instances/tcp%4010.0.0.1:7001\ncontent-type: application/json\n\n\
        {\"addr\":\"10.0.0.1:7001\",\"ttl_ms\":5000,\"weight\":7,\"metadata\":{\"a\":\"b\"}}";
    let rest = [
        "GET /v1/services/Arith/instances?wait=1s&epoch=e&rev=1",
        "GET /v1/services/Arith/watch\naccept: text/event-stream\nlast-event-id: e-1",
        "PATCH /v1/services/Arith/instances/tcp%4010.0.0.1:7001\n\n{\"weight\":0,\"draining\":true}",
        "POST /v1/heartbeats\ncontent-type: application/json\n\n{\"instances\":[{\"service\":\"Arith\",\"id\":\"x\"}]}",
        "DELETE /v1/services/Arith/instances/tcp%4010.0.0.1:7001\nauthorization: Bearer abc",
        "GET /v1/status",
        "GET /metrics\norigin: http://evil.example",
        "POST /_farcall_/registry\nfarcall-server: tcp@10.0.0.1:7001",
        "GET /_farcall_/registry",
    ];
    let mut seeds: Vec<Vec<u8>> = rest.map(|text| format!("{put}\0{text}").into_bytes()).into();
    seeds.push(put.as_bytes().to_vec());
    seeds
}
