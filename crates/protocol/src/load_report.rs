//! [`LoadReport`]: the load of a server, as it tells its clients in metadata.

use std::fmt;

/// The load of a server: the value of [`LOAD`](crate::metadata::LOAD) in the metadata of responses.
///
/// The idea, and the use that clients make of it, are those of the Open Request Cost Aggregation of Envoy and gRPC (proposals A51
/// and A58); the form is short, since it travels with responses.
///
/// ```
/// use farcall_protocol::LoadReport;
///
/// let report = LoadReport::new(1250.5, 17.25).with_utilization(0.42);
/// assert_eq!(report.to_string(), "util=0.420,rps=1250.5,in_flight=17.250");
/// assert_eq!(LoadReport::parse("util=0.42,rps=1250,in_flight=17,later=x"), Some(LoadReport::new(1250.0, 17.0).with_utilization(0.42)));
/// assert_eq!(LoadReport::parse("rps=NaN,in_flight=17"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadReport {
    /// The part of the server's capacity that is used: 1 if all is. `None` if the server does not know it.
    pub utilization: Option<f64>,
    /// The calls of all clients that the server answers in a second.
    pub calls_per_second: f64,
    /// The calls of all clients that are in flight, on average.
    pub in_flight: f64,
}

/// The longest value that is read, in bytes.
const MAX_BYTES: usize = 256;
/// The largest number in a report. No server does more in a second.
const MAX_VALUE: f64 = 1e9;

impl LoadReport {
    /// Creates a report of calls a second and calls in flight.
    #[must_use]
    pub const fn new(calls_per_second: f64, in_flight: f64) -> Self {
        Self { utilization: None, calls_per_second, in_flight }
    }

    /// Adds the utilization, from 0.
    #[must_use]
    pub const fn with_utilization(mut self, utilization: f64) -> Self {
        self.utilization = Some(utilization);
        self
    }

    /// Reads the value of metadata. `None` if a number is missing, negative, too large or none; keys that are not known are
    /// skipped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (mut utilization, mut calls_per_second, mut in_flight) = (None, None, None);
        for pair in text.split(',') {
            let (key, value) = pair.split_once('=')?;
            let place = match key {
                "util" => &mut utilization,
                "rps" => &mut calls_per_second,
                "in_flight" => &mut in_flight,
                _ => continue,
            };
            *place = Some(value.parse().ok().filter(|value| (0.0..=MAX_VALUE).contains(value))?);
        }
        Some(Self { utilization, calls_per_second: calls_per_second?, in_flight: in_flight? })
    }

    /// Returns the calls a second that the server would answer at full utilization; `None` if that cannot be told.
    #[must_use]
    pub fn capacity(&self) -> Option<f64> {
        ratio(self.calls_per_second, self.utilization?)
    }

    /// Returns the calls a second that the server answers for each call in flight, which is one divided by their mean latency;
    /// `None` if that cannot be told.
    #[must_use]
    pub fn speed(&self) -> Option<f64> {
        ratio(self.calls_per_second, self.in_flight)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(utilization) = self.utilization {
            write!(f, "util={utilization:.3},")?;
        }
        write!(f, "rps={:.1},in_flight={:.3}", self.calls_per_second, self.in_flight)
    }
}

fn ratio(part: f64, of: f64) -> Option<f64> {
    let ratio = part / of;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_that_make_no_sense_are_none() {
        let long = format!("rps=1,in_flight=1,x={}", "a".repeat(MAX_BYTES));
        for text in [
            "",
            "rps",
            "busy",
            "rps=1",
            "in_flight=1",
            "rps=,in_flight=1",
            "rps=-1,in_flight=1",
            "rps=1,in_flight=-0.5",
            "rps=inf,in_flight=1",
            "rps=1,in_flight=NaN",
            "util=nan,rps=1,in_flight=1",
            "util=1e99,rps=1,in_flight=1",
            "rps=1e10,in_flight=1",
            "rps=1 000,in_flight=1",
            long.as_str(),
        ] {
            assert_eq!(LoadReport::parse(text), None, "{text}");
        }
    }

    #[test]
    fn written_reports_are_read() {
        for report in [LoadReport::new(0.0, 0.0), LoadReport::new(1e9, 1e9).with_utilization(3.0)] {
            assert_eq!(LoadReport::parse(&report.to_string()), Some(report));
        }
    }

    #[test]
    fn idle_server_tells_neither_capacity_nor_speed() {
        let idle = LoadReport::new(0.0, 0.0).with_utilization(0.0);
        assert_eq!((idle.capacity(), idle.speed()), (None, None));
        let busy = LoadReport::new(100.0, 4.0).with_utilization(0.5);
        assert_eq!((busy.capacity(), busy.speed()), (Some(200.0), Some(25.0)));
        // Without calls, or without any under way, a ratio would be zero, or without end.
        let (quiet, instant) = (LoadReport::new(0.0, 4.0), LoadReport::new(100.0, 0.0));
        assert_eq!(
            (quiet.speed(), instant.speed(), busy.with_utilization(0.0).capacity()),
            (None, None, None)
        );
        assert_eq!(LoadReport::new(100.0, 4.0).capacity(), None);
    }

    #[test]
    fn report_is_read_up_to_its_longest_and_largest() {
        let longest = "rps=1,in_flight=1,x=";
        let longest = format!("{longest}{}", "a".repeat(MAX_BYTES - longest.len()));
        assert_eq!(LoadReport::parse(&longest), Some(LoadReport::new(1.0, 1.0)));
        assert_eq!(LoadReport::parse(&format!("{longest}a")), None);
        assert_eq!(LoadReport::parse("rps=1e9,in_flight=0"), Some(LoadReport::new(1e9, 0.0)));
    }

    #[test]
    fn report_is_written_with_three_digits() {
        let report = LoadReport::new(1234.56, 7.0);
        assert_eq!(report.to_string(), "rps=1234.6,in_flight=7.000");
        assert_eq!(report.with_utilization(0.5).to_string(), "util=0.500,rps=1234.6,in_flight=7.000");
    }
}
