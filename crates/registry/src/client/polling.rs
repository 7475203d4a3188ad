//! [`Poller`]: requests the list again and again, by long polls or in the simple interface.

use std::time::Duration;

use farcall_discovery::source::aside;
use reqwest::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use tokio::time::{Instant, sleep};

use super::decode::{self, MAX_LIST_BYTES};
use super::list_state::ListState;
use super::request_error::{RequestError, RequestErrorKind, label};
use super::response::FullResponse;
use super::source::Source;

/// Refreshes after which a better interface is tried: 5 min by default.
const REFRESHES_BEFORE_UPGRADE: u32 = 30;
/// The pause between two long polls, in which changes are coalesced.
const COALESCE_WINDOW: Duration = Duration::from_millis(100);
/// A long poll that returns sooner without a change did not wait: the registry must not be asked as fast as it answers.
const MIN_LONG_POLL: Duration = Duration::from_secs(1);

/// Requests lists until it is time to try a better interface.
pub(super) struct Poller<'s, 'a> {
    source: &'a Source,
    state: &'s mut ListState<'a>,
}

impl<'s, 'a> Poller<'s, 'a> {
    pub(super) fn new(source: &'a Source, state: &'s mut ListState<'a>) -> Self {
        Self { source, state }
    }

    /// Requests lists of the full interface, by long polls if `long_poll`.
    pub(super) async fn poll_lists(&mut self, long_poll: bool) -> Result<(), RequestError> {
        let until = self.upgrade_at();
        while Instant::now() < until {
            let started = Instant::now();
            let before = self.state.view.position().map(|(epoch, rev)| (epoch.to_owned(), rev));
            self.request_list(long_poll).await?;
            let before = before.as_ref().map(|(epoch, rev)| (epoch.as_str(), *rev));
            let changed = self.state.view.position() != before;
            let waited = changed || started.elapsed() >= MIN_LONG_POLL;
            let at_once = long_poll && waited && !self.state.view.is_incomplete();
            sleep(if at_once { COALESCE_WINDOW } else { self.pause() }).await;
        }
        Ok(())
    }

    /// Requests lists of the simple interface.
    pub(super) async fn poll_simple(&mut self) -> Result<(), RequestError> {
        let until = self.upgrade_at();
        // Lists of the full interface have other ETags.
        let mut etag = None;
        while Instant::now() < until {
            self.request_simple_list(&mut etag).await?;
            sleep(self.pause()).await;
        }
        Ok(())
    }

    async fn request_list(&mut self, long_poll: bool) -> Result<(), RequestError> {
        let mut url = self.source.http.options.urls.list(&self.source.service);
        // The end of warming changes no revision, so a long poll would not report it.
        let position = self.state.view.position().filter(|_| long_poll && !self.state.view.is_incomplete());
        if let Some((epoch, rev)) = position {
            url.query_pairs_mut()
                .append_pair("epoch", epoch)
                .append_pair("rev", &rev.to_string())
                .append_pair("wait", &format!("{}s", self.source.wait.as_secs()));
        }
        let conditional = position.is_some();
        let extra_wait = if conditional { self.source.wait } else { Duration::ZERO };
        let label = label(&Method::GET, &url);
        let response = self.get(url, None, extra_wait).await?;
        if response.status == StatusCode::NOT_MODIFIED && conditional {
            self.state.confirm();
            return Ok(());
        }
        if response.status != StatusCode::OK {
            return Err(RequestError::of_status(&label, &response));
        }
        let (body, service) = (response.body, self.source.service.clone());
        let is_full = decode::is_full_list(&body);
        let decoding = aside(body.len(), move || decode::full_list(&body, &service));
        let list = decoding.await.map_err(|error| {
            // Registries with the simple interface only may answer any path with their list, or with a page.
            let kind = if self.state.has_full_interface || is_full {
                RequestErrorKind::Other
            } else {
                RequestErrorKind::NoRoute
            };
            RequestError::new(&label, error).with_kind(kind)
        })?;
        self.state.has_full_interface = true;
        // The next watch must begin with a snapshot.
        self.state.last_event = None;
        self.state.adopt(list).await;
        Ok(())
    }

    async fn request_simple_list(&mut self, etag: &mut Option<HeaderValue>) -> Result<(), RequestError> {
        let url = self.source.http.options.urls.simple_list(&self.source.service);
        let label = label(&Method::GET, &url);
        let response = self.get(url, etag.as_ref(), Duration::ZERO).await?;
        if response.status == StatusCode::NOT_MODIFIED && etag.is_some() {
            self.state.confirm();
            return Ok(());
        }
        if response.status != StatusCode::OK {
            return Err(RequestError::of_status(&label, &response));
        }
        let tag = response.headers.get(ETAG).cloned();
        let decoding = aside(response.body.len(), move || decode::simple_list(&response));
        let list = decoding.await.map_err(|error| RequestError::new(&label, error))?;
        // The ETag of an incomplete list could suppress the complete one.
        *etag = tag.filter(|_| !list.warming);
        self.state.last_event = None;
        self.state.adopt(list).await;
        Ok(())
    }

    async fn get(
        &self,
        url: Url,
        etag: Option<&HeaderValue>,
        extra_wait: Duration,
    ) -> Result<FullResponse, RequestError> {
        let complete = |mut request: RequestBuilder| {
            request = request.header(ACCEPT, "application/json").header(CACHE_CONTROL, "no-cache");
            match etag {
                Some(etag) => request.header(IF_NONE_MATCH, etag),
                None => request,
            }
        };
        self.source.http.exchange(Method::GET, url, complete, extra_wait, MAX_LIST_BYTES).await
    }

    /// Returns when to try a better interface.
    fn upgrade_at(&self) -> Instant {
        Instant::now() + self.source.refresh * REFRESHES_BEFORE_UPGRADE
    }

    /// Returns the refresh interval, shortened at random by up to 10%, so that clients that started together spread.
    fn pause(&self) -> Duration {
        self.source.refresh.mul_f64(0.9 + 0.1 * fastrand::f64())
    }
}
