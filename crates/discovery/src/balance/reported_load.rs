//! [`ReportedLoad`]: endpoints by the load that their servers report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use farcall_protocol::LoadReport;
use farcall_runtime::time::Instant;

use super::alias_table::AliasTable;
use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Draws two endpoints by weight and by the capacity that their servers report, and takes the one with fewer calls in flight for that.
///
/// A client that makes few calls cannot tell fast servers from slow ones; the servers can, since they see the calls of all clients. Servers
/// report their load if they are built to (`ServerBuilder::report_load`), and an endpoint's capacity is
///
/// - the calls that it answers in a second, divided by its utilization, as in gRPC's weighted round robin (proposal A58),
/// - or, if it reports no utilization, divided by its calls in flight, which is one divided by their mean latency.
///
/// Against the median of all endpoints, it counts in addition to [`Endpoint::weight`](crate::Endpoint::weight). Reports are used if they come
/// for [`ReportedLoad::blackout`], and until they are older than [`ReportedLoad::expiry`]. An endpoint without them counts as the median,
/// and if none has any this is [`LeastLoaded`](super::LeastLoaded).
///
/// A report changes the share of an endpoint at most by the factor [`ReportedLoad::MAX_FACTOR`], upwards and downwards: one that lies, or
/// is mistaken, takes the calls of all others as little as it gets none. A server that is larger than others by more has a larger weight.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_discovery::{ReportedLoad, Subset};
///
/// let balancer = ReportedLoad::default().blackout(Duration::from_secs(5));
/// let balancer = Subset::of(20).around(balancer);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReportedLoad {
    blackout: Duration,
    expiry: Duration,
}

#[derive(Debug)]
struct ReportedLoadPicker {
    settings: ReportedLoad,
    usable: Arc<[Candidate]>,
    draw: AliasTable,
    /// The factor of each usable candidate, as the bits of an `f32`.
    factors: Box<[AtomicU32]>,
    /// The largest of them.
    largest: AtomicU32,
    begin: Instant,
    /// When the factors are to be looked at next, in nanoseconds since `begin`.
    due: AtomicU64,
}

/// The interval in which reports are looked at.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// Draws by weight, of which one is taken by its factor; then the last one is.
const DRAWS: usize = 16;

impl ReportedLoad {
    /// The largest factor by which reports change the share of an endpoint.
    pub const MAX_FACTOR: f32 = 4.0;

    /// Sets the time for which the reports that come over a connection are not used, after the first of them, and
    /// after a pause of 3 minutes. Default: 10 s. Too short, and the first reports of a server that has started, whose caches are empty, count;
    /// too long, and it gets too many calls, or too few, meanwhile.
    pub const fn blackout(mut self, blackout: Duration) -> Self {
        self.blackout = blackout;
        self
    }

    /// Sets the age at which a report is not used any more. Default, and the most that counts: 3 min.
    pub const fn expiry(mut self, expiry: Duration) -> Self {
        self.expiry = expiry;
        self
    }
}

impl Default for ReportedLoad {
    fn default() -> Self {
        Self { blackout: Duration::from_secs(10), expiry: Duration::from_secs(180) }
    }
}

impl Balancer for ReportedLoad {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        let now = Instant::now();
        let picker = ReportedLoadPicker {
            settings: *self,
            draw: AliasTable::new(&usable),
            factors: usable.iter().map(|_| AtomicU32::new(1.0_f32.to_bits())).collect(),
            largest: AtomicU32::new(1.0_f32.to_bits()),
            usable,
            begin: now,
            due: AtomicU64::new(0),
        };
        picker.update(now);
        Box::new(picker)
    }

    fn describe(&self) -> String {
        "reported load".to_owned()
    }
}

