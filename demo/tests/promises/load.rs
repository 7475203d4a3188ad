//! A continuous load: each answer is checked, each failure is reported.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use demo::services::WhoAmI;
use farcall::{Call, Channel};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::processes::until;

/// Callers at once.
const CALLERS: u64 = 16;
/// Between two calls of a caller: what is tested is not how much two cores can do.
const PAUSE: Duration = Duration::from_millis(2);
/// The duration of one call in three, in milliseconds.
const NAP_MS: i64 = 10;
/// The number of failures that are shown.
const SHOWN: usize = 5;

/// The kind of calls: those that are not idempotent fail if their server is killed, and only then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    Idempotent,
    Once,
}

/// Callers at work.
pub(crate) struct Load {
    tally: Arc<Tally>,
    callers: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// The number of answers by process id.
    by_pid: Mutex<HashMap<u32, u64>>,
}

impl Load {
    pub(crate) fn start(channel: &Channel, calls: Calls) -> Self {
        let tally = Arc::<Tally>::default();
        let mut callers = JoinSet::new();
        let begun = Instant::now();
        for caller in 0..CALLERS {
            let (channel, tally) = (channel.clone(), Arc::clone(&tally));
            callers.spawn(async move {
                let mut number = caller;
                while !tally.stop.load(Ordering::Relaxed) {
                    match call(&channel, calls, number as i64, &tally).await {
                        Ok(()) => drop(tally.answered.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => tally.tell(format!("after {:?}: {why}", begun.elapsed())),
                    }
                    number += CALLERS;
                    sleep(PAUSE).await;
                }
            });
        }
        Self { tally, callers }
    }

    /// Returns the number of calls with a correct answer.
    pub(crate) fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Returns the number of calls that this process answered.
    pub(crate) fn answered_by(&self, pid: u32) -> u64 {
        self.tally.by_pid.lock().unwrap().get(&pid).copied().unwrap_or_default()
    }

    /// Waits until this many further calls have been answered that were started after this.
    pub(crate) async fn go_on(&self, calls: u64) {
        self.assert_no_failures();
        // Each caller may have one call in flight.
        let enough = self.answered() + CALLERS + calls;
        until("calls are answered", async || {
            self.assert_no_failures();
            self.answered() >= enough
        })
        .await;
    }

    /// Asserts that no call has failed.
    pub(crate) fn assert_no_failures(&self) {
        let failed = self.tally.failed.load(Ordering::Relaxed);
        let answered = self.answered();
        assert!(
            failed == 0,
            "{failed} failed, {answered} did not: {:#?}",
            self.tally.failures.lock().unwrap()
        );
    }

    /// Ends the load and asserts that no call failed; returns their number.
    pub(crate) async fn end(mut self) -> u64 {
        self.tally.stop.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.assert_no_failures();
        self.answered()
    }
}

impl Tally {
    fn tell(&self, failure: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < SHOWN {
            failures.push(failure);
        }
    }
}

/// One call of several kinds, in turn; an error is a sentence.
async fn call(channel: &Channel, calls: Calls, number: i64, tally: &Tally) -> Result<(), String> {
    let (expected, answer): (i64, i64) = match number % 3 {
        0 => (number * -7, by_name(channel, calls, "Arith.multiply", &(number, -7)).await?),
        // Slow enough to be in flight when its server is disturbed.
        1 => (NAP_MS, by_name(channel, calls, "Echo.sleep", &(NAP_MS,)).await?),
        _ => {
            let who: WhoAmI = by_name(channel, calls, "Echo.whoami", &()).await?;
            *tally.by_pid.lock().unwrap().entry(who.pid).or_default() += 1;
            return Ok(());
        }
    };
    if answer == expected { Ok(()) } else { Err(format!("the answer is {answer} and not {expected}")) }
}

/// Nothing is known of a method that is called by its name, so that it is not made twice unless that
/// is said.
async fn by_name<T: DeserializeOwned + Send + 'static>(
    channel: &Channel,
    calls: Calls,
    method: &'static str,
    arguments: &(impl Serialize + Sync),
) -> Result<T, String> {
    let call: Call<T> = channel.call(method, arguments);
    let outcome = if calls == Calls::Idempotent { call.idempotent().await } else { call.await };
    outcome.map_err(|error| error.to_string())
}
