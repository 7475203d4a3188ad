//! A server whose capacity is known, and callers that do not wait for one another: they call at a given rate, whatever becomes
//! of the calls before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::Channel;
use farcall::client::{Connection, ConnectionOptions, RetryPolicy};
use farcall::protocol::Criticality;
use farcall::server::{Limits, Server, ServerHandle};
use farcall::transport::{PeerAddress, Stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

/// The time for which callers wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// The length of the steps in which recovery is looked for.
const STEP: Duration = Duration::from_millis(100);

/// The calls of each class among ten; the others are of the default one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix {
    pub(crate) critical: usize,
    pub(crate) sheddable: usize,
}

/// One of ten calls critical, three sheddable.
pub(crate) const MIXED: Mix = Mix { critical: 1, sheddable: 3 };

/// The limit of calls that run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No limit.
    None,
    /// A number, as an operator may guess it.
    Fixed(usize),
    /// The server's own.
    Adaptive,
}

impl Mode {
    /// Returns the limits of a server.
    pub(crate) fn limits(self) -> Limits {
        let none =
            Limits::default().max_in_flight(100_000).max_in_flight_in_all(None).max_in_flight_per_peer(None);
        match self {
            Self::None => none,
            Self::Fixed(calls) => none.max_in_flight_in_all(calls).max_in_flight_per_peer(None),
            Self::Adaptive => none.adaptive(),
        }
    }
}

/// Handlers of which `capacity` work at once, each for about this time; the others wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) capacity: usize,
    pub(crate) work: Duration,
}

impl Waiting {
    /// Returns the calls that the server can serve in a second.
    pub(crate) fn rate(self) -> f64 {
        self.capacity as f64 / self.work.as_secs_f64()
    }

    /// Starts a server in this process.
    pub(crate) fn serve(self, mode: Mode) -> ServerHandle {
        let places = Arc::new(Semaphore::new(self.capacity));
        let server = Server::builder().limits(mode.limits()).method("Work.run", move |()| {
            let places = Arc::clone(&places);
            async move {
                let _place = places.acquire().await;
                // No two calls take the same time.
                sleep(self.work.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            }
        });
        server.build().expect("the name is good").handle()
    }
}

/// Opens a connection to a server of this process, without sockets.
pub(crate) async fn connect(server: &ServerHandle) -> Channel {
    let (near, far) = tokio::io::duplex(256 * 1024);
    server.serve_stream(Stream::new(far), PeerAddress::Memory);
    let address = "tcp@in.memory:1".parse().expect("a good address");
    let connection = Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await;
    Channel::from(connection.expect("the server accepts"))
}

/// The calls of one class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) made: usize,
    pub(crate) served: usize,
}

/// The outcome of the calls of one load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// By class: sheddable, default, critical.
    pub(crate) classes: [Count; 3],
    /// By channel.
    pub(crate) channels: Vec<Count>,
    /// The latencies of the calls that were served.
    pub(crate) latencies: Vec<Duration>,
    /// The calls made and served in each [`STEP`] in which they were made.
    steps: Vec<Count>,
}

impl Outcome {
    /// Returns the calls that were served in a second.
    pub(crate) fn goodput(&self, time: Duration) -> f64 {
        self.latencies.len() as f64 / time.as_secs_f64()
    }

    /// Returns the calls of this class that were not served.
    pub(crate) fn lost(&self, class: Criticality) -> usize {
        let Count { made, served } = self.classes[index(class)];
        made - served
    }

    /// Returns the latency that 99% of the calls that were served stay within.
    pub(crate) fn p99(&mut self) -> Duration {
        self.latencies.sort_unstable();
        self.latencies.get(self.latencies.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Returns the time after which 95 of 100 calls were served in each step.
    pub(crate) fn recovery(&self) -> Duration {
        let is_bad = |step: &Count| step.served * 100 < step.made * 95;
        let last = self.steps.iter().rposition(is_bad).map_or(0, |last| last + 1);
        STEP * u32::try_from(last).unwrap_or(u32::MAX)
    }

    fn record(&mut self, channel: usize, class: Criticality, step: usize, latency: Option<Duration>) {
        if self.steps.len() <= step {
            self.steps.resize(step + 1, Count::default());
        }
        for count in [&mut self.classes[index(class)], &mut self.channels[channel], &mut self.steps[step]] {
            count.made += 1;
            count.served += usize::from(latency.is_some());
        }
        self.latencies.extend(latency);
    }
}

fn index(class: Criticality) -> usize {
    match class {
        Criticality::Sheddable => 0,
        Criticality::Critical => 2,
        _ => 1,
    }
}

/// Calls `Work.run` over each channel at its rate, in calls a second, at random times, for this time.
pub(crate) async fn load(channels: &[(Channel, f64)], mix: Mix, time: Duration) -> Outcome {
    let outcome = Outcome { channels: vec![Count::default(); channels.len()], ..Outcome::default() };
    let outcome = Arc::new(Mutex::new(outcome));
    let (mut random, mut calls) = (fastrand::Rng::with_seed(7), tokio::task::JoinSet::new());
    let rate: f64 = channels.iter().map(|(_, rate)| rate).sum();
    let (start, mut next) = (Instant::now(), 0.0);
    loop {
        next -= random.f64().max(1e-12).ln() / rate;
        let at = start + Duration::from_secs_f64(next);
        if at >= start + time {
            break;
        }
        if at > Instant::now() {
            sleep_until(at).await;
        }
        let mut of_channel = random.f64() * rate;
        let channel = channels.iter().position(|(_, rate)| {
            of_channel -= rate;
            of_channel < 0.0
        });
        let channel = channel.unwrap_or(0);
        let class = match random.usize(..10) {
            n if n < mix.critical => Criticality::Critical,
            n if n < mix.critical + mix.sheddable => Criticality::Sheddable,
            _ => Criticality::Default,
        };
        let call = channels[channel].0.call::<()>("Work.run", &()).criticality(class).timeout(PATIENCE);
        let call = call.retry(RetryPolicy::fail_fast());
        let outcome = Arc::clone(&outcome);
        let step = ((at - start).as_nanos() / STEP.as_nanos()) as usize;
        calls.spawn(async move {
            // From when it was due: a generator that is late hides nothing.
            let latency = call.await.ok().map(|()| at.elapsed());
            outcome.lock().unwrap_or_else(PoisonError::into_inner).record(channel, class, step, latency);
        });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Divides a rate between channels.
pub(crate) fn evenly(channels: &[Channel], rate: f64) -> Vec<(Channel, f64)> {
    channels.iter().map(|channel| (channel.clone(), rate / channels.len() as f64)).collect()
}
