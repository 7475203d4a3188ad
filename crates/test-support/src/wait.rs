//! Waiting for a condition with a generous limit, and control over paused time.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, advance, pause, resume, sleep, timeout};

/// The longest wait for something that must happen: longer than it takes on a busy machine, and in
/// paused time longer than any limit of the protocol. Only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(2);

/// Waits until `condition` holds.
///
/// # Panics
///
/// It does not hold within [`PATIENCE`]; the message names `what`, and the place of the call.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until_async(what, async move || condition())
}

/// Waits until `condition`, which asks somewhere, holds.
///
/// # Panics
///
/// It does not hold within [`PATIENCE`]; the message names `what`, and the place of the call.
#[track_caller]
pub fn until_async(what: &str, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    let what = what.to_owned();
    async move {
        let end = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < end, "{caller}: not within {PATIENCE:?}: {what}");
            sleep(INTERVAL).await;
        }
    }
}

/// Waits for `future`.
///
/// # Panics
///
/// It is not ready within [`PATIENCE`]; the message names `what`, and the place of the call.
#[track_caller]
pub fn within_patience<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    let what = what.to_owned();
    async move {
        let waited = timeout(PATIENCE, future).await;
        waited.unwrap_or_else(|_| panic!("{caller}: not within {PATIENCE:?}: {what}"))
    }
}

/// Lets all ready tasks of a current-thread runtime run, without time passing.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Lets `time` pass in a test over real sockets, whose time is not paused: paused time would advance
/// while the kernel works.
pub async fn pass(time: Duration) {
    settle().await;
    pause();
    advance(time).await;
    resume();
    settle().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn condition_is_awaited() {
        let begin = Instant::now();
        until("a second passes", || begin.elapsed() >= Duration::from_secs(1)).await;
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 60s: pigs fly")]
    async fn false_condition_panics_with_its_description() {
        until("pigs fly", || false).await;
    }
}
