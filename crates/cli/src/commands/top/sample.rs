//! [`Sample`]: the statistics of all instances at one moment, and the rows that two of them make.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use farcall::RpcError;
use farcall::client::ReportedLoadOverview;
use farcall::protocol::describe::{MethodStats, STATS, StreamInfo};

use crate::failure::Failure;
use crate::session::Session;
use crate::value::Value;

/// The time limit of asking all instances.
const LIMIT: Duration = Duration::from_secs(2);

/// The statistics of all instances.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    /// By method and endpoint.
    stats: BTreeMap<(String, String), MethodStats>,
    /// The load that servers report, by endpoint.
    reported: HashMap<String, ReportedLoadOverview>,
    /// The endpoints that did not answer, with the error.
    failures: Vec<(String, String)>,
}

/// A method at an instance.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) method: String,
    pub(super) endpoint: String,
    /// Calls a second since the sample before; `None` if there was none.
    pub(super) rate: Option<f64>,
    /// Open streams; `None` if the method does not stream.
    pub(super) streams: Option<u64>,
    /// Items a second that the method has received since the sample before; `None` if there was none, or the method takes none.
    pub(super) items_in: Option<f64>,
    /// Items a second that the method has sent, likewise.
    pub(super) items_out: Option<f64>,
    pub(super) stats: MethodStats,
    /// The load that the instance reports of all its calls; `None` if it reports none.
    pub(super) reported: Option<ReportedLoadOverview>,
}

impl Sample {
    /// Asks all instances.
    pub(super) async fn take(session: &Session) -> Result<Self, Failure> {
        let call = session.channel.call::<Vec<MethodStats>>(STATS, &()).timeout(LIMIT);
        let outcomes = call.broadcast().each().await.map_err(|error| Failure::of_call(&error, true))?;
        let reported = session
            .channel
            .endpoints()
            .into_iter()
            .filter_map(|one| Some((one.endpoint.address.to_string(), ReportedLoadOverview::of(&one)?)));
        let mut sample = Self {
            at: Instant::now(),
            stats: BTreeMap::new(),
            reported: reported.collect(),
            failures: Vec::new(),
        };
        for outcome in outcomes {
            let endpoint = outcome.endpoint.to_string();
            match outcome.value.map_err(RpcError::from) {
                Ok(methods) => {
                    let known = methods.into_iter().filter(|method| !method.name.starts_with("farcall."));
                    sample
                        .stats
                        .extend(known.map(|method| ((method.name.clone(), endpoint.clone()), method)));
                }
                Err(error) => sample.failures.push((endpoint, error.to_string())),
            }
        }
        Ok(sample)
    }

    /// Returns the instances that did not answer, with the error.
    pub(super) fn failures(&self) -> Vec<(String, String)> {
        self.failures.clone()
    }

    /// Returns a row for each method of each instance, the busiest first.
    pub(super) fn rows(&self, before: Option<&Self>, streaming: &HashMap<String, StreamInfo>) -> Vec<Row> {
        let seconds = before.map(|before| self.at.duration_since(before.at).as_secs_f64().max(1e-3));
        let row = |(key, stats): (&(String, String), &MethodStats)| {
            let earlier = before.and_then(|before| before.stats.get(key));
            let rate = |count: fn(&MethodStats) -> u64| {
                // A server that was restarted counts from zero.
                let grown = count(stats).saturating_sub(earlier.map_or(0, count));
                seconds.map(|seconds| grown as f64 / seconds)
            };
            let (method, endpoint) = key.clone();
            let streams = streaming.get(&method);
            Row {
                rate: rate(|stats| stats.calls),
                streams: streams.map(|_| stats.in_flight),
                items_in: streams.filter(|streams| streams.takes).and(rate(|stats| stats.items_received)),
                items_out: streams.filter(|streams| streams.sends).and(rate(|stats| stats.items_sent)),
                stats: stats.clone(),
                reported: self.reported.get(&endpoint).copied(),
                method,
                endpoint,
            }
        };
        let mut rows: Vec<_> = self.stats.iter().map(row).collect();
        rows.sort_by(|a, b| b.load().total_cmp(&a.load()));
        rows
    }
}

impl Row {
    /// Returns the calls and items a second.
    fn load(&self) -> f64 {
        [self.rate, self.items_in, self.items_out].into_iter().flatten().sum()
    }

    /// Returns the row as JSON.
    pub(super) fn value(&self) -> Value {
        let MethodStats { calls, errors, in_flight, p50_us, p90_us, p99_us, max_us, .. } = self.stats;
        let rate =
            |rate: Option<f64>| rate.map_or(Value::Null, |rate| Value::from((rate * 10.0).round() / 10.0));
        let mut fields = vec![
            ("method", Value::text(&self.method)),
            ("endpoint", Value::text(&self.endpoint)),
            ("rate", rate(self.rate)),
            ("streams", self.streams.map_or(Value::Null, Value::from)),
            ("items_in_per_s", rate(self.items_in)),
            ("items_out_per_s", rate(self.items_out)),
        ];
        let numbers = [
            ("in_flight", in_flight),
            ("calls", calls),
            ("errors", errors),
            ("p50_us", p50_us),
            ("p90_us", p90_us),
            ("p99_us", p99_us),
            ("max_us", max_us),
        ];
        fields.extend(numbers.map(|(name, number)| (name, Value::from(number))));
        if let Some(reported) = &self.reported {
            fields.extend([
                ("reported_utilization", reported.utilization.map_or(Value::Null, Value::from)),
                ("reported_calls_per_s", Value::from(reported.calls_per_second)),
                ("reported_in_flight", Value::from(reported.in_flight)),
                ("reported_age_ms", Value::from(reported.age_ms)),
            ]);
        }
        Value::object(fields)
    }
}
