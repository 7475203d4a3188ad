//! A measure of how busy the machine is.
//!
//! Promises in real time, such as "seen within 250 ms", hold on a machine that has time for the
//! processes under test. A test of such a promise multiplies its limit by [`slowdown`]: on an idle
//! machine the limit is the promise itself, beside other programs it grows with their load.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that is used to measure: longer than the interval of the kernel's scheduler on an idle
/// machine, so that other threads get their turn.
const MEASURED: Duration = Duration::from_millis(5);

/// The largest factor of [`lengthened`]: a test that holds with less is not excused by a machine that stood still for a
/// moment.
pub const MAX_SLOWDOWN: f64 = 20.0;

/// The runs of [`kept_once`].
const ATTEMPTS: usize = 5;

/// Returns how many times longer than its CPU time work takes now: 1 on an idle machine. Takes 5 ms of
/// CPU time.
#[must_use]
pub fn slowdown() -> f64 {
    let (wall, cpu) = (Instant::now(), cpu_time());
    loop {
        let used = cpu_time() - cpu;
        if used >= MEASURED {
            return (wall.elapsed().as_secs_f64() / used.as_secs_f64()).max(1.0);
        }
        std::hint::spin_loop();
    }
}

/// Returns `limit`, lengthened on a busy machine: it is multiplied by [`slowdown`] if work takes more
/// than 1.5 times its CPU time, at most by [`MAX_SLOWDOWN`], and unchanged otherwise.
#[must_use]
pub fn lengthened(limit: Duration) -> Duration {
    let slowdown = slowdown().min(MAX_SLOWDOWN);
    if slowdown > 1.5 { limit.mul_f64(slowdown) } else { limit }
}

/// Checks a promise in real time: one of several runs of `attempt`, which returns how long it took, keeps
/// the [`lengthened`] limit. A machine that stands still for a second during one run says nothing about
/// the promise.
///
/// # Panics
///
/// No run keeps the limit; the message has what each took.
#[track_caller]
pub fn kept_once(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut taken = Vec::new();
    while taken.len() < ATTEMPTS {
        let took = attempt();
        if took < lengthened(limit) {
            return;
        }
        taken.push(took);
    }
    panic!("none of {taken:?} is within {limit:?}");
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowdown_is_at_least_one() {
        let slowdown = slowdown();
        assert!((1.0..100_000.0).contains(&slowdown), "{slowdown}");
    }

    #[test]
    fn limit_is_never_shortened() {
        assert!(lengthened(Duration::from_secs(1)) >= Duration::from_secs(1));
    }

    #[test]
    fn one_late_run_is_forgiven() {
        let mut runs = [3600, 1].into_iter();
        kept_once(Duration::from_secs(2), || Duration::from_secs(runs.next().unwrap()));
        assert_eq!(runs.len(), 0);
    }

    #[test]
    #[should_panic(expected = "[3600s, 3600s, 3600s, 3600s, 3600s] is within 2s")]
    fn promise_that_is_never_kept_is_broken() {
        kept_once(Duration::from_secs(2), || Duration::from_secs(3600));
    }
}
