//! Happy Eyeballs ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305), section 5): several
//! addresses of one name are tried in a staggered race, so that a dead one costs a moment and
//! not a timeout.
//!
//! It knows neither sockets nor names: how to connect is an argument, and so is the order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use farcall_runtime::time::sleep;
use futures::stream::{FuturesUnordered, StreamExt};

/// Tries the addresses in order and returns what the first success gave; the other attempts
/// are dropped.
///
/// The next attempt starts when `attempt_delay` has passed since the last one started, or at
/// once when one fails. `None` means that all have failed, or that there was none.
///
/// What failed is pushed to `failures` as it happens, so that it is known also to a caller
/// that drops this future.
pub(crate) async fn race<T, Attempt>(
    addresses: Vec<SocketAddr>,
    attempt_delay: Duration,
    connect: impl Fn(SocketAddr) -> Attempt,
    failures: &mut Vec<(SocketAddr, io::Error)>,
) -> Option<T>
where
    Attempt: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    // Holds at most as many attempts as there are addresses, which the resolver's side bounds.
    let mut under_way = FuturesUnordered::new();
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            under_way.push(async move { (address, attempt.await) });
        } else if under_way.is_empty() {
            return None;
        }
        let another_waits = waiting.len() > 0;
        tokio::select! {
            // An attempt that is done counts, even if its successor is due in the same moment.
            biased;
            // Cancel-safe: an attempt that is not done stays in the set.
            Some((address, outcome)) = under_way.next() => match outcome {
                Ok(connected) => return Some(connected),
                Err(error) => failures.push((address, error)),
            },
            // Cancel-safe: each turn of the loop starts an attempt and so a new delay.
            () = sleep(attempt_delay), if another_waits => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    /// The outcome of the attempt at the address with a port: after a number of milliseconds it
    /// succeeds or fails.
    type Script = &'static [(u64, bool)];

    struct Outcome {
        winner: Option<u16>,
        took_ms: u128,
        failed: Vec<u16>,
        /// When each attempt started, in milliseconds.
        started: Vec<(u16, u128)>,
        /// Attempts that were neither won nor lost when the race was over.
        dropped: usize,
    }

    /// Counts the attempts that are alive.
    struct Alive(Rc<Cell<usize>>);

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    async fn run(script: Script) -> Outcome {
        let begin = Instant::now();
        let started = RefCell::new(Vec::new());
        let alive = Rc::new(Cell::new(0));
        let connect = |address: SocketAddr| {
            let port = address.port();
            started.borrow_mut().push((port, begin.elapsed().as_millis()));
            alive.set(alive.get() + 1);
            let guard = Alive(alive.clone());
            async move {
                let _guard = guard;
                let (after, succeeds) = script[usize::from(port)];
                sleep(Duration::from_millis(after)).await;
                if succeeds { Ok(port) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        };
        let addresses = (0..script.len()).map(|port| ([127, 0, 0, 1], port as u16).into()).collect();
        let mut failures = Vec::new();
        let winner = race(addresses, DELAY, connect, &mut failures).await;
        assert_eq!(alive.get(), 0, "an attempt outlived the race");

        let started = started.into_inner();
        Outcome {
            winner,
            took_ms: begin.elapsed().as_millis(),
            failed: failures.iter().map(|(address, _)| address.port()).collect(),
            dropped: started.len() - failures.len() - usize::from(winner.is_some()),
            started,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quick_answer_leaves_the_others_untried() {
        let outcome = run(&[(249, true), (0, true)]).await;
        assert_eq!(outcome.winner, Some(0));
        assert_eq!(outcome.started, [(0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_address_costs_one_attempt_delay() {
        let outcome = run(&[(60_000, true), (10, true), (0, true)]).await;
        assert_eq!((outcome.winner, outcome.took_ms), (Some(1), 260));
        assert_eq!(outcome.started, [(0, 0), (1, 250)]);
        assert_eq!(outcome.dropped, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_address_can_still_win() {
        let outcome = run(&[(300, true), (100, true)]).await;
        assert_eq!((outcome.winner, outcome.took_ms), (Some(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn failure_starts_the_next_attempt_at_once() {
        let outcome = run(&[(10, false), (20, false), (5, true)]).await;
        assert_eq!((outcome.winner, outcome.took_ms), (Some(2), 35));
        assert_eq!(outcome.started, [(0, 0), (1, 10), (2, 30)]);
        assert_eq!(outcome.failed, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_attempt_delay_counts_from_the_last_start() {
        let outcome = run(&[(100, false), (60_000, true), (0, true)]).await;
        assert_eq!(outcome.started, [(0, 0), (1, 100), (2, 350)]);
        assert_eq!(outcome.winner, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn every_failure_is_reported_when_all_fail() {
        let outcome = run(&[(300, false), (10, false), (70, false)]).await;
        assert_eq!(outcome.winner, None);
        assert_eq!(outcome.failed, [1, 0, 2]);
        assert_eq!(outcome.took_ms, 330);
    }

    #[tokio::test(start_paused = true)]
    async fn race_without_addresses_reaches_none() {
        let outcome = run(&[]).await;
        assert_eq!((outcome.winner, outcome.took_ms), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_known_to_one_who_stops_waiting() {
        let mut failures = Vec::new();
        let connect = |address: SocketAddr| async move {
            if address.port() == 1 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            std::future::pending::<io::Result<()>>().await
        };
        let addresses = vec![([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let limit = Duration::from_secs(1);
        let race = race(addresses, DELAY, connect, &mut failures);
        assert!(tokio::time::timeout(limit, race).await.is_err());
        assert_eq!(failures.len(), 1);
    }
}
