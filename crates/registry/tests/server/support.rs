//! A registry on a free port, and a client that sends raw bytes.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use farcall_registry::server::{Registry, RegistryOptions};
use farcall_test_support::wait::within_patience;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceExt;

pub(crate) struct Running {
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) async fn start(settings: RegistryOptions) -> Running {
    let registry = Registry::open(settings).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = registry.router(&[address]);
    let serve = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let run = registry.clone();
    let run = tokio::spawn(async move { run.run(std::future::pending()).await });
    Running { registry, address, tasks: [serve, run] }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the size of status line and headers.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head.len()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }

    /// Returns the message of an error, which must have the form of all the registry's errors.
    pub(crate) fn error(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(self.header("x-farcall-epoch").is_some() && self.header("x-farcall-rev").is_some());
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// Sends a request: `"GET /x"`, header lines, the body.
    pub(crate) async fn send(&self, request: &str, headers: &[&str], body: &str) -> Response {
        let mut bytes = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in headers {
            bytes += &format!("{header}\r\n");
        }
        if !body.is_empty() || !request.starts_with("GET") {
            bytes += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send_bytes(format!("{bytes}\r\n{body}").as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(&format!("GET {path}"), &[], "").await
    }

    pub(crate) async fn put(&self, service: &str, address: &str) -> Response {
        let path = format!("PUT /v1/services/{service}/instances/{address}");
        self.send(&path, &[], &format!(r#"{{"addr":"{address}"}}"#)).await
    }

    /// Sends raw bytes, and reads the response until the connection is closed.
    pub(crate) async fn send_bytes(&self, bytes: &[u8]) -> Response {
        let (mut reads, mut writes) = TcpStream::connect(self.address).await.unwrap().into_split();
        // The registry may answer and close before it has read everything.
        let write = async { writes.write_all(bytes).await };
        let mut answer = Vec::new();
        let read = within_patience("the answer ends", reads.read_to_end(&mut answer));
        let (read, _) = tokio::join!(read, write);
        drop(read);
        parse(&answer)
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, query: &str, headers: &[&str]) -> Events {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("GET /v1/watch{query} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for header in headers {
            request += &format!("{header}\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut events = Events { stream, raw: Vec::new(), text: String::new() };
        while !events.raw.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(events.read().await > 0);
        }
        let head = String::from_utf8_lossy(&events.raw);
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        let end = head.find("\r\n\r\n").unwrap() + 4;
        events.raw.drain(..end);
        events
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

pub(crate) struct Events {
    stream: TcpStream,
    raw: Vec<u8>,
    text: String,
}

impl Events {
    /// Returns the next event, without comments and hints; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        within_patience("an event arrives", self.next_event()).await
    }

    pub(crate) async fn assert_next(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    async fn next_event(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(given, _)| *given == name).map(|(_, value)| value.to_owned())
                };
                let event = field("event").map(|name| Event {
                    name,
                    id: field("id").unwrap(),
                    data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                });
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            if self.raw.starts_with(b"0\r\n") || !self.dechunk() && self.read().await == 0 {
                return None;
            }
        }
    }

    /// Moves a whole chunk from the raw bytes to the text; returns `false` if there is none.
    fn dechunk(&mut self) -> bool {
        let Some(line) = self.raw.windows(2).position(|end| end == b"\r\n") else { return false };
        let size = usize::from_str_radix(std::str::from_utf8(&self.raw[..line]).unwrap(), 16).unwrap();
        if size == 0 || self.raw.len() < line + size + 4 {
            return false;
        }
        self.text += std::str::from_utf8(&self.raw[line + 2..line + 2 + size]).unwrap();
        self.raw.drain(..line + size + 4);
        true
    }

    async fn read(&mut self) -> usize {
        within_patience("bytes arrive", self.stream.read_buf(&mut self.raw)).await.unwrap_or(0)
    }
}

/// Sends a request without a network, for tests in paused time.
pub(crate) async fn call(
    registry: &Registry,
    request: &str,
    body: &str,
) -> (StatusCode, Value, axum::http::HeaderMap) {
    let (method, path) = request.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = registry.router(&[]).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, serde_json::from_slice(&body).unwrap_or(Value::Null), parts.headers)
}

fn parse(answer: &[u8]) -> Response {
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head, body: answer[end + 4..].to_vec() }
}
