//! Spans of calls as OpenTelemetry's SDK exports them: across two servers, with errors and retries, and in
//! two threads that share only a socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farcall_client::{Channel, RetryPolicy};
use farcall_context::{Context, Inherited};
use farcall_protocol::describe::MethodInfo;
use farcall_protocol::{Code, Execution, Metadata, Status as RpcStatus};
use farcall_server::{Handler, Request, Response, ResponseFuture, Server, Service};
use farcall_transport::Address;
use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use serde::Deserialize;
use tracing::subscriber::DefaultGuard;
use tracing::{Instrument as _, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[derive(Deserialize)]
struct Nothing {}

/// The exporter of this thread, active until it is dropped.
struct Export {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _subscriber: DefaultGuard,
}

impl Export {
    fn begin() -> Self {
        assert!(farcall_opentelemetry::install());
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(LevelFilter::DEBUG).with(layer).set_default();
        Self { exporter, _provider: provider, _subscriber: subscriber }
    }

    /// Waits until `count` spans have ended and returns them.
    async fn spans(&self, count: usize) -> Vec<SpanData> {
        let begin = Instant::now();
        loop {
            let spans = self.exporter.get_finished_spans().unwrap();
            if spans.len() >= count {
                assert_eq!(
                    spans.len(),
                    count,
                    "{:?}",
                    spans.iter().map(|span| &span.name).collect::<Vec<_>>()
                );
                return spans;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{} spans", spans.len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn find<'a>(spans: &'a [SpanData], name: &str, kind: &SpanKind) -> &'a SpanData {
    let mut found = spans.iter().filter(|span| span.name == name && span.span_kind == *kind);
    let first = found.next().unwrap_or_else(|| panic!("no {name} of {kind:?}"));
    assert!(found.next().is_none(), "more than one {name} of {kind:?}");
    first
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().rfind(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string())
}

/// Asserts that `above` is the parent of `below`.
fn assert_below(below: &SpanData, above: &SpanData) {
    assert_eq!(below.parent_span_id, above.span_context.span_id(), "{} below {}", below.name, above.name);
    assert_eq!(below.span_context.trace_id(), above.span_context.trace_id());
}

/// A handler that refuses this number of calls and then answers.
struct Refuses(Mutex<usize>);

impl Handler for Refuses {
    fn call(&self, request: Request) -> ResponseFuture {
        let mut left = self.0.lock().unwrap();
        if *left == 0 {
            return ResponseFuture::ready(Response::ok(request.codec(), "at last"));
        }
        *left -= 1;
        ResponseFuture::ready(Response::error(RpcStatus::new(
            Code::Unavailable,
            Execution::Refused,
            "not yet",
        )))
    }
}

async fn serve(next: Option<Channel>) -> Address {
    let refuse = MethodInfo::new("refuse");
    let server = Server::builder()
        .method("Stock.count", async |_: Nothing| {
            tokio::task::yield_now().await;
            7
        })
        .method("Stock.break", async |_: Nothing| -> i64 { panic!("as the test wants it") })
        .method("Stock.sent", async |cx: Context, _: Nothing| {
            ["traceparent", "tracestate"].map(|key| cx.metadata(key).unwrap_or_default().to_owned())
        })
        .method("Shop.order", move |_: Nothing| {
            let stock = next.clone().unwrap();
            async move {
                let counting = async { stock.call::<i64>("Stock.count", &()).await.unwrap() };
                counting.instrument(info_span!("look into the stock")).await
            }
        })
        .service(Service::new("Stock2").handler(refuse, Refuses(Mutex::new(2))))
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses().next().unwrap().clone();
    tokio::spawn(server.serve());
    address
}

/// Returns a channel to a server that calls another server.
async fn shop() -> Channel {
    let stock = Channel::to(serve(None).await).unwrap();
    Channel::to(serve(Some(stock)).await).unwrap()
}

#[tokio::test]
async fn one_trace_spans_two_servers_and_spans_of_the_user() {
    let export = Export::begin();
    let shop = shop().await;
    let ordering = async { shop.call::<i64>("Shop.order", &()).await.unwrap() };
    assert_eq!(ordering.instrument(info_span!("checkout")).await, 7);

    let spans = export.spans(6).await;
    let checkout = find(&spans, "checkout", &SpanKind::Internal);
    let order_out = find(&spans, "Shop/order", &SpanKind::Client);
    let order_in = find(&spans, "Shop/order", &SpanKind::Server);
    let look = find(&spans, "look into the stock", &SpanKind::Internal);
    let count_out = find(&spans, "Stock/count", &SpanKind::Client);
    let count_in = find(&spans, "Stock/count", &SpanKind::Server);
    assert_eq!(checkout.parent_span_id, SpanId::INVALID);
    for [below, above] in [
        [order_out, checkout],
        [order_in, order_out],
        [look, order_in],
        [count_out, look],
        [count_in, count_out],
    ] {
        assert_below(below, above);
    }
    for span in [order_in, count_in] {
        assert!(span.parent_span_is_remote, "{}", span.name);
    }
    for span in &spans {
        assert_eq!(span.status, Status::Unset, "{}", span.name);
    }
    assert_eq!(attribute(count_in, "rpc.system").as_deref(), Some("farcall"));
    assert_eq!(attribute(count_in, "rpc.method").as_deref(), Some("count"));
    assert_eq!(attribute(count_out, "server.address").as_deref(), Some("127.0.0.1"));
    let trace_id = checkout.span_context.trace_id().to_string();
    assert_eq!(attribute(count_in, "trace_id"), Some(trace_id), "logs contain no other id");
    // A span encloses its children.
    assert!(order_out.start_time <= order_in.start_time && order_in.end_time >= count_out.start_time);
}

#[tokio::test]
async fn failed_call_is_an_error_on_both_sides() {
    let export = Export::begin();
    shop().await.call::<i64>("Stock.break", &()).await.unwrap_err();
    let spans = export.spans(2).await;
    for kind in [SpanKind::Client, SpanKind::Server] {
        let span = find(&spans, "Stock/break", &kind);
        assert!(
            matches!(&span.status, Status::Error { description } if description.contains("panicked")),
            "{span:?}"
        );
        assert_eq!(attribute(span, "error.type").as_deref(), Some("internal"));
    }
}

#[tokio::test]
async fn mistake_of_the_caller_is_not_an_error_of_the_server() {
    let export = Export::begin();
    let channel = shop().await;
    channel.call::<i64>("Stock.count", &[1, 2, 3]).await.unwrap_err();
    let spans = export.spans(2).await;
    let (client, server) =
        (find(&spans, "Stock/count", &SpanKind::Client), find(&spans, "Stock/count", &SpanKind::Server));
    assert!(matches!(client.status, Status::Error { .. }));
    assert_eq!(server.status, Status::Unset);
    assert_eq!(attribute(server, "error.type").as_deref(), Some("invalid_argument"));
}

#[tokio::test]
async fn each_attempt_has_a_server_span() {
    let export = Export::begin();
    let channel = Channel::builder()
        .to(serve(None).await)
        .retry(RetryPolicy::retry_same().max_attempts(5))
        .build()
        .unwrap();
    let _: String = channel.call("Stock2.refuse", &()).idempotent().await.unwrap();
    let spans = export.spans(4).await;
    let client = find(&spans, "Stock2/refuse", &SpanKind::Client);
    assert_eq!(client.status, Status::Unset, "it succeeded in the end");
    assert_eq!(attribute(client, "farcall.tries").as_deref(), Some("3"));
    let again = client.events.iter().filter(|event| event.name == "trying again");
    assert_eq!(again.count(), 2);
    let servers: Vec<_> = spans.iter().filter(|span| span.span_kind == SpanKind::Server).collect();
    servers.iter().for_each(|server| assert_below(server, client));
    let failed = servers.iter().filter(|server| matches!(server.status, Status::Error { .. }));
    assert_eq!(failed.count(), 2);
    let attempts: Vec<_> = servers.iter().map(|server| attribute(server, "farcall.attempt")).collect();
    assert_eq!(attempts, [None, Some("2".to_owned()), Some("3".to_owned())]);
}

fn inheriting(traceparent: &str, tracestate: &str) -> Inherited {
    let mut metadata = Metadata::new();
    metadata.insert("traceparent", traceparent).unwrap();
    metadata.insert("tracestate", tracestate).unwrap();
    Inherited::default().metadata(Some(Arc::new(metadata)))
}

#[tokio::test]
async fn inherited_trace_is_continued_with_its_state() {
    let export = Export::begin();
    let channel = shop().await;
    let call = inheriting(PARENT, "vendor=remark").scope(|| channel.call::<[String; 2]>("Stock.sent", &()));
    let [traceparent, tracestate] = call.await.unwrap();
    let spans = export.spans(2).await;
    let client = find(&spans, "Stock/sent", &SpanKind::Client);
    assert_eq!(client.span_context.trace_id().to_string(), TRACE);
    assert_eq!(client.parent_span_id.to_string(), PARENT[36..52]);
    assert_eq!(traceparent, format!("00-{TRACE}-{}-01", client.span_context.span_id()));
    assert_eq!(tracestate, "vendor=remark");
    let server = find(&spans, "Stock/sent", &SpanKind::Server);
    assert_eq!(server.span_context.trace_state().get("vendor"), Some("remark"));
}

#[tokio::test]
async fn unsampled_trace_stays_unsampled() {
    let export = Export::begin();
    let channel = shop().await;
    let call = inheriting(UNSAMPLED, "").scope(|| channel.call::<[String; 2]>("Stock.sent", &()));
    let [traceparent, _] = call.await.unwrap();
    assert!(
        traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-00"),
        "{traceparent}"
    );
    assert_ne!(traceparent, UNSAMPLED);
    // Another call is exported after it, so an export of the first one would have arrived.
    channel.call::<i64>("Stock.count", &()).await.unwrap();
    assert!(export.spans(2).await.iter().all(|span| span.name == "Stock/count"));
}

#[tokio::test]
async fn malformed_parent_starts_a_new_trace() {
    let export = Export::begin();
    let channel = shop().await;
    for malformed in
        [PARENT.to_uppercase(), PARENT.replacen("00-", "ff-", 1), PARENT.replace(TRACE, &"0".repeat(32))]
    {
        let call = channel.call::<i64>("Stock.count", &()).metadata("traceparent", malformed);
        call.await.unwrap();
    }
    for span in export.spans(6).await {
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_ne!(span.span_context.trace_id().to_string(), TRACE);
    }
}

/// Like two processes: each side has its own thread, runtime, subscriber and exporter.
#[test]
fn sides_that_share_only_a_socket_are_in_one_trace() {
    let (send_address, address) = mpsc::channel();
    let (send_done, done) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let export = Export::begin();
        runtime().block_on(async {
            send_address.send(serve(None).await).unwrap();
            done.await.unwrap();
            export.spans(1).await
        })
    });
    let client = std::thread::spawn(move || {
        let export = Export::begin();
        runtime().block_on(async {
            let channel = Channel::to(address.recv().unwrap()).unwrap();
            channel.call::<i64>("Stock.count", &()).await.unwrap();
            send_done.send(()).unwrap();
            export.spans(1).await
        })
    });
    let (client, server) = (client.join().unwrap(), server.join().unwrap());
    assert_eq!((&client[0].span_kind, &server[0].span_kind), (&SpanKind::Client, &SpanKind::Server));
    assert_below(&server[0], &client[0]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
