//! [`Judgement`]: whether calls of a method are quick enough for the task of a connection. The calls are made in
//! [`crate::call`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A poll that takes longer holds up the other calls of its connection: it takes as long as about a
/// hundred quick calls, and far longer than to give the call a task.
pub(crate) const MAX_QUICK_POLL: Duration = Duration::from_micros(100);
/// The number of calls in a row that must be quick before a method that was slow once is tried on the connection's
/// task again, and of those that must be quick there.
const MIN_QUICK_CALLS_DUE: u32 = 8;
/// The same for a method that is slow again and again.
const MAX_QUICK_CALLS_DUE: u32 = 256;
/// The same for a method whose polls are very long: as many quick calls as would have taken as long, but not more
/// than these. A method that is seldom slow, but then for half a second, would hold up all connections now and then.
const MAX_QUICK_CALLS_DUE_BY_TIME: u32 = 16_384;
/// A method with this many calls, or polls of streaming calls, since it was last found slow has been quick for long. This
/// distinguishes methods that are slow in some of their calls, one of a hundred perhaps, from others.
const QUICK_FOR_LONG: u64 = 1024;
/// The lengths of encoded arguments from which on calls are judged apart from those with shorter ones, in bytes.
const SIZES: [usize; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];

/// The size of a call's arguments, roughly. Calls of one method are judged apart by it: most methods take
/// longer for larger arguments, and a client that sends such ones makes no others slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentSize(usize);

impl ArgumentSize {
    pub(crate) const COUNT: usize = SIZES.len() + 1;

    /// Returns the size of arguments whose encoding has `len` bytes.
    #[inline]
    pub(crate) fn of(len: usize) -> Self {
        if len < SIZES[0] {
            return Self(0);
        }
        Self(SIZES.iter().filter(|size| len >= **size).count())
    }

    pub(crate) const fn index(self) -> usize {
        self.0
    }
}

/// The judgement of one method's calls with arguments of one size. It begins with a trial, so that a method of which
/// nothing is known holds up one thread and not all of them.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The quick calls that are missing until calls are polled on the connection's task; with [`ON_TRIAL`], until they
    /// are polled there on any number of threads; with [`SUSPECTED`], until they are polled there as before.
    quick_calls_due: AtomicU32,
    /// The value of `quick_calls_due` when it was last found slow, without its part by time.
    last_due: AtomicU32,
    /// The number of the method's calls, and polls of streaming calls, when it was last found slow; 0 if it never was.
    calls_when_slow: AtomicU64,
}

/// The flag of a method whose calls are quick as far as is known, which is not far.
const ON_TRIAL: u32 = 1 << 31;
/// The flag of a method that was quick until one of its polls took long, perhaps for having been preempted.
const SUSPECTED: u32 = 1 << 30;
/// The longest poll after which the next are made on the connection's task as well, to find out if they are slow. One that is
/// preempted on a busy machine takes no longer, mostly.
const MAX_SUSPECTED_POLL: Duration = Duration::from_millis(20);

/// The place of a call's first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollPlace {
    /// The connection's task.
    Connection,
    /// The same, with the time for which the poll works being found out.
    Measured,
    /// The same, while no other call is on trial.
    Trial,
    /// The offload pool.
    Offload,
}

impl Judgement {
    pub(crate) const fn new() -> Self {
        Self {
            quick_calls_due: AtomicU32::new(ON_TRIAL | MIN_QUICK_CALLS_DUE),
            last_due: AtomicU32::new(0),
            calls_when_slow: AtomicU64::new(0),
        }
    }

    /// Returns `true` if calls are polled on the connection's task. For others, see [`Judgement::place`].
    #[inline]
    pub(crate) fn is_quick(&self) -> bool {
        self.quick_calls_due.load(Relaxed) == 0
    }

    /// Returns the place of the next call's first poll.
    pub(crate) fn place(&self) -> PollPlace {
        match self.quick_calls_due.load(Relaxed) {
            0 => PollPlace::Connection,
            due if due & ON_TRIAL != 0 => PollPlace::Trial,
            due if due & SUSPECTED != 0 => PollPlace::Measured,
            _ => PollPlace::Offload,
        }
    }

    /// Returns `true` if it was not found slow lately, and is offloaded for having looked slow on the connection's task.
    /// `calls` is the number of calls and of polls of streaming calls that were judged so far.
    pub(crate) fn is_only_suspected(&self, calls: u64) -> bool {
        let calls_when_slow = self.calls_when_slow.load(Relaxed);
        let was_slow = calls_when_slow > 0 && calls.saturating_sub(calls_when_slow) < QUICK_FOR_LONG;
        !was_slow && self.place() != PollPlace::Trial
    }

