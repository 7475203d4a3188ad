//! Changes, one after the other, and the revision of each.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::http::Connection;
use super::options::Watch;
use super::population::Population;
use super::window::Window;

/// A change that the registry has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) service: u32,
    pub(super) rev: u64,
    pub(super) due: Instant,
    pub(super) sent: Instant,
}

/// The thread that makes the changes.
pub(super) struct Changes(JoinHandle<anyhow::Result<Vec<Change>>>);

/// Registers an instance again with another version, `per_s` times a second. It is the only one that
/// changes anything, so that the answer's revision is that of the change.
pub(super) fn start(
    address: &str,
    population: &Population,
    watch: Watch,
    per_s: u32,
    window: Window,
) -> anyhow::Result<Changes> {
    let mut connection = Connection::open(address)?;
    let population = population.clone();
    Ok(Changes(thread::spawn(move || {
        let mut changes: Vec<Change> = Vec::new();
        for (n, due) in window.dues(per_s, 0, 1) {
            // The first instances are one of each service.
            let instance = match watch {
                Watch::One => 0,
                Watch::Each | Watch::All => (n % u64::from(population.services())) as u32,
            };
            let request = population.registration(instance, &format!("2.0.{n}"));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let rev = connection.call(&request).context("a change")?.rev;
            ensure!(
                changes.last().is_none_or(|last| last.rev < rev),
                "the revision {rev} is that of an earlier change"
            );
            changes.push(Change { service: population.service_of(instance), rev, due, sent });
        }
        Ok(changes)
    })))
}

impl Changes {
    pub(super) fn join(self) -> anyhow::Result<Vec<Change>> {
        self.0.join().expect("nothing panics there")
    }
}
