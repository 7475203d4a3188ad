//! A subscriber that records spans, and servers that return the trace context they received.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

use farcall_client::Channel;
use farcall_context::Context;
use farcall_protocol::{Code, Execution, Status};
use farcall_server::{
    Handler, Receiver, Request, Response, ResponseFuture, Sender, Server, ServerBuilder, Service,
};
pub use farcall_test_support::wait::until;
use farcall_transport::Address;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber, info_span};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, registry};

/// A filter that enables the spans of calls.
pub const LISTENING: &str = "info,farcall::client=debug,farcall::server=debug";
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The spans that were recorded in a thread.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Seen>>>);

/// A span.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: &'static str,
    /// The name of the span above it.
    pub parent: Option<&'static str>,
    pub fields: BTreeMap<&'static str, String>,
    /// The messages of its events.
    pub events: Vec<String>,
    pub closed: bool,
}

/// The index of a span in the list.
struct Place(usize);

/// Creates each span of the tests once. `tracing` caches for the whole process if a span is enabled, and
/// may miss a subscriber that a thread installs while another creates the first such span.
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
    /// Records the spans of this thread from here on that pass `filter`.
    pub fn watch(filter: &str) -> (Self, DefaultGuard) {
        make_spans_known();
        let spans = Self::default();
        let filter = EnvFilter::new(filter);
        (spans.clone(), registry().with(filter).with(spans).set_default())
    }

    /// Returns the spans that have ended, in the order of their start.
    pub fn ended(&self) -> Vec<Seen> {
        self.0.lock().unwrap().iter().filter(|seen| seen.closed).cloned().collect()
    }

    /// Returns the spans of this name that have ended.
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

    fn on_event(&self, event: &Event<'_>, context: LayerContext<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let Place(at) = *span.extensions().get().unwrap();
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.0.lock().unwrap()[at].events.push(seen.get("message").to_owned());
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        let span = context.span(&id).unwrap();
        let Place(at) = *span.extensions().get().unwrap();
        self.0.lock().unwrap()[at].closed = true;
    }
}

#[derive(Deserialize)]
pub struct Nothing {}

/// The trace context that a handler received.
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

    /// Returns the ids of the trace and of the span.
    pub fn ids(&self) -> (&str, &str) {
        let traceparent = self.traceparent.as_deref().unwrap();
        (&traceparent[3..35], &traceparent[36..52])
    }
}

/// Refuses this many calls, and then answers.
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

/// Starts a server in this runtime: `T.sent` returns the context it received, `T.nested` that of a call to
/// `nested` in a separate span, `T.fail` panics, `R.refuse` refuses twice, `T.slow` hangs.
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
        .method("T.fail", async |_: Nothing| -> String { panic!("requested by the test") })
        .stream_both(
            "T.stream",
            async |cx: Context, _: Nothing, mut items: Receiver<u8>, mut out: Sender<Sent>| {
                while let Some(Ok(_)) = items.recv().await {
                    let _ = out.send(Sent::to(&cx)).await;
                }
            },
        )
        .method("T.slow", async |_: Nothing| std::future::pending::<()>().await)
        .service(
            Service::new("R")
                .handler(farcall_protocol::describe::MethodInfo::new("refuse"), Refuses(Mutex::new(2))),
        );
    let server = builder.listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().clone();
    tokio::spawn(server.serve());
    address
}

/// Returns a channel to a server that calls a second one.
pub async fn chain() -> Channel {
    let behind = Channel::to(serve(None).await).unwrap();
    Channel::to(serve(Some(behind)).await).unwrap()
}
