//! [`Sim`]: runs a scenario in virtual time, from a seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use farcall_registry::wire::Timestamp;
use fastrand::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

use crate::cluster::Cluster;
use crate::network::Network;
use crate::trace::Trace;

/// The default of [`Sim::limit`].
const DEFAULT_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The lines of the trace that a failure prints.
const LINES_PRINTED: usize = 60;

/// A simulation that is not run yet.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_sim::Sim;
/// use farcall::Server;
///
/// let answer = Sim::seed(7).run(async |cluster| {
///     let describe = |_: &_| Server::builder().method("Arith.double", async |n: i64| 2 * n);
///     let server = cluster.server("server", describe).unwrap();
///     let channel = cluster.node("client").channel_builder().to(server.node().address()).build().unwrap();
///     tokio::time::sleep(Duration::from_secs(600)).await; // virtual time: returns at once
///     channel.call::<i64>("Arith.double", &21).await.unwrap()
/// });
/// assert_eq!(answer, 42);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a simulation does nothing until it is run"]
pub struct Sim {
    seed: u64,
    limit: Duration,
}

impl Sim {
    /// Creates a simulation from a seed: the same seed gives the same run, byte for byte.
    pub const fn seed(seed: u64) -> Self {
        Self { seed, limit: DEFAULT_LIMIT }
    }

    /// Sets the virtual time by which the scenario must have ended. Default 1 h. A scenario that waits for something
    /// that never comes ends with a panic then, at once.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a scenario, and returns its result.
    ///
    /// # Panics
    ///
    /// The scenario panicked, or did not end in time: then the end of its trace is printed, and the seed. Or this thread is
    /// inside of a runtime.
    pub fn run<T>(self, scenario: impl AsyncFnOnce(Cluster) -> T) -> T {
        self.trace(scenario).0
    }

    /// As [`Sim::run`]; returns the trace as well: a line for each event of the network and each note of the scenario, with
    /// the virtual time in seconds, and at the end a hash of everything that was written to the network.
    ///
    /// # Panics
    ///
    /// As for [`Sim::run`].
    pub fn trace<T>(self, scenario: impl AsyncFnOnce(Cluster) -> T) -> (T, String) {
        let Self { seed, limit } = self;
        // What the thread draws after the simulation is as random as before.
        let thread_seed = fastrand::get_seed();
        fastrand::seed(seed);
        let runtime = runtime();
        let trace = runtime.block_on(async { Trace::new() });
        let mut random = Rng::with_seed(seed);
        let network = Arc::new(Network::new(random.fork(), trace.clone()));
        let workers = network.workers().clone();
        let cluster = Cluster::new(seed, network, random.fork());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut scenario = Box::pin(async {
                WALL_CLOCK.set(Some(Instant::now()));
                Timestamp::set_clock(wall_clock);
                timeout(limit, scenario(cluster)).await
            });
            loop {
                let ended = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = workers.added() => None,
                        ended = &mut scenario => Some(ended),
                    }
                });
                match ended {
                    Some(ended) => return ended,
                    None => workers.run(),
                }
            }
        }));
        // Tasks that are left end here, not in a later simulation of this thread.
        drop(runtime);
        Timestamp::set_clock(SystemTime::now);
        fastrand::seed(thread_seed);
        let failure = match outcome {
            Ok(Ok(value)) => return (value, trace.text()),
            Ok(Err(_)) => None,
            Err(panic) => Some(panic),
        };
        let text = trace.text();
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES_PRINTED)..];
        eprintln!("the end of the trace of seed {seed}:\n{}", last.join("\n"));
        eprintln!("seed {seed} failed; set FARCALL_SIM_SEED={seed} to run it alone");
        match failure {
            Some(panic) => resume_unwind(panic),
            None => panic!("seed {seed}: the scenario did not end within {limit:?} of virtual time"),
        }
    }
}

/// Runs a scenario with many seeds, one after the other: 0, 1, 2 and so on.
///
/// The environment has a say: with `FARCALL_SIM_SEEDS=100000` there are as many, and with `FARCALL_SIM_SEED=17` there is
/// that one alone, as to repeat a failure.
///
/// # Panics
///
/// The scenario panics with one of them, which is printed; or a variable is no number.
pub fn for_each_seed(seeds: u64, scenario: impl AsyncFn(Cluster)) {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
    };
    let seeds = match number("FARCALL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FARCALL_SIM_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        Sim::seed(seed).run(&scenario);
    }
}

/// Creates a runtime in virtual time, without sockets. Files, as of a registry's snapshot, are on another thread.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime without I/O can be made")
}

thread_local! {
    /// The moment that is the begin of the simulation on this thread.
    static WALL_CLOCK: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// The wall clock at the begin of each simulation: 2030-01-01, in seconds since 1970.
const BEGIN: Duration = Duration::from_secs(1_893_456_000);

/// Returns the time that the wall clock of the simulation shows.
fn wall_clock() -> SystemTime {
    let passed = WALL_CLOCK.get().map_or(Duration::ZERO, |begin| begin.elapsed());
    SystemTime::UNIX_EPOCH + BEGIN + passed
}
