//! [`ServerCollector`]: the metrics of a server.

use std::fmt;
use std::time::Duration;

use farcall_protocol::describe::HealthStatus;
use farcall_server::{MethodMetrics, ServerHandle};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The upper ends of the histogram's buckets, in microseconds: from a call that ends in its first
/// poll to one that a person waits for.
const BUCKETS_US: [u64; 15] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Reads the counters that a server keeps.
#[derive(Debug)]
pub(super) struct ServerCollector {
    pub(super) handle: ServerHandle,
}

impl Collector for ServerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let methods = self.handle.method_metrics();
        let to = &mut encoder;
        write_calls(to, &methods)?;
        write_errors(to, &methods)?;
        write_in_flight(to, &methods)?;
        write_durations(to, &methods)?;
        write_refusals(to, &self.handle)?;
        write_streams(to, &self.handle)?;
        let gauge = |to: &mut DescriptorEncoder<'_>, name, help, unit, value: usize| {
            let value = ConstGauge::new(u64::try_from(value).unwrap_or(u64::MAX));
            value.encode(to.encode_descriptor(name, help, unit, MetricType::Gauge)?)
        };
        gauge(to, "connections", "Connections that are open.", None, self.handle.connections())?;
        let help = "Calls under way in separate tasks, over all connections.";
        gauge(to, "tasks_in_flight", help, None, self.handle.in_flight())?;
        let help = "Bytes in the buffers of all connections.";
        gauge(to, "buffered", help, Some(&Unit::Bytes), self.handle.buffered_bytes())?;
        if let Some(overload) = self.handle.overload() {
            let help = "Calls that may run at once by the adaptive limit.";
            gauge(to, "adaptive_limit", help, None, overload.limit)?;
            gauge(to, "adaptive_running", "Calls that run, by the adaptive limit.", None, overload.running)?;
            gauge(
                to,
                "adaptive_queued",
                "Calls that wait for a place of the adaptive limit.",
                None,
                overload.queued,
            )?;
        }
        let draining = usize::from(self.handle.health() == HealthStatus::Draining);
        gauge(to, "draining", "1 while the server stops and takes no new calls, else 0.", None, draining)
    }
}

fn write_calls(to: &mut DescriptorEncoder<'_>, methods: &[MethodMetrics]) -> fmt::Result {
    let mut family = to.encode_descriptor("calls", "Calls that have ended.", None, MetricType::Counter)?;
    methods.iter().try_for_each(|method| {
        ConstCounter::new(method.calls()).encode(family.encode_family(&labels(method))?)
    })
}

fn write_errors(to: &mut DescriptorEncoder<'_>, methods: &[MethodMetrics]) -> fmt::Result {
    let help = "Calls that have ended in an error, by its code.";
    let mut family = to.encode_descriptor("errors", help, None, MetricType::Counter)?;
    for method in methods {
        let [service, name] = labels(method);
        for &(code, errors) in &method.errors {
            let labels = [service, name, ("code", code.name())];
            ConstCounter::new(errors).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_refusals(to: &mut DescriptorEncoder<'_>, handle: &ServerHandle) -> fmt::Result {
    let help = "Calls and responses refused by a limit that connections share, or by their share of it.";
    let mut family = to.encode_descriptor("refused", help, None, MetricType::Counter)?;
    for (limit, refused) in handle.refusals() {
        ConstCounter::new(refused).encode(family.encode_family(&[("limit", limit)])?)?;
    }
    let help = "Connections closed because they held memory that others needed.";
    let shed = ConstCounter::new(handle.shed_connections());
    shed.encode(to.encode_descriptor("shed_connections", help, None, MetricType::Counter)?)
}

fn write_streams(to: &mut DescriptorEncoder<'_>, handle: &ServerHandle) -> fmt::Result {
    let metrics = handle.stream_metrics();
    let help = "Streaming calls that are open.";
    ConstGauge::new(metrics.open).encode(to.encode_descriptor(
        "streams_open",
        help,
        None,
        MetricType::Gauge,
    )?)?;
    let help = "Items of streaming calls, by their direction as the server sees it.";
    let mut family = to.encode_descriptor("stream_items", help, None, MetricType::Counter)?;
    for (direction, items) in [("sent", metrics.items_sent), ("received", metrics.items_received)] {
        ConstCounter::new(items).encode(family.encode_family(&[("direction", direction)])?)?;
    }
    let help = "The bytes of those items as sent.";
    let mut family = to.encode_descriptor("stream", help, Some(&Unit::Bytes), MetricType::Counter)?;
    for (direction, bytes) in [("sent", metrics.bytes_sent), ("received", metrics.bytes_received)] {
        ConstCounter::new(bytes).encode(family.encode_family(&[("direction", direction)])?)?;
    }
    let help = "The times that an item had to wait for the caller's credit.";
    let stalls = ConstCounter::new(metrics.stalls);
    stalls.encode(to.encode_descriptor("stream_stalls", help, None, MetricType::Counter)?)
}

fn write_in_flight(to: &mut DescriptorEncoder<'_>, methods: &[MethodMetrics]) -> fmt::Result {
    let mut family = to.encode_descriptor("calls_in_flight", "Calls under way.", None, MetricType::Gauge)?;
    methods.iter().try_for_each(|method| {
        ConstGauge::new(method.in_flight).encode(family.encode_family(&labels(method))?)
    })
}

fn write_durations(to: &mut DescriptorEncoder<'_>, methods: &[MethodMetrics]) -> fmt::Result {
    let help = "How long calls took from the request's arrival to its answer.";
    let mut family =
        to.encode_descriptor("call_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    methods.iter().try_for_each(|method| write_histogram(family.encode_family(&labels(method))?, method))
}

fn write_histogram(mut to: MetricEncoder<'_>, method: &MethodMetrics) -> fmt::Result {
    let mut buckets = Vec::with_capacity(BUCKETS_US.len() + 1);
    let mut below = 0;
    for us in BUCKETS_US {
        let end = Duration::from_micros(us);
        let within = method.calls_within(end);
        buckets.push((end.as_secs_f64(), within - below));
        below = within;
    }
    buckets.push((f64::INFINITY, method.calls() - below));
    to.encode_histogram::<NoLabelSet>(method.total_latency().as_secs_f64(), method.calls(), &buckets, None)
}

/// Returns the names of the service and its method. Both are the server's own, so their number is bounded.
fn labels(method: &MethodMetrics) -> [(&'static str, &str); 2] {
    let (service, name) = method.name.rsplit_once('.').unwrap_or(("", &method.name));
    [("service", service), ("method", name)]
}
