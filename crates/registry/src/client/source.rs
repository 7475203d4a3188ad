//! [`Source`]: the service that a discovery reads, and the intervals at which it does.

use std::time::Duration;

use super::http::Http;

/// The default of [`Source::refresh`].
const DEFAULT_REFRESH: Duration = Duration::from_secs(10);
/// The default of [`Source::wait`].
const DEFAULT_WAIT: Duration = Duration::from_secs(55);
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

    /// Returns the source's name for logs.
    pub(super) fn describe(&self) -> String {
        let service = if self.service.is_empty() { "servers" } else { &self.service };
        format!("{service} at {}", self.http.options.urls.simple())
    }
}
