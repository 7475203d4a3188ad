//! [`Watch`]: one request whose response carries changes for as long as it lasts.

use std::time::Duration;

use farcall_discovery::source::aside;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::decode::{self, MAX_LIST_BYTES, Position};
use super::http::BODY_TIMEOUT_FACTOR;
use super::list_state::ListState;
use super::request_error::{RequestError, label};
use super::response::has_content_type;
use super::source::Source;
use super::sse::{Event, EventDecoder};
use crate::wire::event;

const EVENT_STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The end of a watch, with its cause.
pub(super) enum WatchEnd {
    /// The watch ended before a complete list.
    NotStarted(RequestError),
    /// The watch ended after this time.
    Broken(RequestError, Duration),
    /// The registry sent a malformed event.
    Malformed(RequestError),
}

/// The effect of some bytes of the watch.
#[derive(Clone, Copy, Default)]
struct WatchUpdate {
    /// The view has changed.
    changed: bool,
    /// The view is complete.
    complete: bool,
    /// Changes are missing: a snapshot must follow.
    lost: bool,
}

/// The deadlines of a snapshot that has still to arrive.
struct SnapshotDeadline {
    timeout: Duration,
    /// The deadline of the next bytes; `None` while no snapshot is missing.
    next: Option<Instant>,
    /// The deadline of the whole snapshot.
    all: Instant,
}

/// A watch of one service.
pub(super) struct Watch<'s, 'a> {
    source: &'a Source,
    state: &'s mut ListState<'a>,
    /// The position of the last event.
    last: Option<Position>,
}

impl<'s, 'a> Watch<'s, 'a> {
    pub(super) fn new(source: &'a Source, state: &'s mut ListState<'a>) -> Self {
        Self { source, state, last: None }
    }

    /// Watches until the watch ends.
    pub(super) async fn run(mut self) -> WatchEnd {
        let url = self.source.http.options.urls.watch(&self.source.service);
        let label = label(&Method::GET, &url);
        match self.open(&label, url).await {
            Ok(response) => self.read(&label, response).await,
            Err(error) => WatchEnd::NotStarted(error),
        }
    }

    async fn open(&self, label: &str, url: Url) -> Result<Response, RequestError> {
        let http = &self.source.http;
        let complete = |mut request: RequestBuilder| {
            request = request.header(ACCEPT, EVENT_STREAM).header(CACHE_CONTROL, "no-cache");
            match &self.state.last_event {
                Some(id) => request.header(LAST_EVENT_ID, id),
                None => request,
            }
        };
        let response = http.open(label, Method::GET, url, complete, Duration::ZERO).await?;
        if response.status() != StatusCode::OK {
            return Err(http.status_error(label, response).await);
        }
        if !has_content_type(response.headers(), EVENT_STREAM) {
            return Err(RequestError::new(label, "the answer is not events"));
        }
        Ok(response)
    }

    async fn read(&mut self, label: &str, mut response: Response) -> WatchEnd {
        let opened = Instant::now();
        let mut decoder = EventDecoder::new(MAX_LIST_BYTES);
        let mut started = false;
        let mut deadline = SnapshotDeadline::new(self.source.http.options.timeout);
        if self.state.last_event.is_some() {
            deadline.clear();
        }
        let error = loop {
            let silent_at = Instant::now() + self.source.silence;
            let chunk = match timeout_at(deadline.sooner(silent_at), response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break RequestError::new(label, "the registry ended the watch"),
                Ok(Err(error)) => break RequestError::of_transport(label, error),
                Err(_) if deadline.sooner(silent_at) < silent_at => {
                    break RequestError::new(label, "no complete list came in time");
                }
                Err(_) => break RequestError::of_silence(label, self.source.silence),
            };
            let update = match self.on_bytes(&mut decoder, &chunk).await {
                Ok(update) => update,
                Err(error) => {
                    // A watch that continues here would receive the same event again.
                    self.state.lose_position();
                    let error = RequestError::new(label, error);
                    return if started { WatchEnd::Malformed(error) } else { WatchEnd::NotStarted(error) };
                }
            };
            deadline.record(update);
            if update.changed {
                self.state.publish().await;
            } else if deadline.next.is_none() {
                self.state.confirm();
            }
            started |= deadline.next.is_none();
        };
        if !started {
            self.state.lose_position();
            return WatchEnd::NotStarted(error);
        }
        WatchEnd::Broken(error, opened.elapsed())
    }

    /// Applies the events that end in these bytes. The error is a message.
    async fn on_bytes(&mut self, decoder: &mut EventDecoder, bytes: &[u8]) -> Result<WatchUpdate, String> {
        let mut update = WatchUpdate::default();
        for Event { name, data, id } in decoder.decode(bytes)? {
            let applied = self.on_event(&name, data, update).await;
            update = applied.map_err(|error| format!("event `{name}`: {error}"))?;
            self.state.last_event = id.and_then(|id| HeaderValue::try_from(id).ok()).filter(|_| !update.lost);
        }
        Ok(update)
    }

    /// Applies one event after those of `update`.
    async fn on_event(
        &mut self,
        name: &str,
        data: String,
        update: WatchUpdate,
    ) -> Result<WatchUpdate, String> {
        let service = &self.source.service;
        match name {
            event::SNAPSHOT => {
                let service = service.clone();
                let list = aside(data.len(), move || decode::full_list(data.as_bytes(), &service)).await?;
                self.state.replace(list).await;
                let position = self.state.view.position();
                self.last = position.map(|(epoch, rev)| Position { epoch: epoch.to_owned(), rev });
                self.state.has_full_interface = true;
                Ok(WatchUpdate { changed: true, complete: true, lost: false })
            }
            event::PUT | event::DELETE => {
                let decode = if name == event::PUT { decode::put } else { decode::delete };
                let (at, change) = decode(data.as_bytes(), service)?;
                // Changes that a resumed watch repeats are ignored. But if a registry has lost its place, all of them would be.
                if let Some(last) = &self.last
                    && last.epoch == at.epoch
                    && last.rev > at.rev
                {
                    return Err(format!("the revision went back from {} to {}", last.rev, at.rev));
                }
                self.state.view.apply(&at, change)?;
                self.last = Some(at);
                Ok(WatchUpdate { changed: true, ..update })
            }
            event::RESYNC => {
                self.state.lose_position();
                Ok(WatchUpdate { lost: true, ..update })
            }
            // Unknown events may come from newer registries.
            _ => Ok(update),
        }
    }
}

impl SnapshotDeadline {
    fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self { timeout, next: Some(now + timeout), all: now + timeout * BODY_TIMEOUT_FACTOR }
    }

    /// Notes that no snapshot is missing.
    fn clear(&mut self) {
        self.next = None;
    }

    /// Moves the deadlines on after some bytes.
    fn record(&mut self, update: WatchUpdate) {
        if update.lost {
            *self = Self::new(self.timeout);
        } else if update.complete {
            self.clear();
        } else if self.next.is_some() {
            self.next = Some(self.all.min(Instant::now() + self.timeout));
        }
    }

    /// Returns the deadline of the next bytes, or `other` if that is sooner.
    fn sooner(&self, other: Instant) -> Instant {
        self.next.map_or(other, |next| next.min(other))
    }
}