impl ReportedLoadPicker {
    fn update_if_due(&self) {
        let now = Instant::now();
        let due = self.due.load(Ordering::Relaxed);
        let since_begin = nanos(now - self.begin);
        let next = since_begin.saturating_add(nanos(UPDATE_INTERVAL));
        // One call updates; others go on with what there is.
        if since_begin >= due
            && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.update(now);
        }
    }

    fn update(&self, now: Instant) {
        let ReportedLoad { blackout, expiry } = self.settings;
        let reports: Vec<Option<LoadReport>> =
            self.usable.iter().map(|candidate| candidate.load.report_at(now, blackout, expiry)).collect();
        // For a weight of one, since weights say how large servers are.
        let capacities: Vec<_> = reports
            .iter()
            .zip(&*self.usable)
            .map(|(report, candidate)| {
                report
                    .and_then(|report| report.capacity())
                    .map(|capacity| capacity / candidate.weight() as f64)
            })
            .collect();
        let speeds: Vec<_> = reports
            .iter()
            .zip(&*self.usable)
            .map(|(report, candidate)| {
                report.and_then(|report| report.speed()).map(|speed| speed / candidate.weight() as f64)
            })
            .collect();
        let (capacity, speed) = (median(&capacities), median(&speeds));
        let against = |value: Option<f64>, median: Option<f64>| Some(value? / median?);
        let mut largest = 0.0_f32;
        for ((factor, of_capacity), of_speed) in self.factors.iter().zip(capacities).zip(speeds) {
            let found = against(of_capacity, capacity).or_else(|| against(of_speed, speed)).unwrap_or(1.0);
            let found = (found as f32).clamp(1.0 / ReportedLoad::MAX_FACTOR, ReportedLoad::MAX_FACTOR);
            factor.store(found.to_bits(), Ordering::Relaxed);
            largest = largest.max(found);
        }
        self.largest.store(largest.to_bits(), Ordering::Relaxed);
    }

    fn factor(&self, index: usize) -> f32 {
        self.factors.get(index).map_or(1.0, |factor| f32::from_bits(factor.load(Ordering::Relaxed)))
    }

    /// Draws an endpoint that the call has not been to, as far as there is one.
    fn draw(&self, request: &PickRequest<'_>) -> usize {
        let largest = f32::from_bits(self.largest.load(Ordering::Relaxed));
        let mut drawn = self.draw.untried(&self.usable, request);
        for _ in 1..DRAWS {
            if fastrand::f32() * largest <= self.factor(drawn) {
                break;
            }
            drawn = self.draw.untried(&self.usable, request);
        }
        drawn
    }

    /// Returns the calls of this client in flight for the capacity of the endpoint.
    fn load(&self, index: usize) -> f64 {
        self.usable.get(index).map_or(0.0, |candidate| {
            candidate.load.in_flight() as f64 / (candidate.weight() as f64 * f64::from(self.factor(index)))
        })
    }
}

impl Picker for ReportedLoadPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        self.update_if_due();
        let first = self.draw(request);
        if self.usable.len() < 2 {
            return first;
        }
        let mut second = self.draw(request);
        if second == first {
            // Any other, as in `LeastLoaded`.
            second = (first + fastrand::usize(1..self.usable.len())) % self.usable.len();
            second = request.next_untried(&self.usable, second);
        }
        if self.load(second) < self.load(first) { second } else { first }
    }
}

