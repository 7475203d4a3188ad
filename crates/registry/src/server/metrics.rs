//! [`Metrics`]: the registry's counters and gauges, and their Prometheus text.
//!
//! Each registry has its own recorder, so that a process can run several, and the global one stays free for it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::wire::Counts;

/// The buckets of request durations, in seconds. Requests normally take well under 1 ms; those over 10 ms deserve a
/// look.
const BUCKETS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// Samples of durations that are aggregated at once: some 100 µs.
const SAMPLES_AT_ONCE: usize = 1024;

/// The metrics of one registry.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pub(super) registrations: Counter,
    pub(super) heartbeats: Counter,
    pub(super) expirations: Counter,
    pub(super) withheld: Counter,
    pub(super) snapshot_failures: Counter,
    /// The number of durations that were recorded.
    samples: AtomicUsize,
    snapshot_written: Gauge,
    up: Gauge,
    draining: Gauge,
    stale: Gauge,
    services: Gauge,
    watchers: Gauge,
    revision: Gauge,
    warming: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let builder =
            PrometheusBuilder::new().set_buckets(&BUCKETS).expect("the list of buckets is not empty");
        let recorder = builder.build_recorder();
        for (name, description) in [
            ("registrations", "Accepted registrations, including repeated ones."),
            ("heartbeats", "Heartbeats of known instances."),
            ("expirations", "Instances removed because no heartbeat arrived."),
            ("held_back", "Expired instances kept as stale, because many of a service expired at once."),
            ("snapshot_failures", "Snapshots that could not be written."),
            ("requests", "Answered requests, by route, method and status."),
        ] {
            recorder.describe_counter(full_name(name, "_total").into(), None, description.into());
        }
        for (name, description) in [
            ("instances", "Instances by state."),
            ("services", "Services with instances."),
            ("watchers", "Open watches and long polls."),
            ("revision", "The newest revision; starts again with the process."),
            ("warming", "1 while the registry may miss instances that were registered before it started."),
            ("snapshot_written_timestamp_seconds", "The time of the last write of the snapshot, since 1970."),
        ] {
            recorder.describe_gauge(full_name(name, "").into(), None, description.into());
        }
        recorder.describe_histogram(
            full_name("request_duration_seconds", "").into(),
            Some(Unit::Seconds),
            "The time from request to response, by route, without long polls that waited.".into(),
        );
        let counter = |name| recorder.register_counter(&key(name, "_total", Vec::new()), &METADATA);
        let gauge = |name| recorder.register_gauge(&key(name, "", Vec::new()), &METADATA);
        let instances = |state| {
            let labels = vec![Label::from_static_parts("state", state)];
            recorder.register_gauge(&key("instances", "", labels), &METADATA)
        };
        Self {
            registrations: counter("registrations"),
            heartbeats: counter("heartbeats"),
            expirations: counter("expirations"),
            withheld: counter("held_back"),
            snapshot_failures: counter("snapshot_failures"),
            samples: AtomicUsize::new(0),
            snapshot_written: gauge("snapshot_written_timestamp_seconds"),
            up: instances("up"),
            draining: instances("draining"),
            stale: instances("stale"),
            services: gauge("services"),
            watchers: gauge("watchers"),
            revision: gauge("revision"),
            warming: gauge("warming"),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// Counts a request. `took` is `None` if it waited on purpose.
    pub(super) fn record_request(
        &self,
        route: &str,
        method: &Method,
        status: StatusCode,
        took: Option<Duration>,
    ) {
        let route = Label::new("route", route.to_owned());
        let labels = vec![
            route.clone(),
            Label::from_static_parts("method", method_name(method)),
            Label::new("code", status.as_str().to_owned()),
        ];
        self.recorder.register_counter(&key("requests", "_total", labels), &METADATA).increment(1);
        if let Some(took) = took {
            let key = key("request_duration_seconds", "", vec![route]);
            self.recorder.register_histogram(&key, &METADATA).record(took);
            // Where many requests come at once, their samples are not left to the next sweep, in one piece.
            if self.samples.fetch_add(1, Relaxed) % SAMPLES_AT_ONCE == SAMPLES_AT_ONCE - 1 {
                self.upkeep();
            }
        }
    }

    /// Records that a snapshot was written, `seconds` after 1970.
    pub(super) fn snapshot_written(&self, seconds: f64) {
        self.snapshot_written.set(seconds);
    }

    /// Returns all metrics as text, with the current values of the gauges.
    pub(super) fn render(&self, counts: Counts, revision: u64, warming: bool) -> String {
        #[expect(clippy::cast_precision_loss, reason = "the values stay far below 2^53")]
        let set = |gauge: &Gauge, value: u64| gauge.set(value as f64);
        set(&self.up, counts.up as u64);
        set(&self.draining, counts.draining as u64);
        set(&self.stale, counts.stale as u64);
        set(&self.services, counts.services as u64);
        set(&self.watchers, counts.watchers as u64);
        set(&self.revision, revision);
        set(&self.warming, warming.into());
        self.handle.render()
    }

    /// Aggregates samples, which would otherwise accumulate until the next render.
    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

static METADATA: Metadata<'static> = Metadata::new("farcall_registry", Level::INFO, None);

fn full_name(name: &str, suffix: &str) -> String {
    format!("farcall_registry_{name}{suffix}")
}

fn key(name: &str, suffix: &str, labels: Vec<Label>) -> Key {
    Key::from_parts(full_name(name, suffix), labels)
}

/// Returns the label of a method: all unknown methods share one, because clients can send any text and the number of
/// labels must be bounded.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
