//! [`Sample`]: the statistics of all instances at one moment, and the rows that two of them make.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use farcall::RpcError;
use farcall::protocol::describe::{MethodStats, STATS};

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
    pub(super) stats: MethodStats,
}

impl Sample {
    /// Asks all instances.
    pub(super) async fn take(session: &Session) -> Result<Self, Failure> {
        let call = session.channel.call::<Vec<MethodStats>>(STATS, &()).timeout(LIMIT);
        let outcomes = call.broadcast().each().await.map_err(|error| Failure::of_call(&error, true))?;
        let mut sample = Self { at: Instant::now(), stats: BTreeMap::new(), failures: Vec::new() };
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
    pub(super) fn rows(&self, before: Option<&Self>, streaming: &HashSet<String>) -> Vec<Row> {
        let row = |((method, endpoint), stats): (&(String, String), &MethodStats)| {
            let key = (method.clone(), endpoint.clone());
            let rate = before.map(|before| {
                let calls = before.stats.get(&key).map_or(0, |before| before.calls);
                let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
                stats.calls.saturating_sub(calls) as f64 / seconds
            });
            let streams = streaming.contains(method).then_some(stats.in_flight);
            Row { method: key.0, endpoint: key.1, rate, streams, stats: stats.clone() }
        };
        let mut rows: Vec<_> = self.stats.iter().map(row).collect();
        rows.sort_by(|a, b| b.rate.unwrap_or_default().total_cmp(&a.rate.unwrap_or_default()));
        rows
    }
}

impl Row {
    /// Returns the row as JSON.
    pub(super) fn value(&self) -> Value {
        let MethodStats { calls, errors, in_flight, p50_us, p90_us, p99_us, max_us, .. } = self.stats;
        let rate = self.rate.map_or(Value::Null, |rate| Value::from((rate * 10.0).round() / 10.0));
        let mut fields = vec![
            ("method", Value::text(&self.method)),
            ("endpoint", Value::text(&self.endpoint)),
            ("rate", rate),
            ("streams", self.streams.map_or(Value::Null, Value::from)),
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
        Value::object(fields)
    }
}
