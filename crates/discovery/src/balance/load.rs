//! The load of an endpoint, as a client sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_protocol::LoadReport;
use farcall_runtime::time::Instant;

/// The load of an endpoint: calls in flight and their latency, as this client has seen them, without locks; and what the server has
/// reported.
#[derive(Debug)]
// A separate cache line (two, since they are fetched in pairs), so that calls to one endpoint do
// not slow those to the next.
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicUsize,
    /// The peak-sensitive moving average of latency, in nanoseconds; zero before the first.
    latency: AtomicU64,
    /// When that was last changed, in nanoseconds since `born`.
    changed: AtomicU64,
    born: Instant,
    /// Locked for each report, and when a balancer looks at it, which is not for each call.
    reported: Mutex<Reports>,
}

/// The load that is reported over one connection to an endpoint; forgotten when this is dropped.
///
/// Several processes may be behind one address: those that share a port (`SO_REUSEPORT`), or that a proxy leads to. A connection
/// leads to one of them, so each has its reports, and the endpoint's load is their mean: that of a process counts as often
/// as connections, and with them calls, go there. A process that has started again begins with its own.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use farcall_discovery::Load;
/// use farcall_protocol::LoadReport;
/// use farcall_runtime::time::Instant;
///
/// let load = Arc::new(Load::default());
/// let reported = || Some(load.report_at(Instant::now(), Duration::ZERO, Duration::MAX)?.calls_per_second);
/// let (idle, busy) = (load.reports(), load.reports());
/// idle.record(LoadReport::new(100.0, 1.0));
/// busy.record(LoadReport::new(300.0, 7.0));
/// assert_eq!(reported(), Some(200.0));
/// drop(idle);
/// assert_eq!(reported(), Some(300.0));
/// ```
#[derive(Debug)]
pub struct LoadReports {
    load: Arc<Load>,
    connection: u64,
}

#[derive(Debug, Default)]
struct Reports {
    /// Those of each connection that has reported. Bounded by the open connections.
    of_connections: Vec<Reported>,
    last_connection: u64,
}

/// The reports of a connection.
#[derive(Clone, Copy, Debug)]
struct Reported {
    connection: u64,
    /// The moving average.
    mean: LoadReport,
    /// The first one after a pause.
    first: Instant,
    last: Instant,
}

/// The part of a moving average that the last report makes, as a divisor: what few calls tell is noisy.
const SMOOTHING: f64 = 4.0;
/// Reports after a longer pause than this start afresh.
const MAX_REPORT_AGE: Duration = Duration::from_secs(180);

/// The time after which what was measured counts for 1/e.
const DECAY: Duration = Duration::from_secs(10);

impl Default for Load {
    fn default() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            latency: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            born: Instant::now(),
            reported: Mutex::default(),
        }
    }
}

