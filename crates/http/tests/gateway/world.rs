//! A server with a gateway, and a client that sends raw bytes over a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use farcall_context::Context;
use farcall_http::{Gateway, HttpOptions, router, serve};
use farcall_protocol::describe::{MethodInfo, ParamInfo};
use farcall_protocol::{Codec, Metadata};
use farcall_server::{
    Handler, Request, Response, ResponseFuture, Server, ServerBuilder, ServerHandle, Service, from_fn,
};
use farcall_transport::{Address, Listener};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::feed::feed;
use crate::support::{PATIENCE, until};

pub(crate) struct World {
    pub(crate) place: String,
    pub(crate) handle: ServerHandle,
    pub(crate) counts: Counts,
    pub(crate) ended: JoinHandle<()>,
}

/// Counters of the handlers.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    /// The number of calls of `Arith.multiply`.
    pub(crate) multiplied: Arc<AtomicUsize>,
    /// The number of running handlers of `Clock.wait`.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// Ends the handlers of `Clock.wait` that were called without a time.
    pub(crate) release: CancellationToken,
}

/// A parsed answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The headers, with names in lower case.
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl World {
    /// Starts a server with the gateway enabled.
    pub(crate) async fn new() -> World {
        World::with(HttpOptions::default().gateway(Gateway::default())).await
    }

    pub(crate) async fn with(settings: HttpOptions) -> World {
        World::of(settings, |builder| builder).await
    }

    pub(crate) async fn of(
        settings: HttpOptions,
        more: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> World {
        let counts = Counts::default();
        let server = more(feed(services(&counts), &counts)).build().unwrap();
        let handle = server.handle();
        let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
        let place = listener.address().socket_addr().unwrap().to_string();
        let router = router(handle.clone(), settings);
        let stop = handle.clone();
        let ended = tokio::spawn(async move {
            let http = serve(listener, router, async { stop.ended().await });
            tokio::join!(server.serve(), http);
        });
        World { place, handle, counts, ended }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.place).await.unwrap()
    }

    /// Sends a request line, headers and a body, adds the headers that HTTP requires, and returns the answer.
    pub(crate) async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request += &format!("Host: {}\r\n", self.place);
        }
        for header in headers {
            request += &format!("{header}\r\n");
        }
        if !headers.iter().any(|header| header.starts_with("Transfer-Encoding:")) {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let request = format!("{request}\r\n{body}");
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    /// Calls a method, and returns the answer.
    pub(crate) async fn call(&self, method: &str, headers: &[&str], body: &str) -> Answer {
        self.ask(&format!("POST /rpc/{method}"), headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    pub(crate) async fn wait_for_waiting(&self, count: usize) {
        until(&format!("{count} handlers wait"), || self.counts.waiting.load(Ordering::SeqCst) == count)
            .await;
    }

    pub(crate) fn multiplied(&self) -> usize {
        self.counts.multiplied.load(Ordering::SeqCst)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Returns the error's code and message.
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned();
        (text("code"), text("message"))
    }
}

/// Reads an answer until the server closes the connection.
pub(crate) async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(axum::http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if is_chunked { dechunked(body) } else { body.to_owned() };
    Answer { status, headers, body }
}

/// Returns the data of chunks, without the last one if it is incomplete.
pub(crate) fn dechunked(mut chunks: &str) -> String {
    let mut data = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        data += chunk;
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    data
}

#[derive(Deserialize)]
struct Numbers {
    a: i64,
    b: i64,
}

#[derive(Serialize)]
struct DivideError {
    dividend: i64,
}

impl std::fmt::Display for DivideError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cannot be divided by 0", self.dividend)
    }
}

/// Counts a running handler until it returns or is cancelled.
pub(crate) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    pub(crate) fn begin(counts: &Counts) -> Self {
        counts.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&counts.waiting))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Responds with metadata and an empty body.
struct Tagged;

impl Handler for Tagged {
    fn call(&self, request: Request) -> ResponseFuture {
        let mut metadata = Metadata::new();
        for (key, value) in request.context().all_metadata().into_iter().flat_map(Metadata::iter) {
            metadata.insert(format!("seen-{key}"), value).unwrap();
        }
        metadata.insert("farcall-retry-after-ms", "1500").unwrap();
        ResponseFuture::ready(Response::default().with_metadata(metadata))
    }
}

fn info(name: &str, doc: &str, params: &[(&str, &str)], returns: &str) -> MethodInfo {
    let param = |&(name, type_name): &(&str, &str)| ParamInfo::new(name, type_name);
    MethodInfo::new(name).doc(doc).params(params.iter().map(param).collect()).returns(returns)
}

fn services(counts: &Counts) -> ServerBuilder {
    let (multiplied, waiting) = (Arc::clone(&counts.multiplied), Arc::clone(&counts.waiting));
    let release = counts.release.clone();
    let numbers = [("a", "i64"), ("b", "i64")];
    let arith = Service::new("Arith")
        .doc("Integer arithmetic.")
        .handler(
            info("multiply", "Multiplies two numbers.", &numbers, "i64").idempotent(true),
            from_fn(
                move |_, Numbers { a, b }| {
                    multiplied.fetch_add(1, Ordering::SeqCst);
                    async move { a * b }
                },
                |codec: &Codec, product| Response::ok(codec, &product),
            ),
        )
        .handler(
            info("divide", "Divides; fails on zero.", &numbers, "Result<i64, DivideError>"),
            from_fn(
                |_, Numbers { a, b }| async move { a.checked_div(b).ok_or(DivideError { dividend: a }) },
                |codec: &Codec, divided| match divided {
                    Ok(quotient) => Response::ok(codec, &quotient),
                    Err(error) => Response::application(codec, &error),
                },
            ),
        );
    Server::builder()
        .service(arith)
        .method("Clock.zone", |_: Value| async { "UTC" })
        .method(
            "Clock.tenant",
            |cx: Context, _: Value| async move { cx.metadata("tenant").map(str::to_owned) },
        )
        .method("Clock.wait", move |args: Value| {
            waiting.fetch_add(1, Ordering::SeqCst);
            let guard = Waiting(Arc::clone(&waiting));
            let release = release.clone();
            async move {
                let _guard = guard;
                match args["ms"].as_u64() {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => release.cancelled().await,
                }
            }
        })
        .method("shop.v1.Probe.call", |cx: Context, args: Value| async move {
            let left_ms = cx.remaining().map(|left| u64::try_from(left.as_millis()).unwrap());
            let metadata: Vec<_> = cx.all_metadata().into_iter().flat_map(Metadata::iter).collect();
            let metadata = serde_json::to_value(metadata).unwrap();
            serde_json::json!({
                "args": args,
                "metadata": metadata,
                "left_ms": left_ms,
                "peer": cx.peer(),
                "caller": cx.identity().map(|caller| caller.name()),
                "idempotent": cx.is_idempotent(),
            })
        })
        .service(Service::new("Odd").handler(info("tagged", "", &[], "()"), Tagged).handler(
            info("safe", "", &[], "bool").idempotent(true),
            from_fn(
                |cx: Context, _: Value| async move { cx.is_idempotent() },
                |codec: &Codec, idempotent| Response::ok(codec, &idempotent),
            ),
        ))
        .method("Odd.ratio", |_: Value| async { vec![Some(1.5), Some(f64::NAN)] })
        .method("Odd.panics", |_: Value| async {
            if true {
                panic!("as asked");
            }
        })
}
