//! The service of the soak, and [`Ledger`]: what its handlers really did, which is the truth that outcomes are held
//! against.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::client::ChannelBuilder;
use farcall::{Address, Receiver, Sender, Status};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::node::Node;

/// A job for a handler: its number, which no other has, and what the handler does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) act: Act,
    /// Bytes that make the request as large as it is.
    pub(super) load: String,
}

/// The way in which a handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Act {
    /// At once.
    Now,
    /// After this many milliseconds.
    Late(u64),
    /// With a result of this many bytes.
    Large(usize),
    /// With its own error.
    Fail,
    /// By a panic, at once or after a while.
    Panic(u64),
    /// Never.
    Hang,
}

/// The result of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) id: u64,
    pub(super) load: String,
}

/// The error of a job that is to fail, with its number.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed(pub(super) u64);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} failed", self.0)
    }
}

/// An item of a stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) id: u64,
    pub(super) n: u64,
    pub(super) load: String,
}

/// The service of the soak.
#[farcall::service]
pub(super) trait Work {
    /// Does a job.
    async fn run(&self, job: Job) -> Result<Done, Failed>;
    /// Does a job, once.
    #[rpc(once)]
    async fn pay(&self, job: Job) -> Result<Done, Failed>;
    /// Has a server do a job: a call within a call.
    async fn relay(&self, job: Job, inner: Job) -> Result<Done, Status>;
    /// Sends the items from one number up to another, without it; returns how many there were.
    async fn download(&self, job: Job, from: u64, to: u64, out: Sender<Item>) -> Result<u64, Status>;
    /// Takes items until they are complete; returns how many there were.
    async fn upload(&self, job: Job, items: Receiver<Item>) -> Result<u64, Status>;
    /// Sends each item back.
    async fn mirror(&self, job: Job, items: Receiver<Item>, out: Sender<Item>) -> Result<u64, Status>;
}

/// The work of handlers for one job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// Handlers that have begun.
    pub(super) begun: u32,
    /// Handlers that came to their end.
    pub(super) finished: u32,
    /// Handlers that were dropped, or panicked.
    pub(super) dropped: u32,
    /// The items of an upload that its handler took for complete.
    pub(super) complete: Option<u64>,
}

/// The work of all handlers. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    /// Contradictions that handlers saw.
    faults: Arc<Mutex<Vec<String>>>,
}

impl Ledger {
    pub(super) fn entry(&self, id: u64) -> Entry {
        lock(&self.entries).get(&id).copied().unwrap_or_default()
    }

    /// Returns the jobs with handlers that have neither ended nor been dropped.
    pub(super) fn running(&self) -> Vec<u64> {
        let entries = lock(&self.entries);
        let running = entries.iter().filter(|(_, entry)| entry.begun != entry.finished + entry.dropped);
        running.map(|(id, _)| *id).collect()
    }

    /// Returns how many handlers have begun for each job.
    pub(super) fn begun(&self) -> Vec<(u64, u32)> {
        lock(&self.entries).iter().map(|(id, entry)| (*id, entry.begun)).collect()
    }

    pub(super) fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    fn begin(&self, id: u64) -> Begun {
        self.change(id, |entry| entry.begun += 1);
        Begun { ledger: self.clone(), id, finished: false }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Entry)) {
        change(lock(&self.entries).entry(id).or_default());
    }

    fn fault(&self, fault: String) {
        lock(&self.faults).push(fault);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handler that runs.
struct Begun {
    ledger: Ledger,
    id: u64,
    finished: bool,
}

impl Begun {
    fn finish(mut self) {
        self.finished = true;
    }
}

/// Notes the end of a handler, whatever its cause.
impl Drop for Begun {
    fn drop(&mut self) {
        let finished = self.finished;
        self.ledger.change(self.id, |entry| {
            entry.finished += u32::from(finished);
            entry.dropped += u32::from(!finished);
        });
    }
}

/// The handlers, of whichever server.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) ledger: Ledger,
    /// The process of the handlers.
    pub(super) node: Node,
    /// The servers that it calls.
    pub(super) servers: Vec<Address>,
}

/// The text of the panics that handlers make on purpose.
pub(super) const PANIC: &str = "a handler of the soak panics on purpose";

impl Worker {
    /// Does what a job says before its answer. Returns the size of the result; `None` if the job fails.
    async fn act(&self, act: Act) -> Option<usize> {
        match act {
            Act::Now => Some(0),
            Act::Late(ms) => {
                sleep(Duration::from_millis(ms)).await;
                Some(0)
            }
            Act::Large(bytes) => Some(bytes),
            Act::Fail => None,
            Act::Panic(ms) => {
                if ms > 0 {
                    sleep(Duration::from_millis(ms)).await;
                }
                panic!("{PANIC}");
            }
            Act::Hang => std::future::pending().await,
        }
    }

    fn check(&self, job: &Job, item: &Item, n: u64) {
        if (item.id, item.n) != (job.id, n) {
            self.ledger.fault(format!("job {}: item {n} arrived as {} of {}", job.id, item.n, item.id));
        }
    }
}

impl Work for Worker {
    async fn run(&self, job: Job) -> Result<Done, Failed> {
        let begun = self.ledger.begin(job.id);
        let result = match self.act(job.act).await {
            Some(bytes) => Ok(Done { id: job.id, load: "7".repeat(bytes) }),
            None => Err(Failed(job.id)),
        };
        begun.finish();
        result
    }

    async fn pay(&self, job: Job) -> Result<Done, Failed> {
        self.run(job).await
    }

    async fn relay(&self, job: Job, inner: Job) -> Result<Done, Status> {
        let begun = self.ledger.begin(job.id);
        let channel = self.servers.iter().cloned().fold(self.node.channel_builder(), ChannelBuilder::to);
        let work = WorkClient::new(channel.build().expect("the settings are valid"));
        let done = work.run(inner).await?;
        begun.finish();
        Ok(done)
    }

    async fn download(&self, job: Job, from: u64, to: u64, mut out: Sender<Item>) -> Result<u64, Status> {
        let begun = self.ledger.begin(job.id);
        for n in from..to {
            out.send(Item { id: job.id, n, load: job.load.clone() }).await?;
            if n % 8 == 7 {
                self.act(job.act).await;
            }
        }
        begun.finish();
        Ok(to - from)
    }

    async fn upload(&self, job: Job, mut items: Receiver<Item>) -> Result<u64, Status> {
        let begun = self.ledger.begin(job.id);
        let mut taken = 0;
        while let Some(item) = items.recv().await {
            self.check(&job, &item?, taken);
            taken += 1;
            if taken % 8 == 7 {
                self.act(job.act).await;
            }
        }
        self.ledger.change(job.id, |entry| entry.complete = Some(taken));
        begun.finish();
        Ok(taken)
    }

    async fn mirror(
        &self,
        job: Job,
        mut items: Receiver<Item>,
        mut out: Sender<Item>,
    ) -> Result<u64, Status> {
        let begun = self.ledger.begin(job.id);
        let mut taken = 0;
        while let Some(item) = items.recv().await {
            let item = item?;
            self.check(&job, &item, taken);
            taken += 1;
            out.send(item).await?;
        }
        self.ledger.change(job.id, |entry| entry.complete = Some(taken));
        begun.finish();
        Ok(taken)
    }
}
