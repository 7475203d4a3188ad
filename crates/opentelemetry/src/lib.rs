//! OpenTelemetry traces of farcall's calls: one trace across all processes that a call passes through.
//!
//! Clients and servers create a [`tracing`] span for each call, with the fields of OpenTelemetry's
//! conventions for RPC, and [`tracing_opentelemetry`] records spans for OpenTelemetry. This crate joins the
//! spans of two processes to one trace: it sends OpenTelemetry's ids as `traceparent` and `tracestate` in
//! the metadata of calls. Call [`install`] once, next to the setup of the subscriber:
//!
//! ```
//! use farcall_client::Channel;
//! use farcall_server::Server;
//! use opentelemetry::trace::TracerProvider as _;
//! use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
//! use tracing_subscriber::filter::{LevelFilter, Targets};
//! use tracing_subscriber::prelude::*;
//!
//! # #[derive(serde::Deserialize)]
//! # struct Words { text: String }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // An application exports over OTLP, in batches: `.with_batch_exporter(exporter)`.
//! let exporter = InMemorySpanExporter::default();
//! let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
//! let calls = Targets::new()
//!     .with_default(LevelFilter::INFO)
//!     .with_target("farcall::client", LevelFilter::DEBUG)
//!     .with_target("farcall::server", LevelFilter::DEBUG);
//! tracing_subscriber::registry()
//!     .with(calls)
//!     .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
//!     .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("words")))
//!     .init();
//! farcall_opentelemetry::install();
//!
//! let server = Server::builder()
//!     .method("Text.words", async |words: Words| words.text.split_whitespace().count())
//!     .listen("tcp@127.0.0.1:0")
//!     .bind()
//!     .await?;
//! let address = server.addresses().next().expect("it listens on one").clone();
//! let stopping = server.handle();
//! let serving = tokio::spawn(server.serve());
//!
//! let channel = Channel::to(address)?;
//! let n: usize = channel.call("Text.words", &[("text", "one trace")].into_iter().collect::<std::collections::BTreeMap<_, _>>()).await?;
//! assert_eq!(n, 2);
//!
//! stopping.stop();
//! serving.await?;
//! let spans = exporter.get_finished_spans()?;
//! assert_eq!(spans.len(), 2);
//! assert_eq!(spans[0].span_context.trace_id(), spans[1].span_context.trace_id());
//! # Ok(())
//! # }
//! ```
//!
//! The filter of the subscriber decides which spans exist, and the sampler of the tracer which of them are
//! recorded. A parent-based sampler, such as the default, records all spans of a trace or none.

#![cfg_attr(docsrs, feature(doc_cfg))]

use farcall_context::trace::{Propagator, SpanId, TraceContext, TraceId, set_propagator};
use opentelemetry::Context;
use opentelemetry::trace::{self as otel, SpanContext, TraceContextExt as _, TraceFlags, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Installs OpenTelemetry as the source of the ids of spans, for the whole process. If the subscriber has no
/// layer of `tracing_opentelemetry`, calls keep the ids that farcall generates.
///
/// Further calls have no effect. Returns `false` if another [`Propagator`] was installed before.
pub fn install() -> bool {
    static INSTALLED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| set_propagator(OpenTelemetry));
    *INSTALLED
}

/// A [`Propagator`] that uses `tracing_opentelemetry`.
#[derive(Debug)]
struct OpenTelemetry;

impl Propagator for OpenTelemetry {
    fn adopt(&self, span: &Span, parent: TraceContext, state: &str) {
        let parent = SpanContext::new(
            otel::TraceId::from_bytes(parent.trace_id().to_bytes()),
            otel::SpanId::from_bytes(parent.span_id().to_bytes()),
            TraceFlags::default().with_sampled(parent.is_sampled()),
            true,
            // The recommendation: drop a malformed state, but keep the trace.
            state.parse::<TraceState>().unwrap_or_default(),
        );
        // `set_parent` fails if the span was started, which a new one was not, or if there is no layer.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }

    fn identify(&self, span: &Span) -> Option<(TraceContext, String)> {
        let context = span.context();
        let span = context.span();
        let span = span.span_context();
        let trace_id = TraceId::from_bytes(span.trace_id().to_bytes())?;
        let span_id = SpanId::from_bytes(span.span_id().to_bytes())?;
        Some((TraceContext::new(trace_id, span_id, span.is_sampled()), span.trace_state().header()))
    }
}
