//! [`StreamRegistry`]: the streaming calls of a channel that are open, and what those before them have counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall_protocol::stream::StreamSnapshot;
use farcall_protocol::time::millis;
use serde::Serialize;

use super::link::Link;

/// The streaming calls of a channel.
#[derive(Clone, Default)]
pub(crate) struct StreamRegistry(Arc<Mutex<Registered>>);

#[derive(Default)]
struct Registered {
    /// The calls that are open, by when they began. At most as many as the servers run at once, and those that wait.
    open: BTreeMap<u64, Arc<Link>>,
    last: u64,
    /// Of the calls that have ended.
    ended: StreamMetrics,
}

/// The figures of a channel's streaming calls since it was built.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StreamMetrics {
    /// Streaming calls that are open at this moment.
    pub open: usize,
    /// Streaming calls that were started.
    pub opened: u64,
    /// Items that have arrived.
    pub items_received: u64,
    /// The bytes of these items as they were sent.
    pub bytes_received: u64,
    /// Items that were sent.
    pub items_sent: u64,
    /// The bytes of these items as they were sent.
    pub bytes_sent: u64,
    /// The number of times that an item had to wait for the server's credit.
    pub stalls: u64,
    /// Calls that a stream went on with, after another one: see [`StreamCall::resume`](crate::StreamCall::resume).
    pub resumed: u64,
}

/// A streaming call of a channel that is open.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StreamOverview {
    /// The name of the method, such as `Feed.count`.
    pub method: String,
    /// The address of the server; `None` while the request was not sent.
    pub endpoint: Option<String>,
    /// Milliseconds since the call began.
    pub age_ms: u64,
    /// Items that have arrived.
    pub items_received: u64,
    /// The bytes of these items as they were sent.
    pub bytes_received: u64,
    /// Items that were sent.
    pub items_sent: u64,
    /// The bytes of these items as they are sent.
    pub bytes_sent: u64,
    /// The size of the window that the server may fill, in bytes.
    pub window: u64,
    /// The bytes in the window that wait for the application.
    pub held: u64,
    /// The credit that is left for items of this side, in bytes.
    pub credit: u64,
    /// The thing that the stream waits for: `connection`, `place`, `application`, `credit`, `socket` or `peer`.
    pub waits_for: &'static str,
}

impl StreamRegistry {
    /// Adds a call that begins.
    pub(super) fn register(&self, link: &Arc<Link>) -> Registration {
        let mut registered = self.lock();
        registered.last += 1;
        let id = registered.last;
        registered.open.insert(id, Arc::clone(link));
        registered.ended.opened += 1;
        drop(registered);
        Registration { registry: self.clone(), id }
    }

    /// Counts a call that another one goes on with.
    pub(super) fn count_resumed(&self) {
        self.lock().ended.resumed += 1;
    }

    /// Returns the figures since the channel was built.
    pub(crate) fn metrics(&self) -> StreamMetrics {
        let registered = self.lock();
        let mut metrics = registered.ended;
        metrics.open = registered.open.len();
        for snapshot in registered.open.values().filter_map(|link| link.snapshot()) {
            metrics.add(&snapshot);
        }
        metrics
    }

    /// Returns the calls that are open, the oldest first, `max` at most.
    pub(crate) fn overview(&self, max: usize) -> Vec<StreamOverview> {
        let open: Vec<_> = self.lock().open.values().take(max).cloned().collect();
        open.iter().map(|link| StreamOverview::of(link)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamMetrics {
    fn add(&mut self, stream: &StreamSnapshot) {
        self.items_received += stream.received.items;
        self.bytes_received += stream.received.bytes;
        self.items_sent += stream.sent.items;
        self.bytes_sent += stream.sent.bytes;
        self.stalls += stream.stalls;
    }
}

impl StreamOverview {
    fn of(link: &Link) -> Self {
        let snapshot = link.snapshot();
        let (received, sent) =
            snapshot.map_or_else(Default::default, |stream| (stream.received, stream.sent));
        Self {
            method: link.method().to_owned(),
            endpoint: link.endpoint().map(|endpoint| endpoint.to_string()),
            age_ms: millis(link.opened_at().elapsed()),
            items_received: received.items,
            bytes_received: received.bytes,
            items_sent: sent.items,
            bytes_sent: sent.bytes,
            window: snapshot.map_or(0, |stream| stream.receive_window),
            held: snapshot.map_or(0, |stream| stream.held),
            credit: snapshot.map_or(0, |stream| stream.credit),
            waits_for: match snapshot {
                Some(stream) => stream.waits_for.name(),
                None if link.full().is_some() => "place",
                None => "connection",
            },
        }
    }
}

/// Keeps a call among those that are open.
pub(super) struct Registration {
    registry: StreamRegistry,
    id: u64,
}

impl Drop for Registration {
    /// Removes the call, whose figures count from now on as those of one that has ended.
    fn drop(&mut self) {
        let mut registered = self.registry.lock();
        let Some(link) = registered.open.remove(&self.id) else { return };
        if let Some(snapshot) = link.snapshot() {
            registered.ended.add(&snapshot);
        }
        drop(registered);
        // The last reference to a stream cancels it.
        drop(link);
    }
}
