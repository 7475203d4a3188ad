//! [`Source`]: the service that a discovery reads, and the intervals at which it does.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use farcall_discovery::{Publisher, other_services};
use reqwest::Method;
use reqwest::header::ACCEPT;

use super::http::Http;
use crate::wire::{Envelope, Services};

/// The default of [`Source::refresh`].
const DEFAULT_REFRESH: Duration = Duration::from_secs(10);
/// The default of [`Source::wait`].
const DEFAULT_WAIT: Duration = Duration::from_secs(55);
/// The maximum size of the list of services, in bytes: some 10,000.
const MAX_SERVICES_BYTES: usize = 1024 * 1024;
/// The default of [`Source::silence`]: a registry pings more often.
const DEFAULT_SILENCE: Duration = Duration::from_secs(45);

/// One service in one registry.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) http: Http,
    pub(super) service: String,
    /// The interval between requests for the list, if the registry cannot be watched.
    pub(super) refresh: Duration,
    /// The time that a long poll waits for a change.
    pub(super) wait: Duration,
    /// The time without a byte after which a watch counts as broken.
    pub(super) silence: Duration,
}

impl Source {
    pub(super) fn new(http: Http, service: String) -> Self {
        Self { http, service, refresh: DEFAULT_REFRESH, wait: DEFAULT_WAIT, silence: DEFAULT_SILENCE }
    }

    /// Returns the same source with another HTTP client, for another runtime.
    pub(super) fn renewed(&self) -> Self {
        let Self { http, service, refresh, wait, silence } = self;
        let http = Http::new(http.options.clone());
        Self { http, service: service.clone(), refresh: *refresh, wait: *wait, silence: *silence }
    }

    /// Publishes which services the registry has instead, while the list is empty. Never ready.
    pub(super) async fn note_while_empty(&self, publisher: &Publisher) -> Infallible {
        publisher.note_while_empty(|| self.other_services()).await;
        pending().await
    }

    /// Returns a note with the services that have instances; `None` if the registry does not tell.
    async fn other_services(&self) -> Option<String> {
        let url = self.http.options.urls.services();
        let complete = |request: reqwest::RequestBuilder| request.header(ACCEPT, "application/json");
        let response =
            self.http.exchange(Method::GET, url, complete, Duration::ZERO, MAX_SERVICES_BYTES).await.ok()?;
        let body: Envelope<Services> = serde_json::from_slice(&response.body).ok()?;
        Some(other_services(body.body.services.into_iter().map(|service| service.name)))
    }

    /// Returns the source's name for logs.
    pub(super) fn describe(&self) -> String {
        let service = if self.service.is_empty() { "servers" } else { &self.service };
        format!("{service} at {}", self.http.options.urls.simple())
    }
}
