//! A server behind HTTP, and pages of the same origin that call it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use farcall_context::Context;
use farcall_http::{HttpOptions, router, serve};
use farcall_server::{Limits, Server, ServerBuilder, ServerHandle, Tokens};
use farcall_test_browser::Browser;
use farcall_transport::{Address, Listener};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::readme;
use crate::support::feed::feed;
use crate::support::{PATIENCE, until};

/// The client under test.
const CLIENT: &str = include_str!("../../../../clients/javascript/farcall.js");
const CALCULATOR: &str = include_str!("calculator.html");
const TESTING: &str = include_str!("testing.js");
/// A page with the functions that the tests use, and no content.
const BENCH: &str = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>Tests</title>\
                     <script type=module src=/testing.js></script>";

/// The options of a site.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) settings: HttpOptions,
    pub(crate) limits: Limits,
    pub(crate) token: Option<&'static str>,
}

/// A server that serves pages, and that the pages call.
pub(crate) struct Site {
    /// `host:port`
    pub(crate) place: String,
    pub(crate) handle: ServerHandle,
    /// The number of running handlers of `Report.build`, `Probe.sleep`, and of `Feed` those without an end.
    pub(crate) running: Arc<AtomicUsize>,
    /// The maximum of `running` so far.
    pub(crate) max_running: Arc<AtomicUsize>,
    /// Ready when both the server and its HTTP listener have ended.
    pub(crate) ended: JoinHandle<()>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::at("127.0.0.1:0", setup).await
    }

    /// Starts a site at this address.
    pub(crate) async fn at(place: &str, setup: Setup) -> Self {
        let (running, max_running) = (Arc::default(), Arc::default());
        let mut builder = feed(services(&running, &max_running), &running).limits(setup.limits);
        if let Some(token) = setup.token {
            builder = builder.authenticate(Tokens::fixed([("web", token)]).unwrap());
        }
        let server = builder.build().unwrap();
        let handle = server.handle();
        let listener = Listener::bind(&Address::parse(place).unwrap()).await.unwrap();
        let place = listener.address().socket_addr().unwrap().to_string();
        let router = pages(&place).merge(router(handle.clone(), setup.settings));
        let stop = handle.clone();
        let ended = tokio::spawn(async move {
            let http = serve(listener, router, async { stop.ended().await });
            tokio::join!(server.serve(), http);
        });
        Self { place, handle, running, max_running, ended }
    }

    /// Returns the URL for the client.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.place)
    }

    /// Starts a browser on a page of this site that has the client and the tests' functions.
    pub(crate) async fn browser(&self) -> Browser {
        let browser = Browser::start().await;
        browser.open(&format!("http://{}/bench.html", self.place)).await;
        browser.sees("connect").await;
        browser
    }

    pub(crate) async fn wait_for_running(&self, count: usize) {
        until(&format!("{count} handlers run"), || self.running.load(Ordering::SeqCst) == count).await;
    }

    pub(crate) async fn wait_for_connections(&self, count: usize) {
        until(&format!("there are {count} connections"), || self.handle.connections() == count).await;
    }

    /// Waits until the server has ended and its port is free.
    pub(crate) async fn wait_until_ended(self) {
        timeout(PATIENCE, self.ended).await.unwrap().unwrap();
    }
}

/// Returns the routes of the pages, the client, and the examples of its README.
fn pages(place: &str) -> Router {
    let mut router = Router::new();
    for (path, kind, text) in [
        ("/calculator.html", "text/html", CALCULATOR),
        ("/bench.html", "text/html", BENCH),
        ("/farcall.js", "text/javascript", CLIENT),
        ("/readme/farcall.js", "text/javascript", CLIENT),
        ("/testing.js", "text/javascript", TESTING),
    ] {
        router = router.route(path, get(move || async move { file(kind, text.to_owned()) }));
    }
    for (number, example) in readme::examples().enumerate() {
        let code = example.code.replace("127.0.0.1:7080", place);
        let page = move || async move { file("text/javascript", code) };
        router = router.route(&format!("/readme/{number}.js"), get(page));
    }
    router
}

fn file(kind: &'static str, text: String) -> impl IntoResponse {
    (StatusCode::OK, [(CONTENT_TYPE, kind)], text)
}

/// Counts a running handler until it returns or is cancelled.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>, max_running: &AtomicUsize) -> Self {
        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
        max_running.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn services(running: &Arc<AtomicUsize>, max_running: &Arc<AtomicUsize>) -> ServerBuilder {
    let counted = |running: &Arc<AtomicUsize>, max_running: &Arc<AtomicUsize>| {
        let (running, max_running) = (Arc::clone(running), Arc::clone(max_running));
        move |args: Value| {
            let guard = Running::begin(&running, &max_running);
            async move {
                let _guard = guard;
                match args["ms"].as_u64() {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => pending().await,
                }
                "awake"
            }
        }
    };
    Server::builder()
        .method("Arith.multiply", |args: Value| async move {
            args["a"].as_i64().unwrap().wrapping_mul(args["b"].as_i64().unwrap())
        })
        .try_method("Arith.divide", |args: Value| async move {
            let (a, b) = (args["a"].as_i64().unwrap(), args["b"].as_i64().unwrap());
            a.checked_div(b).ok_or_else(|| json!({"dividend": a, "divisor": b}))
        })
        .method("Echo.echo", |args: Value| async move { args })
        .method(
            "Echo.letters",
            |args: Value| async move { "x".repeat(args["count"].as_u64().unwrap() as usize) },
        )
        .method("Echo.panic", |_: Value| async move { panic!("as \u{1b}[31masked") as () })
        .method("Echo.call", |cx: Context, _: Value| {
            let remaining = cx.remaining().map(|left| left.as_millis() as u64);
            let traceparent = cx.metadata("traceparent").map(str::to_owned);
            let call = json!({
                "remaining": remaining, "traceparent": traceparent,
                "idempotent": cx.is_idempotent(),
                "caller": cx.identity().map(|identity| identity.name().to_owned()),
            });
            async move { call }
        })
        .method("Report.build", counted(running, max_running))
        .method("Probe.sleep", counted(running, max_running))
}
