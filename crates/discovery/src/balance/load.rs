//! The load of an endpoint, as a client sees it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_protocol::LoadReport;
use farcall_runtime::time::Instant;

/// The load of an endpoint: calls in flight and their latency, as this client has seen them, without locks; and what the server has
/// reported.
#[derive(Debug)]
// A cache line of its own (two, since they are fetched in pairs), so that calls to one endpoint do
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
    reported: Mutex<Option<Reported>>,
}

/// The reports of a server.
#[derive(Clone, Copy, Debug)]
struct Reported {
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
            reported: Mutex::new(None),
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

    /// Records a report of the server.
    pub fn record_report(&self, report: LoadReport) {
        let now = Instant::now();
        let mut reported = self.reported();
        let going_on = reported.filter(|reported| now - reported.last < MAX_REPORT_AGE);
        *reported = Some(match going_on {
            Some(Reported { mean, first, .. }) => Reported { mean: smoothed(mean, report), first, last: now },
            None => Reported { mean: report, first: now, last: now },
        });
    }

    /// Forgets what the server has reported, as when it may have started again.
    pub fn forget_reports(&self) {
        *self.reported() = None;
    }

    /// Returns the moving average of the reported loads, if there are reports for at least `blackout`, and the last one is younger
    /// than `expiry`.
    #[must_use]
    pub fn report_at(&self, now: Instant, blackout: Duration, expiry: Duration) -> Option<LoadReport> {
        let reported = (*self.reported())?;
        let is_young = now.saturating_duration_since(reported.last) < expiry.min(MAX_REPORT_AGE);
        let lasts = now.saturating_duration_since(reported.first) >= blackout;
        (is_young && lasts).then_some(reported.mean)
    }

    /// Returns the time since the last report; `None` if there is none, or it is older than 3 minutes.
    #[must_use]
    pub fn report_age_at(&self, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since((*self.reported())?.last);
        (age < MAX_REPORT_AGE).then_some(age)
    }

    fn reported(&self) -> MutexGuard<'_, Option<Reported>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
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
