//! [`Traffic`]: clients that call all the time, and a record of each call.
//!
//! There are clients with the default keep-alive and with one of 3 s, each with a connection that is busy and one that is idle
//! but for a call that has no limit. When that call ends, its client has noticed that the server is silent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use farcall::Channel;
use farcall::client::{ChannelBuilder, ConnectionOptions};
use farcall::discovery::DnsDiscovery;
use farcall::protocol::{Code, Execution, KeepAlive};
use serde::Serialize;
use serde_json::json;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::server::{Work, Worked};

/// The time between two calls of a busy client.
const INTERVAL: Duration = Duration::from_millis(25);
/// The limits of calls, in turn.
const LIMITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), MAX_LIMIT];
/// The longest of them.
pub(super) const MAX_LIMIT: Duration = Duration::from_secs(3);
/// The time beyond its limit after which a call counts as one that does not end.
const MAX_END: Duration = Duration::from_secs(10);
/// The number of calls of which one is large.
const LARGE_EACH: u64 = 16;
const LARGE_BYTES: usize = 32 * 1024;
/// The pause of a client whose call without a limit has ended.
const PAUSE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(1);

/// The keep-alive of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Timing {
    /// 10 s and 5 s.
    Default,
    /// 2 s and 1 s.
    Quick,
}

/// The servers of a client.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Addresses(Vec<String>),
    /// An address with a name that is resolved again and again.
    Dns(String),
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) timing: Timing,
    pub(super) id: u64,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) limit: Duration,
    pub(super) is_idempotent: bool,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    /// The answer of another call.
    Wrong,
    Failed(Code, Execution),
    Unended,
}

/// The end of a call without a limit, which only the loss of its connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) timing: Timing,
    pub(super) is_busy: bool,
    pub(super) at: Instant,
}

/// All that clients have recorded.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) calls: Vec<Record>,
    pub(super) lost: Vec<Lost>,
}

/// The clients. Dropping them stops them, with their calls.
pub(super) struct Traffic {
    records: Arc<Mutex<Records>>,
    is_stopping: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
    waiters: Vec<AbortHandle>,
}

impl Timing {
    pub(super) const ALL: [Self; 2] = [Self::Default, Self::Quick];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Quick => "3 s",
        }
    }

    /// Returns the time within which a silent server must be noticed.
    pub(super) const fn notices_within(self) -> Duration {
        match self {
            Self::Default => Duration::from_secs(15),
            Self::Quick => Duration::from_secs(3),
        }
    }

    fn channel(self, target: &Target) -> anyhow::Result<Channel> {
        let mut options = ConnectionOptions::default();
        if self == Self::Quick {
            options = options.keep_alive(KeepAlive::new(Duration::from_secs(2), Duration::from_secs(1)));
        }
        let channel = Channel::builder().options(options);
        let channel = match target {
            Target::Addresses(addresses) => addresses
                .iter()
                .fold(channel, |channel, address| ChannelBuilder::to(channel, address.as_str())),
            Target::Dns(name) => channel.discover(DnsDiscovery::new(name.as_str())?.poll_interval(POLL)),
        };
        Ok(channel.build()?)
    }
}

impl Traffic {
    /// Starts the clients.
    pub(super) fn start(target: &Target) -> anyhow::Result<Self> {
        let mut traffic = Self {
            records: Arc::default(),
            is_stopping: Arc::default(),
            callers: Vec::new(),
            waiters: Vec::new(),
        };
        let ids = Arc::new(AtomicU64::new(1));
        for timing in Timing::ALL {
            let busy = timing.channel(target)?;
            let (records, is_stopping) = (Arc::clone(&traffic.records), Arc::clone(&traffic.is_stopping));
            let calls = call_all_the_time(busy.clone(), timing, Arc::clone(&ids), records, is_stopping);
            traffic.callers.push(tokio::spawn(calls));
            for (channel, is_busy) in [(busy, true), (timing.channel(target)?, false)] {
                let waiting = wait_all_the_time(channel, timing, is_busy, Arc::clone(&traffic.records));
                traffic.waiters.push(tokio::spawn(waiting).abort_handle());
            }
        }
        Ok(traffic)
    }

    /// Stops the clients, waits until their calls have ended, and closes their connections.
    pub(super) async fn stop(mut self) -> anyhow::Result<Records> {
        self.is_stopping.store(true, Relaxed);
        for caller in std::mem::take(&mut self.callers) {
            caller.await?;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut records))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for waiter in &self.waiters {
            waiter.abort();
        }
        for caller in &self.callers {
            caller.abort();
        }
    }
}

async fn call_all_the_time(
    channel: Channel,
    timing: Timing,
    ids: Arc<AtomicU64>,
    records: Arc<Mutex<Records>>,
    is_stopping: Arc<AtomicBool>,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // At most those of the longest limit, and of the time for calls that do not end.
    let mut calls = JoinSet::new();
    while !is_stopping.load(Relaxed) {
        ticks.tick().await;
        let (channel, records, id) = (channel.clone(), Arc::clone(&records), ids.fetch_add(1, Relaxed));
        calls.spawn(async move {
            let record = call(&channel, timing, id).await;
            records.lock().unwrap_or_else(PoisonError::into_inner).calls.push(record);
        });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
}

async fn call(channel: &Channel, timing: Timing, id: u64) -> Record {
    let bytes = if id.is_multiple_of(LARGE_EACH) { LARGE_BYTES } else { 20 };
    let limit = LIMITS[(id / 4 % 3) as usize];
    // Two in four are idempotent, and others are under way for a moment.
    let is_idempotent = id & 2 != 0;
    let work = Work { id, millis: if id.is_multiple_of(5) { 100 } else { 0 }, text: "x".repeat(bytes) };
    let mut call = channel.call::<Worked>("Net.work", &work).timeout(limit);
    if is_idempotent {
        call = call.idempotent();
    }
    let begun = Instant::now();
    let outcome = match timeout(limit + MAX_END, call).await {
        Ok(Ok(worked)) if worked.id == id && worked.text.len() == bytes => Outcome::Answered,
        Ok(Ok(_)) => Outcome::Wrong,
        Ok(Err(error)) => Outcome::Failed(error.code(), error.execution()),
        Err(_) => Outcome::Unended,
    };
    Record { timing, id, begun, ended: Instant::now(), limit, is_idempotent, outcome }
}

async fn wait_all_the_time(channel: Channel, timing: Timing, is_busy: bool, records: Arc<Mutex<Records>>) {
    loop {
        // It only ends with an error.
        let _ = channel.call::<()>("Net.wait", &json!({})).await;
        let lost = Lost { timing, is_busy, at: Instant::now() };
        records.lock().unwrap_or_else(PoisonError::into_inner).lost.push(lost);
        sleep(PAUSE).await;
    }
}
