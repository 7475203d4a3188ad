//! [`Metrics`]: what the registry counts, and its Prometheus text. The recorder is the registry's
//! own, so that a process can run several, and has its global one for itself.

use std::fmt;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::wire::Counts;

/// Seconds. Answers take well under a millisecond; what is above 10 ms is worth a look.
const BUCKETS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pub(super) registrations: Counter,
    pub(super) heartbeats: Counter,
    pub(super) expirations: Counter,
    pub(super) held_back: Counter,
    pub(super) snapshot_failures: Counter,
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
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets");
        let recorder = builder.build_recorder();
        for (name, what) in [
            ("registrations", "Registrations that were accepted, repeated ones too."),
            ("heartbeats", "Heartbeats of known instances."),
            ("expirations", "Instances that went because nothing was heard of them."),
            ("held_back", "Instances that became stale instead, because many of a service expired at once."),
            ("snapshot_failures", "Snapshots that could not be written."),
            ("requests", "Requests that were answered, by route, method and status."),
        ] {
            recorder.describe_counter(name_of(name, "_total").into(), None, what.into());
        }
        for (name, what) in [
            ("instances", "Instances by state."),
            ("services", "Services with instances."),
            ("watchers", "Open watches and long polls."),
            ("revision", "The newest revision; starts again with the process."),
            ("warming", "1 while the registry does not know yet what was registered before it started."),
            ("snapshot_written_timestamp_seconds", "When the snapshot was last written, since 1970."),
        ] {
            recorder.describe_gauge(name_of(name, "").into(), None, what.into());
        }
        recorder.describe_histogram(
            name_of("request_duration_seconds", "").into(),
            Some(Unit::Seconds),
            "How long requests took to their answer, by route; long polls that waited are left out.".into(),
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
            held_back: counter("held_back"),
            snapshot_failures: counter("snapshot_failures"),
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

    /// A request was answered. `took` is none where it waited on purpose.
    pub(super) fn answered(&self, route: &str, method: &Method, status: StatusCode, took: Option<Duration>) {
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
        }
    }

    /// A snapshot was written, so many seconds after 1970.
    pub(super) fn snapshot_written(&self, seconds: f64) {
        self.snapshot_written.set(seconds);
    }

    /// Everything as text, with these numbers of the moment.
    pub(super) fn render(&self, counts: Counts, revision: u64, warming: bool) -> String {
        #[expect(clippy::cast_precision_loss, reason = "they stay far below 2^53")]
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

    /// Brings samples together that would pile up where nobody asks for the text.
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

fn name_of(name: &str, end: &str) -> String {
    format!("farcall_registry_{name}{end}")
}

fn key(name: &str, end: &str, labels: Vec<Label>) -> Key {
    Key::from_parts(name_of(name, end), labels)
}

/// Methods are whatever somebody writes: those that nobody serves are one, or labels had no bound.
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
