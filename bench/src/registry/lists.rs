//! Lists of all instances in one service, asked for one after the other over several connections:
//! once as they are, and once while they change.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::changes;
use super::figures::{ListFigures, Spread};
use super::http::Connection;
use super::options::{LoadOptions, Watch};
use super::population::{Population, register};
use super::serve::RegistryProcess;
use super::window::Window;
use crate::process::peak_kb;

const SIMPLE: &str = "/registry";
const FULL: &str = "/v1/services/~/instances";

pub(super) fn measure(options: &LoadOptions) -> anyhow::Result<Vec<ListFigures>> {
    let registry = RegistryProcess::start()?;
    let population = Population::plain(registry.address(), options.instances);
    register(registry.address(), &population)?;
    let mut all = Vec::new();
    for changes_per_s in [0, options.changes] {
        for (path, if_changed) in [(SIMPLE, false), (SIMPLE, true), (FULL, false), (FULL, true)] {
            let what = format!("GET {path}{}", if if_changed { ", If-None-Match" } else { "" });
            let asking = Asking { registry: &registry, population: &population, path, if_changed };
            let mut figures = asking.measure(options, changes_per_s).with_context(|| what.clone())?;
            figures.what = what;
            all.push(figures);
        }
    }
    Ok(all)
}

struct Asking<'a> {
    registry: &'a RegistryProcess,
    population: &'a Population,
    path: &'static str,
    /// `true` if the ETag of the last answer is sent.
    if_changed: bool,
}

impl Asking<'_> {
    fn measure(&self, options: &LoadOptions, changes_per_s: u32) -> anyhow::Result<ListFigures> {
        // There are eight of these where there is one of the others.
        let time = Duration::from_secs(options.seconds).div_f64(4.0);
        let window = Window::of(time);
        let address = self.registry.address();
        let changes = match changes_per_s {
            0 => None,
            per_s => Some(changes::start(address, self.population, Watch::One, per_s, window)?),
        };
        let asked: anyhow::Result<Vec<_>> = thread::scope(|scope| {
            let asking: Vec<_> = (0..options.connections).map(|_| scope.spawn(|| self.ask(window))).collect();
            asking.into_iter().map(|thread| thread.join().expect("nothing panics there")).collect()
        });
        let (mut spread, mut len) = (Spread::default(), 0);
        for (one, one_len) in asked? {
            spread.add(&one);
            len = len.max(one_len);
        }
        if let Some(changes) = changes {
            changes.join()?;
        }
        Ok(ListFigures {
            what: String::new(),
            changes_per_s,
            body_kb: len as f64 / 1000.0,
            per_s: spread.len() as f64 / time.as_secs_f64(),
            took: spread,
            peak_mb: peak_kb(self.registry.pid())? as f64 / 1000.0,
        })
    }

    /// Asks until the time is over: how long each took, and the longest body.
    fn ask(&self, window: Window) -> anyhow::Result<(Spread, usize)> {
        let mut connection = Connection::open(self.registry.address())?;
        let whole = self.population.get(self.path, "");
        let (mut spread, mut longest) = (Spread::default(), 0);
        let mut request = whole.clone();
        thread::sleep(window.begin.saturating_duration_since(Instant::now()));
        loop {
            let began = Instant::now();
            if began >= window.end {
                return Ok((spread, longest));
            }
            let answer = connection.call(&request)?;
            if window.is_measured(began) {
                spread.record(began.elapsed());
            }
            longest = longest.max(answer.len);
            if self.if_changed && answer.status == 200 {
                let etag = answer.etag.context("a list without an ETag")?;
                request = self.population.get(self.path, &format!("If-None-Match: {etag}\r\n"));
            }
        }
    }
}
