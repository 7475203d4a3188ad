//! [`ListState`]: the instances that a discovery has received, their publication, and the failure that lasts.

use std::time::Duration;

use farcall_discovery::source::{aside, publish_of};
use farcall_discovery::{Backoff, Endpoint, Publisher};
use farcall_transport::log::LogThrottle;
use reqwest::header::HeaderValue;
use tracing::{info, warn};

use super::decode::InstanceList;
use super::request_error::RequestError;
use super::service_view::ServiceView;

/// The state of a discovery, which its ways of asking the registry share.
pub(super) struct ListState<'a> {
    /// The registry's name in logs.
    registry: String,
    pub(super) view: ServiceView,
    /// `true` once a list of the full interface was read: a malformed one is a failure from then on, and no sign of a
    /// registry that has the simple interface only.
    pub(super) has_full_interface: bool,
    /// The id of the watch's last event.
    pub(super) last_event: Option<HeaderValue>,
    publisher: &'a Publisher,
    backoff: Backoff,
    /// The failure that was reported last; `None` after a success.
    reported: Option<String>,
    /// A registry whose failures come and go must not fill the log.
    log: LogThrottle,
}

impl<'a> ListState<'a> {
    pub(super) fn new(registry: String, publisher: &'a Publisher, backoff: Backoff) -> Self {
        Self {
            registry,
            view: ServiceView::default(),
            has_full_interface: false,
            last_event: None,
            publisher,
            backoff,
            reported: None,
            log: LogThrottle::new(),
        }
    }

    /// Replaces the instances by those of a list, and publishes them.
    pub(super) async fn adopt(&mut self, list: InstanceList) {
        self.replace(list).await;
        self.publish().await;
    }

    /// Replaces the instances by those of a list.
    pub(super) async fn replace(&mut self, list: InstanceList) {
        let count = self.view.count().max(list.endpoints.len());
        let mut view = std::mem::take(&mut self.view);
        self.view = aside(count.saturating_mul(size_of::<Endpoint>()), move || {
            view.adopt(list);
            view
        })
        .await;
    }

    /// Publishes the instances, after a change.
    pub(super) async fn publish(&mut self) {
        let (count, view) = (self.view.count(), std::mem::take(&mut self.view));
        self.view = publish_of(self.publisher, count, view, |view| view.endpoints()).await;
        self.record_success();
    }

    /// Confirms that the published instances are current.
    pub(super) fn confirm(&mut self) {
        self.publisher.confirm();
        self.record_success();
    }

    /// Keeps the instances, but not their position in the registry's history: the next watch begins with a snapshot.
    pub(super) fn lose_position(&mut self) {
        self.last_event = None;
        self.view.lose_position();
    }

    /// Reports a failure, once for as long as it is the same.
    pub(super) fn report(&mut self, error: &RequestError) {
        let message = error.to_string();
        if self.reported.as_ref() != Some(&message) {
            if let Some(line) = self.log.permit() {
                let suppressed = line.suppressed;
                warn!(registry = self.registry, error = message, suppressed, "the last list stays in force");
            }
            self.publisher.failed(&*message);
            self.reported = Some(message);
        }
    }

    /// Returns the pause after one more failure.
    pub(super) fn next_pause(&mut self) -> Duration {
        self.backoff.next_pause()
    }

    fn record_success(&mut self) {
        self.backoff.reset();
        if self.reported.take().is_some()
            && let Some(line) = self.log.permit()
        {
            info!(registry = self.registry, suppressed = line.suppressed, "the list is current again");
        }
    }
}