/// Returns the median of those that are known; `None` if less than two are.
fn median(values: &[Option<f64>]) -> Option<f64> {
    let mut known: Vec<f64> = values.iter().copied().flatten().collect();
    known.sort_unstable_by(f64::total_cmp);
    known.get(known.len() / 2).copied().filter(|_| known.len() > 1)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::LoadReports;
    use super::super::test_support::{candidates, count};
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PICKS: usize = 10_000;

    /// Returns where each reports.
    fn connections(candidates: &Candidates) -> Vec<LoadReports> {
        candidates.usable.iter().map(|candidate| candidate.load.reports()).collect()
    }

    fn report(connections: &[LoadReports], reports: &[LoadReport]) {
        connections.iter().zip(reports).for_each(|(connection, report)| connection.record(*report));
    }

    /// Has all report for longer than the blackout. What they have reported counts as long as the result is there.
    async fn report_all(candidates: &Candidates, reports: &[LoadReport]) -> Vec<LoadReports> {
        let connections = connections(candidates);
        for _ in 0..12 {
            report(&connections, reports);
            tokio::time::advance(S).await;
        }
        connections
    }

    fn shares(picker: &dyn Picker, endpoints: usize) -> Vec<f64> {
        fastrand::seed(5);
        count(picker, PICKS, endpoints).into_iter().map(|picked| picked as f64 / PICKS as f64).collect()
    }

    fn close_to(shares: &[f64], expected: &[f64]) -> bool {
        shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.03)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_by_capacity() {
        let candidates = candidates(&[100, 100, 100]);
        let picker = ReportedLoad::default().picker(&candidates);
        // The same calls, with twice the utilization on the first.
        let (half, whole) = (LoadReport::new(100.0, 1.0), LoadReport::new(100.0, 1.0));
        let reports = [half.with_utilization(0.8), whole.with_utilization(0.4), whole.with_utilization(0.4)];
        let _connections = report_all(&candidates, &reports).await;
        let shares = shares(&*picker, 3);
        assert!(close_to(&shares, &[0.2, 0.4, 0.4]), "{shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_flight_count_without_utilization() {
        let candidates = candidates(&[100, 100, 100]);
        let picker = ReportedLoad::default().picker(&candidates);
        let slow = LoadReport::new(100.0, 8.0);
        let _connections =
            report_all(&candidates, &[slow, LoadReport::new(100.0, 4.0), LoadReport::new(50.0, 2.0)]).await;
        let shares = shares(&*picker, 3);
        assert!(close_to(&shares, &[0.2, 0.4, 0.4]), "{shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn weights_count_too() {
        let candidates = candidates(&[100, 300]);
        let picker = ReportedLoad::default().picker(&candidates);
        // Three times as large, and three times as many calls.
        let reports = [LoadReport::new(100.0, 1.0), LoadReport::new(300.0, 1.0)];
        let _connections = report_all(&candidates, &reports.map(|report| report.with_utilization(0.5))).await;
        let shares = shares(&*picker, 2);
        assert!(close_to(&shares, &[0.25, 0.75]), "{shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lying_server_takes_at_most_four_times_its_share() {
        let candidates = candidates(&[100; 10]);
        let picker = ReportedLoad::default().picker(&candidates);
        let mut reports = [LoadReport::new(100.0, 1.0).with_utilization(0.5); 10];
        reports[0] = LoadReport::new(1e9, 1e9).with_utilization(1e-9);
        reports[1] = LoadReport::new(1e-9, 1e9).with_utilization(1e9);
        let _connections = report_all(&candidates, &reports).await;
        let shares = shares(&*picker, 10);
        assert!((0.25..0.36).contains(&shares[0]), "4 of 12.25: {shares:?}");
        assert!((0.01..0.04).contains(&shares[1]), "it is not starved: {shares:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn reports_count_after_the_blackout_and_until_they_expire() {
        let candidates = candidates(&[100, 100]);
        let picker = ReportedLoad::default().picker(&candidates);
        let reports = [LoadReport::new(100.0, 3.0), LoadReport::new(100.0, 1.0)];
        let connections = connections(&candidates);
        let tell = || report(&connections, &reports);
        for second in 0..9 {
            tell();
            assert!(close_to(&shares(&*picker, 2), &[0.5, 0.5]), "after {second} s");
            tokio::time::advance(S).await;
        }
        tell();
        tokio::time::advance(2 * S).await;
        let now = shares(&*picker, 2);
        assert!(close_to(&now, &[0.25, 0.75]), "{now:?}");
        tokio::time::advance(180 * S).await;
        assert!(close_to(&shares(&*picker, 2), &[0.5, 0.5]), "they have expired");
        tell();
        tokio::time::advance(S).await;
        assert!(close_to(&shares(&*picker, 2), &[0.5, 0.5]), "there is another blackout");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_endpoints_the_one_with_more_calls_for_its_capacity_gets_less() {
        let candidates = candidates(&[100, 100]);
        let picker = ReportedLoad::default().picker(&candidates);
        let _connections =
            report_all(&candidates, &[LoadReport::new(100.0, 2.0), LoadReport::new(100.0, 1.0)]).await;
        (0..2).for_each(|_| candidates.usable[0].load.started());
        (0..3).for_each(|_| candidates.usable[1].load.started());
        assert_eq!(count(&*picker, 100, 2), [0, 100], "three of two are fewer than two of one");
    }

    #[test]
    fn without_reports_idle_endpoints_are_taken_by_weight() {
        let shares = shares(&*ReportedLoad::default().picker(&candidates(&[100, 300])), 2);
        assert!(close_to(&shares, &[0.25, 0.75]), "{shares:?}");
    }
}
