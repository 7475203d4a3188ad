//! [`PeakEwma`]: the one of two that is likely to answer first.

use std::sync::Arc;

use farcall_runtime::time::Instant;

use super::alias_table::AliasTable;
use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Draws two endpoints, and takes the one whose latency × (calls in flight + 1) / weight is less.
///
/// Latency is a moving average that jumps to a peak at once and forgets it slowly, as in Twitter's
/// Finagle: an endpoint that turns slow loses its calls with the first slow answer, and gets them back
/// as its answers are quick again. See [`Load::latency`](crate::Load::latency).
///
/// - **An endpoint that is not known yet** is tried by the first call that draws it while it has none
///   in flight; until that is answered it loses against every endpoint that is known. So it is tried
///   soon, and never by more than one call at a time.
/// - **An endpoint that was slow** is tried the same way: with time its peak fades, but for one call
///   at a time only, until that one has been answered.
///
/// What ought to be measured is answers of calls that succeeded: who fails at once would seem quick.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma;

#[derive(Debug)]
struct PeakEwmaPicker {
    usable: Arc<[Candidate]>,
    draw: AliasTable,
}

/// The cost of an endpoint that has calls in flight and has answered none: slower than any.
const NEVER_ANSWERED: f64 = 1e18;

impl Balancer for PeakEwma {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        Box::new(PeakEwmaPicker { draw: AliasTable::new(&usable), usable })
    }

    fn describe(&self) -> String {
        "peak EWMA of latency".to_owned()
    }
}

impl Picker for PeakEwmaPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let (first, second) = self.draw.two_untried(&self.usable, request);
        let (Some(one), Some(other)) = (self.usable.get(first), self.usable.get(second)) else {
            return first;
        };
        if first == second {
            return first;
        }
        let now = Instant::now();
        if cost(other, now) < cost(one, now) { second } else { first }
    }
}

/// Returns the expected cost, in nanoseconds for a weight of one.
fn cost(candidate: &Candidate, now: Instant) -> f64 {
    let load = &candidate.load;
    let in_flight = load.in_flight();
    let latency = match (in_flight, load.peak().as_nanos()) {
        // Free: nothing known, or what was known has faded.
        (0, _) => load.latency_at(now).as_nanos() as f64,
        (_, 0) => NEVER_ANSWERED,
        (_, peak) => peak as f64,
    };
    latency * (in_flight as f64 + 1.0) / candidate.weight() as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::test_support::{candidates, count};
    use super::*;

    fn took(candidates: &Candidates, milliseconds: &[u64]) {
        for (candidate, latency) in candidates.usable.iter().zip(milliseconds) {
            candidate.load.record_latency(Duration::from_millis(*latency));
        }
    }

    #[test]
    fn the_slower_of_two_gets_nothing() {
        let candidates = candidates(&[100, 100]);
        took(&candidates, &[50, 5]);
        assert_eq!(count(&*PeakEwma.picker(&candidates), 100, 2), [0, 100]);
    }

    #[test]
    fn quick_one_with_many_calls_in_flight_loses_to_a_slow_idle_one() {
        let candidates = candidates(&[100, 100]);
        took(&candidates, &[50, 5]);
        (0..12).for_each(|_| candidates.usable[1].load.started());
        assert_eq!(count(&*PeakEwma.picker(&candidates), 100, 2), [100, 0]);
    }

    #[test]
    fn unknown_endpoint_is_tried_by_one_call_at_a_time() {
        let candidates = candidates(&[100, 100]);
        candidates.usable[0].load.record_latency(Duration::from_secs(1));
        let picker = PeakEwma.picker(&candidates);
        assert_eq!(picker.pick(&PickRequest::default()), 1, "it is tried at once");
        candidates.usable[1].load.started();
        assert_eq!(count(&*picker, 100, 2), [100, 0], "and not again before it has answered");
        candidates.usable[1].load.record_latency(Duration::from_millis(1));
        candidates.usable[1].load.ended();
        assert_eq!(count(&*picker, 100, 2), [0, 100]);
    }

    #[test]
    fn endpoints_that_are_all_unknown_share_the_calls() {
        fastrand::seed(3);
        let candidates = candidates(&[100; 4]);
        let picker = PeakEwma.picker(&candidates);
        for _ in 0..400 {
            candidates.usable[picker.pick(&PickRequest::default())].load.started();
        }
        let shared = candidates.usable.iter().map(|candidate| candidate.load.in_flight());
        assert!(shared.clone().all(|calls| calls.abs_diff(100) < 10), "{:?}", shared.collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn endpoint_that_was_slow_is_tried_again_by_one_call_at_a_time() {
        let candidates = candidates(&[100, 100]);
        took(&candidates, &[10_000, 10]);
        let picker = PeakEwma.picker(&candidates);
        tokio::time::advance(Duration::from_secs(300)).await;
        candidates.usable[1].load.record_latency(Duration::from_millis(10));
        assert_eq!(picker.pick(&PickRequest::default()), 0, "its peak has faded");
        candidates.usable[0].load.started();
        assert_eq!(count(&*picker, 100, 2), [0, 100], "one is enough to see how it is now");
    }
}
