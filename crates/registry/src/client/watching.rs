//! Watching: one request whose answer goes on for as long as there are changes.

use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::discovery::Following;
use super::failure::{Failure, label};
use super::http::{BODY_STEPS, has_type};
use super::lists;
use super::polling::MAX_LIST;
use super::sse::{Event, Events};
use crate::wire::event;

const EVENTS: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The longest id of an event that is sent back, in bytes.
const MAX_EVENT_ID: usize = 256;

/// How a watch ended; the failure says why.
pub(super) enum Ended {
    /// It told nothing.
    NotBegun(Failure),
    /// It broke off, or was ended, after so long.
    Broken(Failure, Duration),
    /// What it told cannot be read.
    Nonsense(Failure),
}

/// What came out of some bytes of the watch.
#[derive(Default)]
struct Told {
    /// What is known has changed.
    changed: bool,
    /// Everything was told, and nothing of it is missing since.
    complete: bool,
    /// Something is missing: everything is to be told anew.
    lost: bool,
}

impl Following<'_> {
    /// Watches until that ends.
    pub(super) async fn watch(&mut self) -> Ended {
        let url = self.from.http.urls.watch(&self.from.service);
        let label = label(&Method::GET, &url);
        match self.open_watch(&label, url).await {
            Ok(response) => self.listen(&label, response).await,
            Err(failure) => Ended::NotBegun(failure),
        }
    }

    async fn open_watch(&self, label: &str, url: Url) -> Result<Response, Failure> {
        let http = &self.from.http;
        let complete = |mut request: RequestBuilder| {
            request = request.header(ACCEPT, EVENTS).header(CACHE_CONTROL, "no-cache");
            match &self.last_event {
                Some(id) => request.header(LAST_EVENT_ID, id),
                None => request,
            }
        };
        let response = http.open(label, Method::GET, url, complete, Duration::ZERO).await?;
        if response.status() != StatusCode::OK {
            return Err(http.refusal(label, response).await);
        }
        if !has_type(response.headers(), EVENTS) {
            return Err(Failure::new(label, "the answer is not events"));
        }
        Ok(response)
    }

    async fn listen(&mut self, label: &str, mut response: Response) -> Ended {
        let timeout = self.from.http.timeout();
        let opened = Instant::now();
        let mut events = Events::new(MAX_LIST);
        let mut begun = false;
        // Until when more of the snapshot must come, and all of it; none while nothing is missing.
        let mut due = self.last_event.is_none().then(|| opened + timeout);
        let mut all_due = opened + timeout * BODY_STEPS;
        let failure = loop {
            let silent = Instant::now() + self.from.silence;
            let chunk = match timeout_at(due.map_or(silent, |due| due.min(silent)), response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break Failure::new(label, "the registry ended the watch"),
                Ok(Err(error)) => break Failure::of_transport(label, &error),
                Err(_) if due.is_some_and(|due| due < silent) => {
                    break Failure::new(label, "no complete list came in time");
                }
                Err(_) => break Failure::of_silence(label, self.from.silence),
            };
            let told = match self.hear(&mut events, &chunk) {
                Ok(told) => told,
                Err(why) => {
                    // Continuing here would tell the same again.
                    self.lose_place();
                    let failure = Failure::new(label, why);
                    return if begun { Ended::Nonsense(failure) } else { Ended::NotBegun(failure) };
                }
            };
            if told.lost {
                all_due = Instant::now() + timeout * BODY_STEPS;
                due = Some(Instant::now() + timeout);
            } else if told.complete {
                due = None;
            } else if due.is_some() {
                due = Some(all_due.min(Instant::now() + timeout));
            }
            if told.changed {
                self.publish();
            } else if due.is_none() {
                self.confirm();
            }
            begun |= due.is_none();
        };
        if !begun {
            self.lose_place();
            Ended::NotBegun(failure)
        } else {
            Ended::Broken(failure, opened.elapsed())
        }
    }

    /// Takes what some bytes tell. An error is a sentence.
    fn hear(&mut self, events: &mut Events, bytes: &[u8]) -> Result<Told, String> {
        let mut told = Told::default();
        for event in events.read(bytes)? {
            self.take(&event, &mut told).map_err(|why| format!("event `{}`: {why}", event.name))?;
            let id = event.id.filter(|id| id.len() <= MAX_EVENT_ID);
            self.last_event = id.and_then(|id| HeaderValue::try_from(id).ok()).filter(|_| !told.lost);
        }
        Ok(told)
    }

    fn take(&mut self, event: &Event, told: &mut Told) -> Result<(), String> {
        let (data, service) = (event.data.as_bytes(), &self.from.service);
        match event.name.as_str() {
            event::SNAPSHOT => {
                self.known.adopt(lists::full(data, service)?);
                self.has_full_interface = true;
                *told = Told { changed: true, complete: true, lost: false };
            }
            event::PUT | event::DELETE => {
                let read = if event.name == event::PUT { lists::put } else { lists::delete };
                let (at, change) = read(data, service)?;
                self.known.apply(&at, change)?;
                told.changed = true;
            }
            event::RESYNC => {
                self.lose_place();
                *told = Told { lost: true, ..*told };
            }
            // One that a later registry has.
            _ => {}
        }
        Ok(())
    }

    /// What is known stays; where it stood in the registry's history is no longer known.
    fn lose_place(&mut self) {
        self.last_event = None;
        self.known.lose_place();
    }
}
