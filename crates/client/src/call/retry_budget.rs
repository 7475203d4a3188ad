//! The number of retries that the calls of a channel may make together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_runtime::time::Instant;

/// The number of retries that a channel's calls may make together: a share of its calls, or a small
/// floor if that is more, counted over some ten seconds. Once it is spent, calls fail with the error of their last
/// attempt, so that retries do not add load to a cluster that is overloaded.
///
/// Retries of requests that were not sent, or that a goaway has refused, cost the servers nothing, and are not counted.
///
/// ```
/// use farcall_client::{Channel, RetryBudget};
///
/// // A tenth of the calls, or one a second.
/// let channel = Channel::builder().to("tcp@10.0.0.3:7001").retry_budget(RetryBudget::new(0.1, 1.0)).build()?;
/// assert!(channel.retries_left() > 9.0); // ten seconds of the floor
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct RetryBudget {
    share: f64,
    floor: f64,
}

impl RetryBudget {
    /// Creates a budget of a share of the calls, from 0 to 1, and a number of retries a second that are always
    /// allowed: what is more counts, so that in a total outage a channel with many calls makes no more than its share. Default 0.2
    /// and 10. Too low, and the calls of a server that is killed fail although another server could have answered; too high, and
    /// retries multiply the load of the remaining servers.
    ///
    /// A number that is negative, or no number, counts as 0; an infinite one is no limit.
    pub const fn new(share: f64, floor_per_second: f64) -> Self {
        Self { share: not_negative(share), floor: not_negative(floor_per_second) }
    }

    /// Creates a budget without a limit: only the attempts of each call are limited.
    pub const fn unlimited() -> Self {
        Self { share: f64::INFINITY, floor: f64::INFINITY }
    }

    const fn is_unlimited(&self) -> bool {
        self.share.is_infinite() || self.floor.is_infinite()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(0.2, 10.0)
    }
}

/// The largest finite number of a budget: the sums of larger ones would overflow.
const MAX_FINITE: f64 = 1e12;

/// Returns the number as a budget counts with it.
const fn not_negative(number: f64) -> f64 {
    // The comparisons are false for NaN.
    if number > MAX_FINITE && number < f64::INFINITY {
        MAX_FINITE
    } else if number > 0.0 {
        number
    } else {
        0.0
    }
}

/// The state of a budget. A call costs one addition; the rest is computed at each retry.
#[derive(Debug)]
// Aligned, so that the counter, which every call writes, shares no cache line with what every call reads.
#[repr(align(128))]
pub(crate) struct Budget {
    allowed: RetryBudget,
    calls: AtomicU64,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    at: Instant,
    /// All calls until then.
    counted: u64,
    /// The calls and the retries of the last [`WINDOW`], older ones with less weight.
    calls: f64,
    retries: f64,
}

/// The time for which calls count.
const WINDOW: Duration = Duration::from_secs(10);

impl Budget {
    pub(crate) fn new(allowed: RetryBudget) -> Self {
        let account = Account { at: Instant::now(), counted: 0, calls: 0.0, retries: 0.0 };
        Self { allowed, calls: AtomicU64::new(0), account: Mutex::new(account) }
    }

    /// Counts a call.
    pub(crate) fn deposit(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Withdraws one retry. Returns `false` if none is left.
    pub(crate) fn withdraw(&self) -> bool {
        if self.allowed.is_unlimited() {
            return true;
        }
        let mut account = self.account();
        let is_left = account.left(self.allowed) >= 1.0;
        if is_left {
            account.retries += 1.0;
        }
        is_left
    }

    /// Returns the number of retries that are left at this moment.
    pub(crate) fn left(&self) -> f64 {
        if self.allowed.is_unlimited() { f64::INFINITY } else { self.account().left(self.allowed) }
    }

    /// Returns the account, settled until now.
    fn account(&self) -> MutexGuard<'_, Account> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.settle(self.calls.load(Ordering::Relaxed));
        account
    }
}

impl Account {
    /// Adds the calls since the last time, as if they had been made at a constant rate.
    fn settle(&mut self, calls: u64) {
        let now = Instant::now();
        let (passed, window) = (now.duration_since(self.at).as_secs_f64(), WINDOW.as_secs_f64());
        let made = (calls - self.counted) as f64;
        // Of calls over a longer time than the window, the part within it counts.
        let recent = if passed > window { made * window / passed } else { made };
        let kept = 1.0 - passed.min(window) / window;
        self.calls = self.calls * kept + recent;
        self.retries *= kept;
        self.at = now;
        self.counted = calls;
    }

    /// Returns the number of retries that are left.
    fn left(&self, allowed: RetryBudget) -> f64 {
        let floor = allowed.floor * WINDOW.as_secs_f64();
        ((allowed.share * self.calls).max(floor) - self.retries).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &Budget) -> usize {
        std::iter::from_fn(|| budget.withdraw().then_some(())).take(1_000_000).count()
    }

    #[tokio::test(start_paused = true)]
    async fn channel_without_calls_has_the_floor() {
        let budget = Budget::new(RetryBudget::default());
        assert_eq!(spend(&budget), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend(&budget), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(spend(&budget), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn share_of_the_calls_may_be_retried() {
        let budget = Budget::new(RetryBudget::new(0.2, 0.0));
        assert_eq!(spend(&budget), 0);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 200);
        assert_eq!(spend(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_before_the_window_do_not_count() {
        let budget = Budget::new(RetryBudget::new(0.2, 0.0));
        for _ in 0..1000 {
            budget.deposit();
        }
        assert!(budget.left() > 199.0);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(spend(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_stay_within_the_share_if_all_calls_fail() {
        let budget = Budget::new(RetryBudget::new(0.2, 10.0));
        let mut retries = 0;
        for _ in 0..60_000 {
            budget.deposit();
            retries += usize::from(budget.withdraw());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // A fifth of 60,000 calls, but for what rounding costs, and what the 100 of the floor are more than that at the beginning.
        assert!((11_990..=12_100).contains(&retries), "{retries}");
    }

    #[tokio::test(start_paused = true)]
    async fn floor_is_not_added_to_the_share() {
        let budget = Budget::new(RetryBudget::new(0.2, 10.0));
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn unlimited_budget_allows_all_retries() {
        for budget in [RetryBudget::unlimited(), RetryBudget::new(0.2, f64::INFINITY)] {
            assert_eq!(spend(&Budget::new(budget)), 1_000_000);
        }
    }
}
