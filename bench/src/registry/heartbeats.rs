//! Heartbeats in an open loop: sent when they are due, and counted from then.
//!
//! Threads that block, not tasks: a timer of tokio is late by up to a millisecond, which is what
//! most heartbeats take.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::figures::Spread;
use super::http::Connection;
use super::population::Population;
use super::window::Window;

/// A registry this far behind can't take the load at all.
const HOPELESS: Duration = Duration::from_secs(30);

/// The threads that send the heartbeats.
pub(super) struct Heartbeats(Vec<JoinHandle<anyhow::Result<Spread>>>);

pub(super) fn start(
    address: &str,
    population: &Population,
    per_s: u32,
    connections: u32,
    window: Window,
) -> anyhow::Result<Heartbeats> {
    let mut threads = Vec::new();
    for lane in 0..connections {
        let mut connection = Connection::open(address)?;
        let dues = window.dues(per_s, lane, connections);
        let population = population.clone();
        threads.push(thread::spawn(move || {
            let mut spread = Spread::default();
            for (n, due) in dues {
                let request = population.heartbeat((n % u64::from(population.instances())) as u32);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                connection.call(&request).context("a heartbeat")?;
                let delay = due.elapsed();
                ensure!(delay < HOPELESS, "heartbeats are {delay:?} late");
                if window.is_measured(due) {
                    spread.record(delay);
                }
            }
            Ok(spread)
        }));
    }
    Ok(Heartbeats(threads))
}

impl Heartbeats {
    /// Waits for all answers, and returns the latencies.
    pub(super) fn join(self) -> anyhow::Result<Spread> {
        let mut all = Spread::default();
        for thread in self.0 {
            all.add(&thread.join().expect("nothing panics there")?);
        }
        Ok(all)
    }
}
