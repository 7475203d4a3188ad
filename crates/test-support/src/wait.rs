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

/// Waits for `future` while paused time stands still.
///
/// Paused time runs on to the next timer whenever the test's runtime is idle, also while a thread that
/// it does not know of works for `future`, as the server's do that decode large calls. `future` itself
/// must not wait for time to pass.
pub async fn hold_clock<F: Future>(future: F) -> F::Output {
    // A runtime does not let paused time run on while its own blocking threads work.
    let (held, released) = std::sync::mpsc::channel::<()>();
    drop(tokio::task::spawn_blocking(move || released.recv()));
    let output = future.await;
    drop(held);
    output
}

/// Waits for `future` while the time of a test over real sockets, whose time is not paused, stands still:
/// no limit and no pause between two attempts passes meanwhile. `future` itself must not wait for time to
/// pass.
pub async fn stop_clock<F: Future>(future: F) -> F::Output {
    pause();
    let output = hold_clock(future).await;
    resume();
    output
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
    async fn paused_time_stands_while_an_unknown_thread_works() {
        let begin = Instant::now();
        let timer = tokio::spawn(sleep(Duration::from_secs(3600)));
        let (done, answer) = tokio::sync::oneshot::channel();
        // Long enough for paused time to run on if it can.
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            done.send(())
        });
        hold_clock(answer).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(thread.join().unwrap().is_ok());
        timer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 60s: pigs fly")]
    async fn false_condition_panics_with_its_description() {
        until("pigs fly", || false).await;
    }
}
