//! [`Report`]: the figures of a run, as text, as JSON, and next to those of another run.

use std::time::Duration;

use serde::Serialize;

use super::measurement::{Measurement, Streams};
use super::plan::{Pace, Plan};
use crate::failure::Failure;
use crate::output::escape::word;
use crate::output::table::table;
use crate::time::show;
use crate::value::Value;

/// The generator's lag, at p99, above which the figures say more about this machine than about the server.
const MAX_LAG: Duration = Duration::from_millis(10);
/// The least part of the rate that the generator must have reached.
const MIN_SENT: f64 = 0.95;

/// The figures of a run. Latencies are in seconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    method: String,
    /// `open` or `closed`.
    r#loop: &'static str,
    /// The rate that was asked for; `None` in a closed loop.
    asked: Option<f64>,
    calls: u64,
    seconds: f64,
    /// Calls a second that were answered.
    rate: f64,
    failed: u64,
    errors: Vec<ErrorCount>,
    latency: Vec<(String, f64)>,
    /// The delay with which the generator sent calls: p50, p99, max.
    lag: [f64; 3],
    timeline: Vec<SecondReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<StreamReport>,
}

/// The items of a run, in both directions.
#[derive(Clone, Debug, Serialize)]
struct StreamReport {
    items: u64,
    bytes: u64,
    items_per_s: f64,
    bytes_per_s: f64,
    /// The time to the first item, in seconds; empty if there was none.
    first: Vec<(&'static str, f64)>,
    /// The most streams that were open at once.
    max_open: u64,
    /// The streams that the end of the run cut off, which have no latency.
    cut: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ErrorCount {
    code: &'static str,
    execution: &'static str,
    count: u64,
}

/// One second of the run, by when calls were due.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SecondReport {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) max: f64,
}

impl Report {
    /// The percentiles, by name.
    pub(super) const LATENCIES: [(&str, f64); 6] =
        [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

    pub(super) fn new(method: &str, plan: &Plan, measured: &Measurement) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let (r#loop, asked) = match plan.pace {
            Pace::Open { rate, ramp } => ("open", Some(rate).filter(|_| ramp.is_zero())),
            Pace::Closed(_) => ("closed", None),
        };
        let latency = &measured.latency;
        let quantiles = Self::LATENCIES.map(|(name, quantile)| (name, latency.value_at_quantile(quantile)));
        let rest = [("max", latency.max()), ("mean", latency.mean() as u64)];
        Self {
            method: method.to_owned(),
            r#loop,
            asked,
            calls: measured.calls(),
            seconds,
            rate: if seconds > 0.0 { measured.calls() as f64 / seconds } else { 0.0 },
            failed: measured.failures(),
            errors: (measured.errors.iter())
                .map(|(&(code, execution), &count)| ErrorCount { code, execution, count })
                .collect(),
            latency: quantiles
                .into_iter()
                .chain(rest)
                .map(|(name, nanos)| (name.to_owned(), seconds_of(nanos)))
                .collect(),
            lag: [
                measured.lag.value_at_quantile(0.5),
                measured.lag.value_at_quantile(0.99),
                measured.lag.max(),
            ]
            .map(seconds_of),
            timeline: (measured.seconds.iter())
                .map(|one| SecondReport { calls: one.calls, errors: one.errors, max: seconds_of(one.max) })
                .collect(),
            streams: measured.streams.as_ref().map(|streams| StreamReport::new(streams, seconds)),
        }
    }

