//! [`ChannelsCollector`]: the metrics of channels, each with the name that it was given.

use std::fmt;
use std::time::Duration;

use farcall_client::{Channel, ChannelMetrics, LatencyHistogram, ReportedLoadOverview};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads the counters that channels keep.
#[derive(Clone, Debug)]
pub(super) struct ChannelsCollector {
    /// The channels by names, each of which occurs once.
    channels: Vec<(String, Channel)>,
}

/// The channels with their figures at one moment.
type Figures = [(String, ChannelMetrics)];

impl ChannelsCollector {
    /// Creates a collector, and has the channels measure their latency. If a name occurs again, it gets a number.
    pub(super) fn new(channels: &[(String, Channel)]) -> Self {
        let mut named: Vec<(String, Channel)> = Vec::with_capacity(channels.len());
        for (name, channel) in channels {
            channel.measure_latency();
            let numbered = (2..).map(|number| format!("{name}-{number}"));
            let free = |name: &String| !named.iter().any(|(taken, _)| taken == name);
            let name = std::iter::once(name.clone()).chain(numbered).find(free);
            named.extend(name.map(|name| (name, channel.clone())));
        }
        Self { channels: named }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

impl Collector for ChannelsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.channels.iter().map(|(name, channel)| (name.clone(), channel.metrics()));
        let figures: Vec<(String, ChannelMetrics)> = figures.collect();
        let to = &mut encoder;
        write_counters(to, &figures)?;
        write_errors(to, &figures)?;
        write_gauges(to, &figures)?;
        write_endpoints(to, &figures)?;
        write_reported_loads(to, &figures)?;
        write_durations(to, &figures)
    }
}

fn write_counters(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    type Value = fn(&ChannelMetrics) -> u64;
    let counters: [(&str, &str, Value); 11] = [
        ("calls", "Calls that were started.", |one| one.calls),
        ("attempts", "Attempts of calls: the first of each, retries, hedged requests.", |one| one.attempts),
        ("retries", "Attempts after a call's first: retries and hedged requests.", |one| one.retries),
        ("ejections", "Endpoints that were ejected because they kept failing.", |one| one.ejections),
        ("streams", "Streaming calls that were started.", |one| one.streams.opened),
        ("streams_resumed", "Streaming calls that another one went on with.", |one| one.streams.resumed),
        ("stream_stalls", "Items that had to wait for credit.", |one| one.streams.stalls),
        ("items_received", "Items of streaming calls that have arrived.", |one| one.streams.items_received),
        ("items_sent", "Items of streaming calls that were sent.", |one| one.streams.items_sent),
        ("item_bytes_received", "Bytes of the items that have arrived.", |one| one.streams.bytes_received),
        ("item_bytes_sent", "Bytes of the items that were sent.", |one| one.streams.bytes_sent),
    ];
    for (name, help, value) in counters {
        let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (channel, one) in figures {
            ConstCounter::new(value(one)).encode(family.encode_family(&labels(channel))?)?;
        }
    }
    Ok(())
}

fn write_errors(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let help = "Attempts that ended in an error, by its code.";
    let mut family = to.encode_descriptor("errors", help, None, MetricType::Counter)?;
    for (channel, one) in figures {
        for &(code, errors) in &one.errors {
            let labels = [("channel", &**channel), ("code", code.name())];
            ConstCounter::new(errors).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_gauges(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    type Value = fn(&ChannelMetrics) -> Option<f64>;
    let seconds = Some(&Unit::Seconds);
    let gauges: [(&str, &str, Option<&Unit>, Value); 5] = [
        ("calls_in_flight", "Calls under way.", None, |one| Some(one.in_flight as f64)),
        ("streams_open", "Streaming calls that are open.", None, |one| Some(one.streams.open as f64)),
        ("connections", "Connections that take calls.", None, |one| Some(one.connections as f64)),
        ("retry_budget", "Retries that the retry budget allows.", None, |one| Some(one.retries_left)),
        (
            "endpoints_age",
            "The time since the list of endpoints was last known to be true.",
            seconds,
            |one| one.endpoints_age.map(|age| age.as_secs_f64()),
        ),
    ];
    for (name, help, unit, value) in gauges {
        let mut family = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (channel, one) in figures {
            let Some(value) = value(one) else { continue };
            ConstGauge::new(value).encode(family.encode_family(&labels(channel))?)?;
        }
    }
    Ok(())
}

fn write_endpoints(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let mut family =
        to.encode_descriptor("endpoints", "Endpoints in each state.", None, MetricType::Gauge)?;
    for (channel, one) in figures {
        for &(state, number) in &one.endpoints {
            let labels = [("channel", &**channel), ("state", state.name())];
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_reported_loads(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    type Value = fn(&ReportedLoadOverview) -> Option<f64>;
    let seconds = Some(&Unit::Seconds);
    let gauges: [(&str, &str, Option<&Unit>, Value); 4] = [
        ("reported_utilization", "The used part of a server's capacity, as it reports.", None, |load| {
            load.utilization
        }),
        (
            "reported_calls_per_second",
            "Calls of all clients that a server answers, as it reports.",
            None,
            |load| Some(load.calls_per_second),
        ),
        (
            "reported_calls_in_flight",
            "Calls of all clients in flight at a server, as it reports.",
            None,
            |load| Some(load.in_flight),
        ),
        ("reported_load_age", "The time since a server's last report.", seconds, |load| {
            Some(Duration::from_millis(load.age_ms).as_secs_f64())
        }),
    ];
    for (name, help, unit, value) in gauges {
        let mut family = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (channel, one) in figures {
            for (endpoint, load) in &one.reported_loads {
                let Some(value) = value(load) else { continue };
                let labels = [("channel", &**channel), ("endpoint", &**endpoint)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn write_durations(to: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let help = "How long attempts took from sending the request to its answer, or to the deadline.";
    let unit = Some(&Unit::Seconds);
    let mut family = to.encode_descriptor("attempt_duration", help, unit, MetricType::Histogram)?;
    figures
        .iter()
        .try_for_each(|(channel, one)| write_histogram(family.encode_family(&labels(channel))?, &one.latency))
}

fn write_histogram(mut to: MetricEncoder<'_>, latency: &LatencyHistogram) -> fmt::Result {
    let end = |end: Option<Duration>| end.map_or(f64::INFINITY, |end| end.as_secs_f64());
    let buckets: Vec<_> = latency.buckets.iter().map(|&(upper, count)| (end(upper), count)).collect();
    to.encode_histogram::<NoLabelSet>(latency.total.as_secs_f64(), latency.count(), &buckets, None)
}

fn labels(channel: &str) -> [(&'static str, &str); 1] {
    [("channel", channel)]
}