impl Load {
    /// Returns the number of calls of this client in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The moving average of latency, which jumps to a peak at once and falls slowly: with time,
    /// too, so that an endpoint that was slow is tried again. Zero where nothing is known.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.latency_at(Instant::now())
    }

    /// Returns [`Load::latency`] at this moment, for callers that compare several and read the clock once.
    #[must_use]
    pub fn latency_at(&self, now: Instant) -> Duration {
        let latency = self.latency.load(Ordering::Relaxed);
        if latency == 0 {
            return Duration::ZERO;
        }
        let age = self.age_at(now).saturating_sub(self.changed.load(Ordering::Relaxed));
        Duration::from_nanos((latency as f64 * faded(age)) as u64)
    }

    /// The moving average as the last answer left it, without what time has taken from it since.
    /// Zero where nothing is known.
    #[must_use]
    pub fn peak(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Ordering::Relaxed))
    }

    /// A call goes there.
    pub fn started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended, however it did.
    pub fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call was answered after this time, or is known to take at least as long.
    pub fn record_latency(&self, latency: Duration) {
        let now = self.age_at(Instant::now());
        let seen = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let age = now.saturating_sub(self.changed.swap(now, Ordering::Relaxed));
        let last = self.latency.load(Ordering::Relaxed);
        let next = if seen > last {
            seen
        } else {
            let kept = faded(age);
            // Never zero: that is for nothing known.
            ((last as f64 * kept + seen as f64 * (1.0 - kept)) as u64).max(1)
        };
        // Of two that end at once, one may be lost: it is an average.
        self.latency.store(next, Ordering::Relaxed);
    }

    /// Returns where the load is recorded that is reported over a further connection.
    #[must_use]
    pub fn reports(self: &Arc<Self>) -> LoadReports {
        let mut reported = self.reported();
        reported.last_connection += 1;
        LoadReports { load: Arc::clone(self), connection: reported.last_connection }
    }

    /// Returns the mean of what is reported over the connections, of each the moving average: of those that have reported for at
    /// least `blackout`, and the last time within `expiry`. `None` if there are none.
    #[must_use]
    pub fn report_at(&self, now: Instant, blackout: Duration, expiry: Duration) -> Option<LoadReport> {
        let reported = self.reported();
        let counts = |reported: &&Reported| {
            let is_young = now.saturating_duration_since(reported.last) < expiry.min(MAX_REPORT_AGE);
            is_young && now.saturating_duration_since(reported.first) >= blackout
        };
        mean(reported.of_connections.iter().filter(counts).map(|reported| reported.mean))
    }

    /// Returns the time since the last report; `None` if there is none, or it is older than 3 minutes.
    #[must_use]
    pub fn report_age_at(&self, now: Instant) -> Option<Duration> {
        let last = self.reported().of_connections.iter().map(|reported| reported.last).max()?;
        let age = now.saturating_duration_since(last);
        (age < MAX_REPORT_AGE).then_some(age)
    }

    fn reported(&self) -> MutexGuard<'_, Reports> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl LoadReports {
    /// Records a report.
    pub fn record(&self, report: LoadReport) {
        let (now, connection) = (Instant::now(), self.connection);
        let begun = Reported { connection, mean: report, first: now, last: now };
        let mut reported = self.load.reported();
        let known = reported.of_connections.iter_mut().find(|reported| reported.connection == connection);
        match known {
            Some(known) if now - known.last < MAX_REPORT_AGE => {
                (known.mean, known.last) = (smoothed(known.mean, report), now);
            }
            Some(known) => *known = begun,
            None => reported.of_connections.push(begun),
        }
    }
}

impl Drop for LoadReports {
    /// Forgets the reports: those of one process say nothing about the next one.
    fn drop(&mut self) {
        self.load.reported().of_connections.retain(|reported| reported.connection != self.connection);
    }
}

/// Returns the mean of several reports; `None` of none. If any have a utilization, those alone count: calls of others with it
/// would tell of a capacity that none has.
fn mean(reports: impl Iterator<Item = LoadReport> + Clone) -> Option<LoadReport> {
    let is_measured = reports.clone().any(|report| report.utilization.is_some());
    let (mut count, mut calls, mut in_flight, mut utilization) = (0_u32, 0.0, 0.0, 0.0);
    for report in reports.filter(|report| report.utilization.is_some() == is_measured) {
        count += 1;
        calls += report.calls_per_second;
        in_flight += report.in_flight;
        utilization += report.utilization.unwrap_or_default();
    }
    let of = |sum: f64| sum / f64::from(count);
    let mean = (count > 0).then(|| LoadReport::new(of(calls), of(in_flight)))?;
    Some(if is_measured { mean.with_utilization(of(utilization)) } else { mean })
}

/// Returns the share of what was known `age` nanoseconds ago that still counts.
fn faded(age: u64) -> f64 {
    (-(age as f64) / DECAY.as_nanos() as f64).exp()
}

