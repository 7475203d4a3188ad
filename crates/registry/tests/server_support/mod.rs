//! A registry on a free port, and a client that sends bytes as they are written.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use farcall_registry::server::{Registry, RegistryOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::ServiceExt;

/// Nothing here takes so long unless it never happens.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Running {
    pub registry: Registry,
    pub address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub async fn start(settings: RegistryOptions) -> Running {
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
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }

    /// What an error says; it must be one of the registry's.
    pub fn error(&self) -> String {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(self.header("x-farcall-epoch").is_some() && self.header("x-farcall-rev").is_some());
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// One request: `"GET /x"`, further lines of the head, the body.
    pub async fn send(&self, request: &str, headers: &[&str], body: &str) -> Answer {
        let mut bytes = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in headers {
            bytes += &format!("{header}\r\n");
        }
        if !body.is_empty() || !request.starts_with("GET") {
            bytes += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send_bytes(format!("{bytes}\r\n{body}").as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &[], "").await
    }

    pub async fn put(&self, service: &str, address: &str) -> Answer {
        let path = format!("PUT /v1/services/{service}/instances/{address}");
        self.send(&path, &[], &format!(r#"{{"addr":"{address}"}}"#)).await
    }

    /// Whatever bytes, and what comes until the connection is closed.
    pub async fn send_bytes(&self, bytes: &[u8]) -> Answer {
        let (mut reads, mut writes) = TcpStream::connect(self.address).await.unwrap().into_split();
        // The registry may answer and close before it has read all.
        let write = async { writes.write_all(bytes).await };
        let mut answer = Vec::new();
        let read = async { timeout(LONG, reads.read_to_end(&mut answer)).await.expect("there is an answer") };
        let (read, _) = tokio::join!(read, write);
        drop(read);
        parse(&answer)
    }

    /// A watch that was opened.
    pub async fn watch(&self, query: &str, headers: &[&str]) -> Events {
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
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

pub struct Events {
    stream: TcpStream,
    raw: Vec<u8>,
    text: String,
}

impl Events {
    /// The next event; comments and hints are passed over. None at the end.
    pub async fn next(&mut self) -> Option<Event> {
        timeout(LONG, self.next_event()).await.expect("there is an event")
    }

    pub async fn named(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    async fn next_event(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.split_once(": "));
                    lines.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
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

    /// Takes a whole chunk from what was read, if there is one.
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
        timeout(LONG, self.stream.read_buf(&mut self.raw)).await.expect("something comes").unwrap_or(0)
    }
}

/// A request without a network, for tests in which time stands still until all wait.
pub async fn call(
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

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}