    /// Returns a figure by its name: latencies in seconds.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        match name {
            "errors" => Some(self.failed as f64),
            "rate" => Some(self.rate),
            "items" => self.streams.as_ref().map(|streams| streams.items_per_s),
            "bytes" => self.streams.as_ref().map(|streams| streams.bytes_per_s),
            name if name.starts_with("first-") => {
                let first = &self.streams.as_ref()?.first;
                first.iter().find(|(known, _)| *known == name).map(|(_, seconds)| *seconds)
            }
            name => self.latency.iter().find(|(known, _)| known == name).map(|(_, seconds)| *seconds),
        }
    }

    /// Returns a figure as text.
    pub(super) fn shown(&self, name: &str) -> String {
        match (name, self.figure(name)) {
            (_, None) => "unknown".to_owned(),
            ("errors" | "rate" | "items" | "bytes", Some(number)) => format!("{number:.0}"),
            (_, Some(seconds)) => show(Duration::from_secs_f64(seconds)),
        }
    }

    pub(super) fn latencies(&self) -> &[(String, f64)] {
        &self.latency
    }

    pub(super) fn timeline(&self) -> &[SecondReport] {
        &self.timeline
    }

    /// Returns the title: what was called, and how.
    pub(super) fn title(&self) -> String {
        let method = word(&self.method);
        match self.r#loop {
            "closed" => {
                format!("{method}, closed loop: latency leaves out the time in which calls were not made")
            }
            _ => format!("{method}, open loop: latency counts from when a call was due"),
        }
    }

    /// Returns the report for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title());
        let asked = self.asked.map(|rate| format!(" of {rate:.0}/s")).unwrap_or_default();
        text.push_str(&format!(
            "{} calls in {:.2} s, {:.0}/s{asked}, {} errors\n",
            self.calls, self.seconds, self.rate, self.failed
        ));
        if self.r#loop == "open" {
            let [_, p99, max] = self.lag.map(|seconds| show(Duration::from_secs_f64(seconds)));
            text.push_str(&format!("the generator itself was up to {max} late (p99 {p99})\n"));
        }
        if let Some(streams) = &self.streams {
            text.push_str(&streams.text());
        }
        text.push('\n');
        text.push_str(&table(
            &["latency", ""],
            self.latency.iter().map(|(name, _)| [name.clone(), self.shown(name)]),
        ));
        if !self.errors.is_empty() {
            let rows = self
                .errors
                .iter()
                .map(|one| [one.code.to_owned(), one.execution.to_owned(), one.count.to_string()]);
            text.push('\n');
            text.push_str(&table(&["error", "execution", "calls"], rows));
        }
        text
    }

    /// Returns a table of the figures of an earlier report, in JSON, and of this one.
    pub(super) fn compared_to(&self, before: &Value) -> String {
        let earlier = |name: &str| match name {
            "errors" => number(before.get("failed")?),
            "rate" => number(before.get("rate")?),
            "items" => number(before.get("streams")?.get("items_per_s")?),
            "bytes" => number(before.get("streams")?.get("bytes_per_s")?),
            name if name.starts_with("first-") => pair(before.get("streams")?.get("first")?, name),
            name => pair(before.get("latency")?, name),
        };
        let of_streams = self.streams.iter().flat_map(|streams| {
            let first = streams.first.iter().map(|(name, _)| *name);
            first.chain(["items", "bytes"])
        });
        let names =
            self.latency.iter().map(|(name, _)| name.as_str()).chain(["errors", "rate"]).chain(of_streams);
        let rows = names.map(|name| {
            let (then, now) = (earlier(name), self.figure(name).unwrap_or_default());
            let change =
                then.filter(|then| *then > 0.0).map(|then| format!("{:+.1}%", (now / then - 1.0) * 100.0));
            let then = then.map(|then| match name {
                "errors" | "rate" | "items" | "bytes" => format!("{then:.0}"),
                _ => show(Duration::from_secs_f64(then.max(0.0))),
            });
            [name.to_owned(), then.unwrap_or_default(), self.shown(name), change.unwrap_or_default()]
        });
        format!("\n{}", table(&["", "before", "now", "change"], rows))
    }

    /// Refuses figures that the generator cannot stand by: it was late itself, or did not reach the rate.
    pub(super) fn check_generator(&self) -> Result<(), Failure> {
        let lag = Duration::from_secs_f64(self.lag[1]);
        let sent = self.timeline.iter().map(|one| one.calls).sum::<u64>() as f64;
        let due = self.asked.map_or(0.0, |rate| rate * self.timeline.len().saturating_sub(1) as f64);
        if lag > MAX_LAG || sent < due * MIN_SENT {
            return Err(Failure::local(format!(
                "these figures do not stand: the generator was {} late at p99, of at most {}",
                show(lag),
                show(MAX_LAG)
            ))
            .with_hint("lower the rate, or use a machine with more or idler cores".to_owned()));
        }
        Ok(())
    }
}

impl StreamReport {
    fn new(streams: &Streams, seconds: f64) -> Self {
        let (first, traffic) = (&streams.first, streams.traffic);
        let a_second = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
        let figures = [
            ("first-p50", first.value_at_quantile(0.5)),
            ("first-p99", first.value_at_quantile(0.99)),
            ("first-max", first.max()),
        ];
        let figures = figures.map(|(name, nanos)| (name, seconds_of(nanos)));
        Self {
            items: traffic.items,
            bytes: traffic.bytes,
            items_per_s: a_second(traffic.items),
            bytes_per_s: a_second(traffic.bytes),
            first: if first.is_empty() { Vec::new() } else { figures.to_vec() },
            max_open: streams.max_open,
            cut: streams.cut,
        }
    }

    /// Returns the lines for people.
    fn text(&self) -> String {
        let Self { items, bytes, items_per_s, bytes_per_s, first, max_open, cut } = self;
        let mut text = format!(
            "{items} items, {items_per_s:.0}/s; {bytes} bytes, {:.3} MB/s; up to {max_open} streams open at once\n",
            bytes_per_s / 1e6
        );
        if *cut > 0 {
            text.push_str(&format!(
                "{cut} streams were open at the end, which cut them off; they have no latency\n"
            ));
        }
        if !first.is_empty() {
            let first = first.iter().map(|(name, seconds)| {
                format!("{} {}", name.trim_start_matches("first-"), show(Duration::from_secs_f64(*seconds)))
            });
            text.push_str(&format!("time to the first item: {}\n", first.collect::<Vec<_>>().join(", ")));
        }
        text
    }
}

/// Returns the number of a name in an array of pairs.
fn pair(pairs: &Value, name: &str) -> Option<f64> {
    let Value::Array(pairs) = pairs else { return None };
    pairs.iter().find_map(|pair| match pair {
        Value::Array(pair) if pair.first() == Some(&Value::text(name)) => number(pair.get(1)?),
        _ => None,
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

fn seconds_of(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}
