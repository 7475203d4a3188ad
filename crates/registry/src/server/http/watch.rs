//! `GET /v1/watch`: changes as Server-Sent Events.
//!
//! A watcher keeps its position, and reads the changes since then from the store when its connection accepts more. All
//! that it holds is shared with others: events, and the pages of a snapshot. If it falls so far behind that changes are
//! dropped, it gets `resync` and a snapshot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::error::HttpError;
use super::query::Query;
use crate::server::readers::{DocumentReader, ReaderEnded};
use crate::server::state::{RegistryState, SharedState};
use crate::server::store::{ChangesSince, frame};
use crate::server::watchers::Subscription;
use crate::wire::{Envelope, Resync, event};

/// The silence after which a comment is sent, so that both ends notice a lost connection.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING: Bytes = Bytes::from_static(b": ping\n\n");
/// Tells the client how long to wait before it reconnects.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /v1/watch`
pub(super) async fn watch(
    State(registry): State<SharedState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let service = Query::parse(query.as_deref())?.service()?;
    if registry.closing.is_cancelled() {
        return Err(HttpError::unavailable("the registry is stopping"));
    }
    let permit = permit(&registry)?;
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let watcher = Watcher::new(registry, service, last, permit);
    let events = stream::unfold(watcher, |mut watcher| async {
        let bytes = watcher.next().await?;
        Some((bytes, watcher))
    });
    // Disables response buffering in nginx and other proxies.
    let headers = [(CONTENT_TYPE, "text/event-stream"), (ACCEL_BUFFERING, "no")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// Acquires a permit for a watch or a long poll, held for as long as that lasts.
pub(super) fn permit(registry: &RegistryState) -> Result<OwnedSemaphorePermit, HttpError> {
    registry.watch_permit().ok_or_else(|| {
        let max = registry.options.max_watchers;
        HttpError::too_many(format!("the registry has {max} watches and long polls, and no room for another"))
    })
}

/// A watch: its position, and what it has still to send.
struct Watcher {
    registry: SharedState,
    service: Option<Arc<str>>,
    subscription: Subscription,
    /// The last revision that was sent; `None` if a snapshot must be sent.
    sent_rev: Option<u64>,
    /// `true` if the last snapshot was marked as possibly incomplete.
    warming: bool,
    /// Events to send before the store is read again; the store bounds how many it returns at once.
    pending: VecDeque<Bytes>,
    /// The snapshot that is sent after them.
    snapshot: Option<DocumentReader>,
    /// The time to read the store; `None` while it has nothing new.
    read_at: Option<Instant>,
    ping_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    fn new(
        registry: SharedState,
        service: Option<String>,
        last: Option<&str>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let subscription = registry.store.subscribe(service.as_deref());
        let (sent_rev, warming) = {
            let store = registry.store.lock();
            let same_epoch =
                last.and_then(|id| id.rsplit_once('-')).filter(|(epoch, _)| *epoch == store.epoch());
            let rev = same_epoch.and_then(|(_, rev)| rev.parse().ok());
            // A position whose changes were dropped, or one in the future, needs a snapshot.
            let rev = rev.filter(|rev| store.knows_since(service.as_deref(), *rev));
            (rev, store.is_warming())
        };
        Self {
            subscription,
            sent_rev,
            warming,
            registry,
            service: service.map(Arc::from),
            pending: VecDeque::from([RETRY]),
            snapshot: None,
            read_at: Some(Instant::now()),
            ping_at: Instant::now() + PING_INTERVAL,
            _permit: permit,
        }
    }

    /// Waits for the next bytes to send; `None` when the registry stops. Cancel-safe: no state changes while it waits.
    async fn next(&mut self) -> Option<Result<Bytes, ReaderEnded>> {
        let closing = self.registry.closing.clone();
        loop {
            if self.snapshot.is_some() && self.pending.is_empty() {
                // Lets other requests run, and the connection write, between the parts of a snapshot.
                yield_now().await;
            }
            if let Some(bytes) = self.take_pending() {
                self.ping_at = Instant::now() + PING_INTERVAL;
                return Some(bytes);
            }
            let now = Instant::now();
            if self.read_at.is_some_and(|at| at <= now) {
                if !self.read_store(now) {
                    yield_now().await;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return None,
                () = self.subscription.changed(), if self.read_at.is_none() => {
                    self.read_at = self.registry.next_wake().or(Some(now));
                }
                () = sleep_until(self.read_at.unwrap_or(self.ping_at)) => {
                    if self.read_at.is_none() {
                        self.pending.push_back(PING);
                    }
                }
            }
        }
    }

    /// Reads the changes since the last position, or a snapshot, from the store; returns `false` if a part of that is left,
    /// and others should run before it.
    fn read_store(&mut self, now: Instant) -> bool {
        // Before the store is read, so that no change is missed in between.
        self.subscription.mark_seen();
        let mut store = self.registry.store.lock();
        let warmed = self.warming && !store.is_warming();
        let unpublished = store.publish(now);
        let since = match self.sent_rev {
            Some(rev) if !warmed => store.published_since(self.service.as_ref(), rev),
            _ => ChangesSince::Lost,
        };
        match since {
            ChangesSince::Known { frames, rev } => {
                self.pending.extend(frames);
                self.sent_rev = Some(rev);
                self.read_at = if rev < store.published_rev() {
                    // There are more changes than the store returns at once.
                    Some(now)
                } else {
                    unpublished.filter(|_| rev < store.rev())
                };
            }
            ChangesSince::Lost if self.service.is_none() && !store.refresh_services() => return false,
            ChangesSince::Lost => {
                let (rev, snapshot) = store.snapshot(self.service.as_deref());
                if self.sent_rev.is_some() && !warmed {
                    let reason = "this watcher was too slow, and changes were lost".to_owned();
                    let (epoch, warming) = (store.epoch().to_owned(), store.is_warming());
                    let envelope = Envelope { epoch, rev, warming, body: Resync { reason } };
                    let data = serde_json::to_string(&envelope).expect("all keys are strings");
                    self.pending.push_back(frame(event::RESYNC, store.epoch(), rev, &data));
                }
                self.snapshot = Some(self.registry.readers.open(snapshot));
                self.sent_rev = Some(rev);
                self.read_at = None;
                self.warming = store.is_warming();
            }
        }
        drop(store);
        if self.read_at.is_some_and(|at| at > now) {
            // Not all watchers at that moment.
            self.read_at = self.read_at.max(self.registry.next_wake());
        }
        true
    }

    /// Takes the next event, or a part of the snapshot.
    fn take_pending(&mut self) -> Option<Result<Bytes, ReaderEnded>> {
        if let Some(event) = self.pending.pop_front() {
            return Some(Ok(event));
        }
        let part = self.snapshot.as_mut()?.next();
        if part.is_none() {
            self.snapshot = None;
        }
        part
    }
}
