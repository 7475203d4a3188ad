//! `/metrics`: the metrics of this process in Prometheus' text format, which its tools check.
//!
//! Nothing is counted here: each request reads the counters that the server ([`server`]) and the channels
//! ([`channels`]) keep, and appends what the program itself adds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use farcall_server::ServerHandle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing::error;

use self::server::ServerCollector;
use crate::hooks::MetricsText;
use crate::options::HttpOptions;

#[cfg(feature = "client")]
mod channels;
mod server;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sources of the metrics.
struct Metrics {
    handle: Option<ServerHandle>,
    #[cfg(feature = "client")]
    channels: channels::ChannelsCollector,
    texts: Vec<MetricsText>,
}

/// Returns the route of the metrics.
pub(crate) fn routes<S>(handle: Option<ServerHandle>, options: &HttpOptions) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let metrics = Metrics {
        handle,
        #[cfg(feature = "client")]
        channels: channels::ChannelsCollector::new(&options.channels),
        texts: options.metrics_texts.clone(),
    };
    Router::new().route("/metrics", get(prometheus)).with_state(Arc::new(metrics))
}

/// Answers `GET /metrics`.
async fn prometheus(State(metrics): State<Arc<Metrics>>) -> Response {
    let mut response = metrics.render().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Metrics {
    /// Returns all metrics as text.
    fn render(&self) -> String {
        let mut text = String::new();
        if let Some(handle) = &self.handle {
            text.push_str(&collect("farcall_server", ServerCollector { handle: handle.clone() }));
        }
        #[cfg(feature = "client")]
        if !self.channels.is_empty() {
            text.push_str(&collect("farcall_client", self.channels.clone()));
        }
        for more in &self.texts {
            append(&mut text, more);
        }
        text
    }
}

/// Returns the metrics of one collector as text.
fn collect(prefix: &str, collector: impl Collector) -> String {
    let mut registry = Registry::with_prefix(prefix);
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string does not fail");
    classic(&text)
}

/// Appends the program's own metrics. If its code panics, the other metrics are still shown.
fn append(text: &mut String, more: &MetricsText) {
    let Ok(own) = catch_unwind(AssertUnwindSafe(|| (more.0)())) else {
        return error!("a function of `HttpOptions::metrics_text` has panicked: its metrics are missing");
    };
    // The end marker of OpenMetrics, which some libraries write, would hide what follows.
    for line in own.lines().filter(|line| *line != "# EOF") {
        text.push_str(line);
        text.push('\n');
    }
}

/// Converts OpenMetrics to Prometheus' own format: it describes a counter by the full name of its samples,
/// and has neither units nor an end marker.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The description precedes the type.
        let of_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let counter = of_counter(line)
            || (line.starts_with("# HELP ") && lines.peek().is_some_and(|next| of_counter(next)));
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [mark, what, name, rest] if counter => {
                text.extend([mark, " ", what, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}
