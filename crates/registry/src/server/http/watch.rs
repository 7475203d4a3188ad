//! `GET /v1/watch`: changes as Server-Sent Events.
//!
//! A watcher remembers how far it is, and asks the store for what came since whenever its
//! connection takes more. So a slow one costs nothing but its place; where it falls so far behind
//! that changes are forgotten, it gets `resync` and a snapshot.

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

use super::failure::Failure;
use super::query::Query;
use crate::server::registry::Registry;
use crate::server::store::{Since, frame};
use crate::server::watchers::Subscription;
use crate::wire::{Answer, Resync, event};

/// After so much silence a comment is sent, so that both ends see whether the other is there.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING: Bytes = Bytes::from_static(b": ping\n\n");
/// How long a watcher whose connection ends is asked to wait before it comes back.
const RETRY: Bytes = Bytes::from_static(b"retry: 1000\n\n");
/// Changes that come within this time of others are sent together: with a thousand watchers, the writes are
/// what costs. A change after a silence is sent as soon as it is the watcher's turn.
const GATHER: Duration = Duration::from_millis(50);
/// What is sent at once, at most: connections take what they are given, and a slow one should not be
/// given a whole snapshot at a time.
const CHUNK: usize = 64 * 1024;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /v1/watch`
pub(super) async fn watch(
    State(registry): State<Registry>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let service = Query::parse(query.as_deref())?.service()?;
    if registry.inner.closing.is_cancelled() {
        return Err(Failure::unavailable("the registry is stopping"));
    }
    let permit = permit(&registry)?;
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let watcher = Watcher::new(registry, service, last, permit);
    let events = stream::unfold(watcher, |mut watcher| async {
        let bytes = watcher.next().await?;
        Some((Ok::<_, Infallible>(bytes), watcher))
    });
    // Proxies that gather answers before they pass them on are told not to.
    let headers = [(CONTENT_TYPE, "text/event-stream"), (ACCEL_BUFFERING, "no")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// A place among the watchers, held while it is.
pub(super) fn permit(registry: &Registry) -> Result<OwnedSemaphorePermit, Failure> {
    registry.inner.watching.clone().try_acquire_owned().map_err(|_| {
        let max = registry.inner.settings.max_watchers;
        Failure::too_many(format!("the registry has {max} watches and long polls, and no room for another"))
    })
}

struct Watcher {
    registry: Registry,
    service: Option<String>,
    subscription: Subscription,
    /// The revision that was told last; none: everything is to be told.
    told: Option<u64>,
    /// Whether what was told said that it may be incomplete.
    warming: bool,
    /// What is to be sent before anything else: one batch, or a snapshot.
    pending: VecDeque<Bytes>,
    /// When changes were sent last.
    sent: Option<Instant>,
    /// When the store is to be asked; none while there is nothing new in it.
    look_at: Option<Instant>,
    ping_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    fn new(
        registry: Registry,
        service: Option<String>,
        last: Option<&str>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let subscription = registry.inner.watchers.subscribe(service.as_deref());
        let (told, warming) = {
            let store = registry.store();
            let known = last.and_then(|id| id.rsplit_once('-')).filter(|(epoch, _)| *epoch == store.epoch());
            let told = known.and_then(|(_, rev)| rev.parse().ok());
            // What is forgotten, or of the future, is told anew.
            let told = told.filter(|rev| store.since(service.as_deref(), *rev) != Since::Lost);
            (told, store.warming())
        };
        Self {
            subscription,
            told,
            warming,
            registry,
            service,
            pending: VecDeque::from([RETRY]),
            sent: None,
            look_at: Some(Instant::now()),
            ping_at: Instant::now() + PING_AFTER,
            _permit: permit,
        }
    }

    /// What is to be sent next, when there is something; none, when the registry stops. Cancel-safe: it
    /// changes nothing while it waits.
    async fn next(&mut self) -> Option<Bytes> {
        let closing = self.registry.inner.closing.clone();
        loop {
            if let Some(bytes) = self.take_pending() {
                self.ping_at = Instant::now() + PING_AFTER;
                return Some(bytes);
            }
            let now = Instant::now();
            if self.look_at.is_some_and(|at| at <= now) {
                self.look();
                continue;
            }
            tokio::select! {
                () = closing.cancelled() => return None,
                () = self.subscription.changed(), if self.look_at.is_none() => {
                    let turn = self.registry.take_turn();
                    self.look_at = turn.max(self.sent.map(|sent| sent + GATHER)).or(Some(now));
                }
                () = sleep_until(self.look_at.unwrap_or(self.ping_at)) => {
                    if self.look_at.is_none() {
                        self.pending.push_back(PING);
                    }
                }
            }
        }
    }

    /// Asks the store for what is to be told.
    fn look(&mut self) {
        // Before it is asked, so that no change falls between.
        self.subscription.catch_up();
        self.look_at = None;
        let mut store = self.registry.store();
        let warmed = self.warming && !store.warming();
        let since = match self.told {
            Some(told) if !warmed => store.since(self.service.as_deref(), told),
            _ => Since::Lost,
        };
        match since {
            Since::Changes { frames, rev } => {
                let now = Instant::now();
                if !frames.is_empty() {
                    self.sent = Some(now);
                }
                self.pending.extend(frames);
                self.told = Some(rev);
                // There was more than it hands out at once.
                self.look_at = (rev != store.rev()).then_some(now + GATHER);
            }
            Since::Lost => {
                let (rev, snapshot) = store.snapshot(self.service.as_deref());
                if self.told.is_some() && !warmed {
                    let reason = "this watcher was too slow, and changes were lost".to_owned();
                    let (epoch, warming) = (store.epoch().to_owned(), store.warming());
                    let answer = Answer { epoch, rev, warming, body: Resync { reason } };
                    let data = serde_json::to_string(&answer).expect("its keys are texts");
                    self.pending.push_back(frame(event::RESYNC, store.epoch(), rev, &data));
                }
                self.pending.push_back(snapshot);
                self.told = Some(rev);
                // The snapshot may be one that was made a few changes ago.
                self.look_at = (rev != store.rev()).then(Instant::now);
                self.warming = store.warming();
            }
        }
    }

    /// One chunk of what is pending: small events together, large ones in parts.
    fn take_pending(&mut self) -> Option<Bytes> {
        let mut first = self.pending.pop_front()?;
        if first.len() > CHUNK {
            let rest = first.split_off(CHUNK);
            self.pending.push_front(rest);
            return Some(first);
        }
        if self.pending.front().is_none_or(|next| first.len() + next.len() > CHUNK) {
            return Some(first);
        }
        let mut chunk = BytesMut::from(&*first);
        while let Some(next) = self.pending.front()
            && chunk.len() + next.len() <= CHUNK
        {
            chunk.extend_from_slice(next);
            self.pending.pop_front();
        }
        Some(chunk.freeze())
    }
}
