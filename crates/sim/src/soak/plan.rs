//! [`Plan`]: the cluster of one seed: how many servers and clients there are, and their settings.

use std::time::Duration;

use farcall::client::{ChannelBuilder, ConnectionOptions, OutlierDetection, RetryBudget, RetryPolicy};
use farcall::discovery::{PeakEwma, Random, RoundRobin, WeightedRoundRobin};
use farcall::protocol::{Codec, KeepAlive};
use farcall::server::Limits;
use fastrand::Rng;

use crate::network::Link;

/// The settings of the cluster of one seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) servers: usize,
    pub(super) clients: usize,
    /// Clients find the servers through a registry.
    pub(super) has_registry: bool,
    /// The first server and the first client are spared from all faults: what is idempotent must succeed there.
    pub(super) is_spared: bool,
    pub(super) link: Link,
    /// The virtual time for which there are calls and faults.
    pub(super) time: Duration,
    /// The mean pause between two calls of a client, and between two faults.
    pub(super) call_pause_ms: u64,
    pub(super) fault_pause_ms: u64,
    pub(super) limits: Limits,
    /// Servers give connections up at a largest age.
    pub(super) connections_age: bool,
    pub(super) budget: Budget,
    pub(super) keep_alive: KeepAlive,
}

/// A retry budget, with its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) share: f64,
    pub(super) floor: f64,
}

/// The time to live of an instance in the registry of the soak.
pub(super) const TTL: Duration = Duration::from_secs(10);

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Returns one of these numbers.
fn one_of<const N: usize>(random: &mut Rng, of: [u64; N]) -> u64 {
    of[random.usize(..N)]
}

impl Plan {
    pub(super) fn draw(random: &mut Rng) -> Self {
        let latency = one_of(random, [0, 1, 5, 40]);
        let mut link = Link::default().latency(millis(0), millis(latency));
        if random.u8(..3) == 0 {
            link = link.bandwidth(one_of(random, [50_000, 1_000_000]));
        }
        if random.u8(..3) == 0 {
            link = link.segment(one_of(random, [1, 7, 100]) as usize);
        }
        if random.u8(..3) == 0 {
            link = link.buffer(one_of(random, [700, 3000, 10_000]) as usize);
        }
        let keep_alive = KeepAlive::new(millis(one_of(random, [1000, 3000, 10_000])), millis(2000));
        let mut limits = Limits::default().keep_alive(keep_alive);
        limits = limits.drain_timeout(millis(one_of(random, [0, 500, 5000])));
        limits = limits.deregister_pause(millis(one_of(random, [0, 100])));
        if random.u8(..4) == 0 {
            limits = limits.max_in_flight(random.usize(1..4)).max_streams(random.usize(1..3));
        }
        let connections_age = random.u8(..4) == 0;
        if connections_age {
            limits = limits.max_connection_age(millis(random.u64(2000..8000)));
        }
        if random.u8(..4) == 0 {
            limits = limits.stream_window(random.usize(1..5000)).stream_stall(millis(5000));
        }
        if random.u8(..4) == 0 {
            limits = limits.handle_timeout(millis(one_of(random, [200, 2000])));
        }
        Self {
            servers: random.usize(1..=3),
            clients: random.usize(1..=2),
            has_registry: random.u8(..3) == 0,
            is_spared: random.bool(),
            link,
            time: millis(one_of(random, [2000, 5000, 10_000])),
            call_pause_ms: one_of(random, [100, 300]),
            fault_pause_ms: one_of(random, [200, 700, 2000]),
            limits,
            connections_age,
            budget: Budget { share: 0.1 * f64::from(random.u8(..5)), floor: f64::from(random.u8(..4)) },
            keep_alive,
        }
    }

    /// Returns the options of a client's connections.
    pub(super) fn options(&self, random: &mut Rng) -> ConnectionOptions {
        let mut options = ConnectionOptions::default().keep_alive(self.keep_alive);
        if random.u8(..3) == 0 {
            options = options.codec(Codec::Json);
        }
        if random.u8(..3) == 0 {
            options = options.outbox_bytes(random.usize(1..2000));
        }
        if random.u8(..3) == 0 {
            options = options.stream_window(random.usize(1..3000));
        }
        if random.u8(..3) == 0 {
            options = options.connect_timeout(millis(one_of(random, [200, 2000])));
        }
        options
    }

    /// Completes a channel.
    pub(super) fn channel(&self, channel: ChannelBuilder, random: &mut Rng) -> ChannelBuilder {
        let channel = channel.retry_budget(RetryBudget::new(self.budget.share, self.budget.floor));
        let channel = channel.connections(random.usize(1..=2)).wait_for_ready(random.bool());
        let channel = if random.u8(..3) == 0 {
            channel.outlier_detection(OutlierDetection::default())
        } else {
            channel
        };
        match random.u8(..5) {
            0 => channel.balancer(RoundRobin),
            1 => channel.balancer(Random),
            2 => channel.balancer(PeakEwma),
            3 => channel.balancer(WeightedRoundRobin),
            _ => channel,
        }
    }

    /// Draws how calls are tried again, and the attempts that may reach a server then.
    pub(super) fn retry(random: &mut Rng) -> (RetryPolicy, u32) {
        let attempts = random.u32(1..5);
        match random.u8(..4) {
            0 => (RetryPolicy::fail_fast(), 1),
            1 => (RetryPolicy::retry_same().max_attempts(attempts), attempts),
            // The hedged request does not count as an attempt.
            2 => (RetryPolicy::hedge_after(millis(random.u64(1..500))).max_attempts(attempts), 2 * attempts),
            _ => (RetryPolicy::fail_over().max_attempts(attempts), attempts),
        }
    }
}
