//! `GET /v1/watch`: changes as Server-Sent Events.
//!
//! A watcher keeps its position, and reads the changes since then from the store when its connection accepts more. So a
//! slow one costs no memory. If it falls so far behind that changes are dropped, it gets `resync` and a snapshot.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::error::HttpError;
use super::query::Query;
use crate::server::state::{RegistryState, SharedState};
use crate::server::store::{ChangesSince, frame};
use crate::server::watchers::Subscription;
use crate::wire::{Envelope, Resync, event};

/// The silence after which a comment is sent, so that both ends notice a lost connection.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING: Bytes = Bytes::from_static(b": ping\n\n");
/// Tells the client how long to wait before it reconnects.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");
/// The time in which changes after another are collected and sent together: with a thousand watchers, the writes are
/// the cost. The first change after a pause is sent with the watcher's batch.
const COALESCE_WINDOW: Duration = Duration::from_millis(50);
/// The maximum size of a chunk, in bytes: a connection buffers what it is given, and a slow one should not buffer a
/// whole snapshot.
const MAX_CHUNK: usize = 64 * 1024;

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
        Some((Ok::<_, Infallible>(bytes), watcher))
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

/// A watch: its position, and the bytes that it has still to send.
struct Watcher {
    registry: SharedState,
    service: Option<String>,
    subscription: Subscription,
    /// The last revision that was sent; `None` if a snapshot must be sent.
    sent_rev: Option<u64>,
    /// `true` if the last snapshot was marked as possibly incomplete.
    warming: bool,
    /// Bytes to send before the store is read again: one batch of changes, or a snapshot.
    pending: VecDeque<Bytes>,
    /// The time of the last changes.
    sent_at: Option<Instant>,
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
            let rev = rev.filter(|rev| store.since(service.as_deref(), *rev) != ChangesSince::Lost);
            (rev, store.is_warming())
        };
        Self {
            subscription,
            sent_rev,
            warming,
            registry,
            service,
            pending: VecDeque::from([RETRY]),
            sent_at: None,
            read_at: Some(Instant::now()),
            ping_at: Instant::now() + PING_INTERVAL,
            _permit: permit,
        }
    }

    /// Waits for the next bytes to send; `None` when the registry stops. Cancel-safe: no state changes while it waits.
    async fn next(&mut self) -> Option<Bytes> {
        let closing = self.registry.closing.clone();
        loop {
            if let Some(bytes) = self.take_pending() {
                self.ping_at = Instant::now() + PING_INTERVAL;
                return Some(bytes);
            }
            let now = Instant::now();
            if self.read_at.is_some_and(|at| at <= now) {
                self.read_store();
                continue;
            }
            tokio::select! {
                () = closing.cancelled() => return None,
                () = self.subscription.changed(), if self.read_at.is_none() => {
                    let wake = self.registry.next_wake();
                    self.read_at = wake.max(self.sent_at.map(|sent| sent + COALESCE_WINDOW)).or(Some(now));
                }
                () = sleep_until(self.read_at.unwrap_or(self.ping_at)) => {
                    if self.read_at.is_none() {
                        self.pending.push_back(PING);
                    }
                }
            }
        }
    }

    /// Reads the changes since the last position, or a snapshot, from the store.
    fn read_store(&mut self) {
        // Before the store is read, so that no change is missed in between.
        self.subscription.mark_seen();
        self.read_at = None;
        let mut store = self.registry.store.lock();
        let warmed = self.warming && !store.is_warming();
        let since = match self.sent_rev {
            Some(rev) if !warmed => store.since(self.service.as_deref(), rev),
            _ => ChangesSince::Lost,
        };
        match since {
            ChangesSince::Known { frames, rev } => {
                let now = Instant::now();
                if !frames.is_empty() {
                    self.sent_at = Some(now);
                }
                self.pending.extend(frames);
                self.sent_rev = Some(rev);
                // There are more changes than the store returns at once.
                self.read_at = (rev != store.rev()).then_some(now + COALESCE_WINDOW);
            }
            ChangesSince::Lost => {
                let (rev, snapshot) = store.snapshot(self.service.as_deref());
                if self.sent_rev.is_some() && !warmed {
                    let reason = "this watcher was too slow, and changes were lost".to_owned();
                    let (epoch, warming) = (store.epoch().to_owned(), store.is_warming());
                    let envelope = Envelope { epoch, rev, warming, body: Resync { reason } };
                    let data = serde_json::to_string(&envelope).expect("all keys are strings");
                    self.pending.push_back(frame(event::RESYNC, store.epoch(), rev, &data));
                }
                self.pending.push_back(snapshot);
                self.sent_rev = Some(rev);
                // A cached snapshot may be a few changes old.
                self.read_at = (rev != store.rev()).then(Instant::now);
                self.warming = store.is_warming();
            }
        }
    }

    /// Takes one chunk of the pending bytes: small events are combined, large ones are split.
    fn take_pending(&mut self) -> Option<Bytes> {
        let mut first = self.pending.pop_front()?;
        if first.len() > MAX_CHUNK {
            let rest = first.split_off(MAX_CHUNK);
            self.pending.push_front(rest);
            return Some(first);
        }
        if self.pending.front().is_none_or(|next| first.len() + next.len() > MAX_CHUNK) {
            return Some(first);
        }
        let mut chunk = BytesMut::from(&*first);
        while let Some(next) = self.pending.front()
            && chunk.len() + next.len() <= MAX_CHUNK
        {
            chunk.extend_from_slice(next);
            self.pending.pop_front();
        }
        Some(chunk.freeze())
    }
}
