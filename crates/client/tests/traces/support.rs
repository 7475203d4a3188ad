//! A subscriber that remembers spans, and servers that tell what they were sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use farcall_client::Channel;
use farcall_context::Context;
use farcall_protocol::{Code, Execution, Status};
use farcall_server::{Handler, Request, Response, ResponseFuture, Server, ServerBuilder, Service};
use farcall_transport::Address;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Subscriber, info_span};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, registry};

/// What lets the spans of calls through.
pub const LISTENING: &str = "info,farcall::client=debug,farcall::server=debug";
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The spans that a thread has seen.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Seen>>>);

/// A span.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: &'static str,
    /// The name of the span above it.
    pub parent: Option<&'static str>,
    pub fields: BTreeMap<&'static str, String>,
    pub closed: bool,
}

/// Where a span is in the list.
struct Place(usize);

/// Has each span that tests look at been made once. Whether one is enabled is kept for the whole
/// process, and a subscriber that a thread installs just when another makes the first such span may be
/// overlooked.
pub fn make_spans_known() {
    static MADE: LazyLock<()> = LazyLock::new(|| {
        let made = std::thread::spawn(|| {
            let _watch = registry().with(Spans::default()).set_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { chain().await.call::<Sent>("T.nested", &()).await.unwrap() })
        });
        made.join().unwrap();
    });
    LazyLock::force(&MADE);
}

impl Spans {
    /// What this thread does from here on, as far as `filter` lets it through.
    pub fn watch(filter: &str) -> (Self, DefaultGuard) {
        make_spans_known();
        let spans = Self::default();
        let filter = EnvFilter::new(filter);
        (spans.clone(), registry().with(filter).with(spans).set_default())
    }

    /// Those that have ended, in the order in which they began.
    pub fn ended(&self) -> Vec<Seen> {
        self.0.lock().unwrap().iter().filter(|seen| seen.closed).cloned().collect()
    }

    /// Those of this name that have ended.
    pub fn named(&self, name: &str) -> Vec<Seen> {
        self.ended().into_iter().filter(|seen| seen.name == name).collect()
    }
}

impl Seen {
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let span = context.span(id).unwrap();
        let mut seen =
            Seen { name: span.name(), parent: span.parent().map(|parent| parent.name()), ..Seen::default() };
        attributes.record(&mut seen);
        let mut spans = self.0.lock().unwrap();
        span.extensions_mut().insert(Place(spans.len()));
        spans.push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        let span = context.span(id).unwrap();
        let Place(at) = *span.extensions().get().unwrap();
        values.record(&mut self.0.lock().unwrap()[at]);
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        let span = context.span(&id).unwrap();
        let Place(at) = *span.extensions().get().unwrap();
        self.0.lock().unwrap()[at].closed = true;
    }
}

#[derive(Deserialize)]
pub struct Nothing {}

/// What a handler was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

impl Sent {
    fn to(context: &Context) -> Self {
        let of = |key| context.metadata(key).map(str::to_owned);
        Self { traceparent: of("traceparent"), tracestate: of("tracestate") }
    }

    /// Trace and span of what was sent.
    pub fn ids(&self) -> (&str, &str) {
        let traceparent = self.traceparent.as_deref().unwrap();
        (&traceparent[3..35], &traceparent[36..52])
    }
}

/// Refuses calls, so many times, and then answers.
struct Refuses(Mutex<usize>);

impl Handler for Refuses {
    fn call(&self, request: Request) -> ResponseFuture {
        let mut left = self.0.lock().unwrap();
        if *left == 0 {
            return ResponseFuture::ready(Response::ok(request.codec(), "at last"));
        }
        *left -= 1;
        let status = Status::new(Code::Unavailable, Execution::Refused, "not yet");
        ResponseFuture::ready(Response::error(status))
    }
}

/// A server in this runtime: `T.sent` tells what it was sent, `T.nested` what another server was sent
/// that its handler calls in a span of its own, `T.fail` panics, `T.refuse` refuses twice, `T.slow` hangs.
pub async fn serve(nested: Option<Channel>) -> Address {
    let builder: ServerBuilder = Server::builder()
        .method("T.sent", async |cx: Context, _: Nothing| Sent::to(&cx))
        .method("T.nested", move |_: Nothing| {
            let nested = nested.clone().unwrap();
            async move {
                tokio::task::yield_now().await;
                info_span!("work").in_scope(|| nested.call::<Sent>("T.sent", &())).await.unwrap()
            }
        })
        .method("T.fail", async |_: Nothing| -> String { panic!("as the test wants it") })
        .method("T.slow", async |_: Nothing| std::future::pending::<()>().await)
        .service(Service::new("R").handler(
            farcall_protocol::describe::MethodInfo { name: "refuse".to_owned(), ..Default::default() },
            Refuses(Mutex::new(2)),
        ));
    let server = builder.listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().clone();
    tokio::spawn(server.serve());
    address
}

/// A channel to a server of its own, and one behind that.
pub async fn chain() -> Channel {
    let behind = Channel::to(serve(None).await).unwrap();
    Channel::to(serve(Some(behind)).await).unwrap()
}

/// Ready when `is` says so.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(60), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
