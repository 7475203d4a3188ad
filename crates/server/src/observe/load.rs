//! [`LoadReporting`]: the load that a server tells its clients. [`LoadReporter`] measures it, and attaches it to responses.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall_protocol::limits::MAX_METADATA_PAIRS;
use farcall_protocol::metadata::LOAD;
use farcall_protocol::{LoadReport, Metadata};
use tokio::time::Instant;

use crate::call::in_flight::InFlightCalls;
use crate::overload::admission::Overload;
use crate::service::handler::Response;

/// The load that a server reports to its clients, and how often, for [`ServerBuilder::report_load`](crate::ServerBuilder::report_load).
///
/// ```
/// use std::time::Duration;
///
/// use farcall_server::{LoadReporting, Server};
///
/// # let busy_workers = || 3.0;
/// let server = Server::builder()
///     .method("Arith.double", async |(n,): (i64,)| 2 * n)
///     .report_load(LoadReporting::default().utilization(move || busy_workers() / 8.0))
///     .build()?;
/// # let _ = server;
/// # Ok::<(), farcall_server::BuildError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct LoadReporting {
    interval: Duration,
    utilization: Option<Arc<dyn Fn() -> f64 + Send + Sync>>,
}

/// Measures the load of a server, and attaches it to responses.
pub(crate) struct LoadReporter {
    settings: LoadReporting,
    begin: Instant,
    /// When the next report is due, in nanoseconds since `begin`.
    due: AtomicU64,
    /// The calls that were answered since the last report.
    answered: AtomicU64,
    /// The sum of the calls in flight at each of these answers.
    in_flight: AtomicU64,
    /// The number of the last report; 0 before the first.
    number: AtomicU64,
    last: Mutex<LastReport>,
}

#[derive(Debug)]
struct LastReport {
    at: Instant,
    text: String,
}

/// More reports would tell the same, and cost more than they tell.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl LoadReporting {
    /// Sets the interval in which a connection is told the load, with the next response. Default: 500 ms, at least 10 ms. Too short,
    /// and reports are of few calls each, and cost bytes; too long, and clients notice late that the server is busy.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets what tells the part of the capacity that is used, 1 if all is: of the processor, of a pool of workers or connections. It
    /// is asked once in an interval, should be an average over it, and must not block. Without it, clients have the calls in flight, among
    /// which those are not that end at once. Default: with [`Limits::adaptive`](crate::Limits::adaptive) the part of the
    /// places that are taken, otherwise nothing.
    ///
    /// All servers of a service should measure the same: clients compare them.
    pub fn utilization(mut self, measure: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.utilization = Some(Arc::new(measure));
        self
    }
}

impl Default for LoadReporting {
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), utilization: None }
    }
}

impl fmt::Debug for LoadReporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadReporting").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl LoadReporter {
    pub(crate) fn new(settings: LoadReporting) -> Self {
        let interval = settings.interval.max(MIN_INTERVAL);
        let (begin, settings) = (Instant::now(), LoadReporting { interval, ..settings });
        Self {
            due: AtomicU64::new(nanos(interval)),
            settings,
            begin,
            answered: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            number: AtomicU64::new(0),
            last: Mutex::new(LastReport { at: begin, text: String::new() }),
        }
    }

    /// Counts a response, and attaches the last report if its connection was not told that. `in_flight` are the calls in flight.
    pub(crate) fn attach(
        &self,
        response: &mut Response,
        calls: &InFlightCalls,
        in_flight: usize,
        overload: Option<&Overload>,
    ) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(in_flight as u64, Ordering::Relaxed);
        self.measure_if_due(overload);
        let number = self.number.load(Ordering::Acquire);
        if !calls.is_new_load_report(number) {
            return;
        }
        let text = self.last.lock().unwrap_or_else(PoisonError::into_inner).text.clone();
        let metadata = response.metadata.get_or_insert_with(|| Box::new(Metadata::new()));
        if metadata.len() >= MAX_METADATA_PAIRS {
            return;
        }
        let inserted = metadata.insert(LOAD, text);
        debug_assert!(inserted.is_ok(), "the key is valid");
    }

    fn measure_if_due(&self, overload: Option<&Overload>) {
        let now = Instant::now();
        let since_begin = nanos(now - self.begin);
        let due = self.due.load(Ordering::Relaxed);
        let next = since_begin.saturating_add(nanos(self.settings.interval));
        // One of the connections that see that it is due makes the report.
        if since_begin < due
            || self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let answered = self.answered.swap(0, Ordering::Relaxed) as f64;
        let in_flight = self.in_flight.swap(0, Ordering::Relaxed) as f64;
        let utilization = self.utilization(overload);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let took = now - last.at;
        if took > 2 * self.settings.interval {
            // Without calls for most of it: their rate would be that of an idle time, and the utilization that of now.
            last.at = now;
            return;
        }
        let took = took.max(MIN_INTERVAL).as_secs_f64();
        let report = LoadReport::new(answered / took, in_flight / answered.max(1.0));
        let report = utilization.map_or(report, |utilization| report.with_utilization(utilization));
        *last = LastReport { at: now, text: report.to_string() };
        drop(last);
        self.number.fetch_add(1, Ordering::Release);
    }

    fn utilization(&self, overload: Option<&Overload>) -> Option<f64> {
        let measured = match (&self.settings.utilization, overload) {
            // A panic of the application's must not end the connection whose response this is.
            (Some(measure), _) => catch_unwind(AssertUnwindSafe(|| measure())).ok()?,
            (None, Some(overload)) => {
                let overview = overload.overview();
                overview.running as f64 / overview.limit.max(1) as f64
            }
            (None, None) => return None,
        };
        (measured.is_finite() && measured >= 0.0).then_some(measured)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