    /// Records that a poll on the connection's task took too long. The next calls decide if the method is slow: the operating system may
    /// have preempted the poll, which can happen to any method on a busy machine. `calls` is the number of calls and of polls of
    /// streaming calls that were judged so far.
    #[cold]
    pub(crate) fn suspect(&self, calls: u64, took: Duration) {
        let mut due = self.last_due.load(Relaxed);
        let is_long_ago = calls.saturating_sub(self.calls_when_slow.load(Relaxed)) >= QUICK_FOR_LONG;
        if is_long_ago {
            due /= 2;
        }
        let due = due.clamp(MIN_QUICK_CALLS_DUE, MAX_QUICK_CALLS_DUE);
        self.last_due.store(due, Relaxed);
        let was_never_slow = self.calls_when_slow.load(Relaxed) == 0;
        let is_here = took <= MAX_SUSPECTED_POLL && (was_never_slow || is_long_ago);
        let due = if is_here { SUSPECTED | MIN_QUICK_CALLS_DUE } else { due };
        self.quick_calls_due.store(due, Relaxed);
    }

    /// Records that a poll has worked for too long a time. All calls are polled by the offload pool until enough of
    /// them in a row were quick: twice as many as last time, or half as many if it has been quick for long, and more
    /// after a very long poll.
    #[cold]
    pub(crate) fn found_slow(&self, calls: u64, worked: Duration) {
        // Racing polls may double once too often or too rarely, which does not matter.
        let since = calls.saturating_sub(self.calls_when_slow.swap(calls, Relaxed));
        let last_due = self.last_due.load(Relaxed);
        let due = if since < QUICK_FOR_LONG { last_due * 2 } else { last_due / 2 };
        let due = due.clamp(MIN_QUICK_CALLS_DUE, MAX_QUICK_CALLS_DUE);
        self.last_due.store(due, Relaxed);
        let by_time = worked.as_nanos() / MAX_QUICK_POLL.as_nanos();
        let by_time = u32::try_from(by_time).unwrap_or(u32::MAX).min(MAX_QUICK_CALLS_DUE_BY_TIME);
        self.quick_calls_due.store(due.max(by_time), Relaxed);
    }

