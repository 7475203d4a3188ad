//! How many further tries the calls of a channel may make together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many further tries a channel's calls may make together: a share of its calls, and a small
/// floor, counted over some ten seconds. Where it is spent, calls fail with what their last try
/// said, so that a cluster that is dying is not kicked by its clients.
///
/// Tries after one that never left this process cost nobody anything, and are not counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    share: f64,
    floor: f64,
}

impl RetryBudget {
    /// A share of the calls, from 0 to 1, and tries a second that are always allowed. Default 0.2
    /// and 10. Too low, and the calls of a server that is killed are lost where they could have
    /// been made elsewhere; too high, and retries multiply the load of those that are left.
    ///
    /// # Panics
    ///
    /// A number that is negative or none at all.
    #[must_use]
    pub fn new(share: f64, floor_per_second: f64) -> Self {
        assert!(share >= 0.0 && floor_per_second >= 0.0, "a retry budget is not negative");
        Self { share, floor: floor_per_second }
    }

    /// No limit but that of each call's tries.
    #[must_use]
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

/// What is left of a budget. A call costs one addition; the rest is reckoned at each retry.
#[derive(Debug)]
// What every call writes to is on no cache line with what every call of its channel reads.
#[repr(align(128))]
pub(crate) struct Budget {
    allowed: RetryBudget,
    calls: AtomicU64,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    at: Instant,
    calls: u64,
    /// Tries that are left, of the share and of the floor; they fade away over [`WINDOW`].
    balance: f64,
}

/// For so long calls that were made count for something.
const WINDOW: Duration = Duration::from_secs(10);

impl Budget {
    pub(crate) fn new(allowed: RetryBudget) -> Self {
        let account = Account { at: Instant::now(), calls: 0, balance: allowed.floor * WINDOW.as_secs_f64() };
        Self { allowed, calls: AtomicU64::new(0), account: Mutex::new(account) }
    }

    /// A call is made.
    pub(crate) fn deposit(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Takes one further try out of the budget, if there is one left.
    pub(crate) fn withdraw(&self) -> bool {
        if self.allowed.is_unlimited() {
            return true;
        }
        let mut account = self.account();
        let left = account.balance >= 1.0;
        if left {
            account.balance -= 1.0;
        }
        left
    }

    /// Further tries that are left at this moment.
    pub(crate) fn left(&self) -> f64 {
        if self.allowed.is_unlimited() { f64::INFINITY } else { self.account().balance }
    }

    /// The account as it stands now.
    fn account(&self) -> MutexGuard<'_, Account> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.settle(self.allowed, self.calls.load(Ordering::Relaxed));
        account
    }
}

impl Account {
    /// Adds what came in since the last time, as if it had come evenly.
    fn settle(&mut self, allowed: RetryBudget, calls: u64) {
        let now = Instant::now();
        let (passed, window) = (now.duration_since(self.at).as_secs_f64(), WINDOW.as_secs_f64());
        let counted = passed.min(window);
        let made = (calls - self.calls) as f64;
        // What came in over longer than the window counts as far as it lies within.
        let recent = if passed > window { made * window / passed } else { made };
        let kept = self.balance * (1.0 - counted / window);
        self.balance = kept + allowed.share * recent + allowed.floor * counted;
        self.at = now;
        self.calls = calls;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &Budget) -> usize {
        std::iter::from_fn(|| budget.withdraw().then_some(())).take(1_000_000).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_that_has_made_no_calls_has_the_floor() {
        let budget = Budget::new(RetryBudget::default());
        assert_eq!(spend(&budget), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend(&budget), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(spend(&budget), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_calls_may_be_made_again() {
        let budget = Budget::new(RetryBudget::new(0.2, 0.0));
        assert_eq!(spend(&budget), 0);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(spend(&budget), 200);
        assert_eq!(spend(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_long_ago_earn_nothing() {
        let budget = Budget::new(RetryBudget::new(0.2, 0.0));
        for _ in 0..1000 {
            budget.deposit();
        }
        assert!(budget.left() > 199.0);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(spend(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_of_calls_that_all_fail_stay_a_fifth() {
        let budget = Budget::new(RetryBudget::new(0.2, 10.0));
        let mut retries = 0;
        for _ in 0..60_000 {
            budget.deposit();
            retries += usize::from(budget.withdraw());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // 60 s: a fifth of 60,000 calls, 10 a second, and the 100 that it begins with.
        assert!((12_000..=12_800).contains(&retries), "{retries}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_there_is_none() {
        for budget in [RetryBudget::unlimited(), RetryBudget::new(0.2, f64::INFINITY)] {
            assert_eq!(spend(&Budget::new(budget)), 1_000_000);
        }
    }
}