fn smoothed(mean: LoadReport, report: LoadReport) -> LoadReport {
    let towards = |mean: f64, value: f64| mean + (value - mean) / SMOOTHING;
    let next = LoadReport::new(
        towards(mean.calls_per_second, report.calls_per_second),
        towards(mean.in_flight, report.in_flight),
    );
    let utilization = report.utilization.map(|value| towards(mean.utilization.unwrap_or(value), value));
    utilization.map_or(next, |utilization| next.with_utilization(utilization))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn reported(load: &Load, blackout: Duration) -> Option<f64> {
        Some(load.report_at(Instant::now(), blackout, Duration::MAX)?.calls_per_second)
    }

    #[tokio::test(start_paused = true)]
    async fn latency_jumps_to_a_peak_and_falls_as_time_passes() {
        let load = Load::default();
        assert_eq!((load.latency(), load.peak()), (Duration::ZERO, Duration::ZERO));
        load.record_latency(S);
        load.record_latency(S / 1000);
        assert_eq!((load.latency(), load.peak()), (S, S), "no time has passed");
        advance(DECAY).await;
        let part = std::f64::consts::E.recip();
        let near = |latency: Duration, seconds: f64| (latency.as_secs_f64() - seconds).abs() < 1e-6;
        assert!(near(load.latency(), part), "{load:?}");
        assert_eq!(load.peak(), S);
        load.record_latency(S / 10);
        let mean = part + (1.0 - part) / 10.0;
        assert!(near(load.latency(), mean) && near(load.peak(), mean), "{load:?}");
        load.record_latency(2 * S);
        assert_eq!((load.latency(), load.peak()), (2 * S, 2 * S));
    }

    #[tokio::test(start_paused = true)]
    async fn reports_of_two_processes_behind_one_address_are_averaged() {
        let load = Arc::<Load>::default();
        let (one, other) = (load.reports(), load.reports());
        // However often each reports.
        for _ in 0..30 {
            one.record(LoadReport::new(100.0, 1.0).with_utilization(0.2));
        }
        other.record(LoadReport::new(300.0, 3.0).with_utilization(0.8));
        let mean = load.report_at(Instant::now(), Duration::ZERO, Duration::MAX).unwrap();
        assert_eq!((mean.calls_per_second, mean.in_flight, mean.utilization), (200.0, 2.0, Some(0.5)));
        // One that ends takes its reports with it, and no others.
        drop(one);
        assert_eq!(reported(&load, Duration::ZERO), Some(300.0));
        drop(other);
        assert_eq!((reported(&load, Duration::ZERO), load.report_age_at(Instant::now())), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn further_connection_delays_no_reports_of_those_that_are_there() {
        let load = Arc::<Load>::default();
        let first = load.reports();
        first.record(LoadReport::new(100.0, 1.0));
        advance(10 * S).await;
        assert_eq!(reported(&load, 10 * S), Some(100.0));
        let second = load.reports();
        second.record(LoadReport::new(300.0, 1.0));
        assert_eq!(reported(&load, 10 * S), Some(100.0), "the second one has just begun");
        assert_eq!(load.report_age_at(Instant::now()), Some(Duration::ZERO));
        advance(10 * S).await;
        assert_eq!(reported(&load, 10 * S), Some(200.0));
        advance(MAX_REPORT_AGE).await;
        assert_eq!(reported(&load, Duration::ZERO), None);
        first.record(LoadReport::new(50.0, 1.0));
        assert_eq!(reported(&load, Duration::ZERO), Some(50.0), "after a pause it begins again");
    }

    #[tokio::test(start_paused = true)]
    async fn reports_without_utilization_do_not_count_beside_those_with_one() {
        let load = Arc::<Load>::default();
        let (one, other) = (load.reports(), load.reports());
        other.record(LoadReport::new(900.0, 9.0));
        assert_eq!(reported(&load, Duration::ZERO), Some(900.0));
        one.record(LoadReport::new(100.0, 1.0).with_utilization(0.5));
        let mean = load.report_at(Instant::now(), Duration::ZERO, Duration::MAX).unwrap();
        assert_eq!((mean.calls_per_second, mean.in_flight, mean.utilization), (100.0, 1.0, Some(0.5)));
    }
}