    /// Records a call that has ended without a slow poll.
    pub(crate) fn was_quick(&self) {
        if !self.is_quick() {
            // Not by a load and a store, or a slow call in between would be lost.
            let _ = self.quick_calls_due.fetch_update(Relaxed, Relaxed, |due| {
                let flags = due & (ON_TRIAL | SUSPECTED);
                match due - flags {
                    0 => None,
                    1 if flags != 0 => Some(0),
                    1 => Some(ON_TRIAL | MIN_QUICK_CALLS_DUE),
                    _ => Some(due - 1),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judgement, and the number of calls that it was asked about.
    struct Judged(Judgement, u64);

    /// A poll that is slow, but for which no more quick calls are due than for any other.
    const SLOW: Duration = Duration::from_micros(200);

    /// Returns one that has been found quick.
    fn quick() -> Judged {
        let mut judged = Judged(Judgement::new(), 0);
        for _ in 0..MIN_QUICK_CALLS_DUE {
            assert_eq!(judged.0.place(), PollPlace::Trial, "nothing is known of it");
            assert!(!judged.call(None), "no other call is on trial");
        }
        assert!(judged.0.is_quick());
        judged
    }

    impl Judged {
        /// Makes one call of one poll, as connections do. Returns `true` if it got a task.
        fn call(&mut self, worked: Option<Duration>) -> bool {
            let Self(judgement, calls) = self;
            *calls += 1;
            let place = judgement.place();
            match worked {
                Some(took) if place == PollPlace::Connection => judgement.suspect(*calls, took),
                Some(worked) => judgement.found_slow(*calls, worked),
                None => judgement.was_quick(),
            }
            place == PollPlace::Offload
        }

        /// Counts the quick calls in a row that get tasks.
        fn quick_calls_in_tasks(&mut self) -> u32 {
            (0..).take_while(|_| self.call(None)).count() as u32
        }
    }

    #[test]
    fn suspected_method_is_soon_quick_again() {
        let mut method = quick();
        // However often that happens.
        for _ in 0..100 {
            assert!(!method.call(Some(SLOW)), "it was not slow before");
            for _ in 0..MIN_QUICK_CALLS_DUE {
                assert_eq!(method.0.place(), PollPlace::Measured);
                method.call(None);
            }
            assert!(method.0.is_quick());
        }
        // One that took very long is not tried here again at once.
        method.call(Some(2 * MAX_SUSPECTED_POLL));
        assert_eq!(method.quick_calls_in_tasks(), MIN_QUICK_CALLS_DUE);
    }

    #[test]
    fn method_that_is_slow_again_and_again_counts_as_slow_for_longer() {
        let mut method = quick();
        method.call(Some(SLOW));
        for due in [16, 32, 64, 128, 256, 256, 256] {
            method.call(Some(SLOW));
            assert_eq!(method.quick_calls_in_tasks(), due);
        }
    }

    #[test]
    fn method_that_is_slow_in_each_call_gets_tasks_for_all() {
        let mut method = quick();
        method.call(Some(SLOW));
        method.call(Some(SLOW));
        assert!((0..1_000).all(|_| method.call(Some(SLOW))));
        assert_eq!(method.quick_calls_in_tasks(), MAX_QUICK_CALLS_DUE);
    }

    #[test]
    fn quick_calls_do_not_outweigh_a_slow_one_that_follows() {
        let mut method = quick();
        method.call(Some(SLOW));
        method.call(Some(SLOW));
        for _ in 0..MIN_QUICK_CALLS_DUE - 1 {
            assert!(method.call(None));
        }
        assert!(method.call(Some(SLOW)));
        assert_eq!(method.quick_calls_in_tasks(), 4 * MIN_QUICK_CALLS_DUE);
    }

    #[test]
    fn very_long_poll_counts_as_many_quick_ones() {
        let mut method = quick();
        method.call(Some(SLOW));
        method.call(Some(Duration::from_millis(500)));
        assert_eq!(method.quick_calls_in_tasks(), 5_000);
        method.call(Some(SLOW));
        method.call(Some(Duration::MAX));
        assert_eq!(method.quick_calls_in_tasks(), MAX_QUICK_CALLS_DUE_BY_TIME);
    }

    #[test]
    fn method_that_has_been_quick_for_long_counts_as_slow_for_less() {
        let mut method = quick();
        for _ in 0..7 {
            method.call(Some(SLOW));
        }
        for due in [128, 64, 32, 16, 8, 8] {
            for _ in 0..=QUICK_FOR_LONG + 2 * u64::from(MAX_QUICK_CALLS_DUE) {
                method.call(None);
            }
            method.call(Some(2 * MAX_SUSPECTED_POLL));
            assert_eq!(method.0.quick_calls_due.load(Relaxed), due);
        }
    }

    #[test]
    fn method_that_only_looked_slow_is_told_from_one_that_was() {
        let mut method = Judged(Judgement::new(), 0);
        assert!(!method.0.is_only_suspected(0), "nothing is known of it");
        method = quick();
        method.call(Some(SLOW));
        assert!(method.0.is_only_suspected(method.1));
        method.call(Some(SLOW));
        assert!(!method.0.is_only_suspected(method.1));
        for _ in 0..QUICK_FOR_LONG {
            method.call(None);
        }
        assert!(method.0.is_only_suspected(method.1));
    }

    #[test]
    fn sizes_are_judged_apart() {
        let sizes = [0, 4095, 4096, 65_535, 65_536, 1 << 20, usize::MAX];
        assert_eq!(sizes.map(|len| ArgumentSize::of(len).index()), [0, 0, 1, 1, 2, 3, 3]);
    }

    /// Returns the shares of a million calls that get tasks: of all, and of the slow ones. Each is slow
    /// with the chance of one in `one_in`, by a seeded generator. One that `was_interrupted` looks slow on the
    /// connection's task alone.
    fn in_tasks(one_in: u64, was_interrupted: bool) -> (f64, f64) {
        let mut method = quick();
        let mut random: u64 = 7;
        let (mut all, mut slow_in_tasks, mut slow) = (0, 0, 0);
        for _ in 0..1_000_000 {
            // Knuth's MMIX; its upper bits are the good ones.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_slow = (random >> 33).is_multiple_of(one_in);
            let looks_slow = is_slow && (!was_interrupted || method.0.is_quick());
            let spawned = u32::from(method.call(looks_slow.then_some(Duration::from_millis(5))));
            all += spawned;
            slow += u32::from(is_slow);
            slow_in_tasks += spawned * u32::from(is_slow);
        }
        (f64::from(all) / 1e6, f64::from(slow_in_tasks) / f64::from(slow))
    }

    #[test]
    fn occasionally_slow_methods_are_distinguished_from_interrupted_ones() {
        let (_, slow) = in_tasks(100, false);
        assert!(slow > 0.9, "{slow} of the slow ones");
        // On a machine on which much else runs.
        for one_in in [5_000, 300, 10] {
            let (all, _) = in_tasks(one_in, true);
            assert!(all == 0.0, "{all} of all");
        }
    }
}
