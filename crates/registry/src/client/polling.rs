//! Asking for the list again and again: by long polls, and in the simple interface.

use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use tokio::time::{Instant, sleep};

use super::discovery::Following;
use super::failure::{Failure, Kind, label};
use super::http::Answered;
use super::lists;

/// The longest list that is read, in bytes: some 60,000 instances.
pub(super) const MAX_LIST: usize = 16 * 1024 * 1024;
/// After how many refreshes a client that polls looks for something better: 5 min, if nothing is set.
const LOOK_AGAIN: u32 = 30;
/// The pause between two long polls, in which changes that come close together are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// A long poll that comes back sooner without a change did not wait: the registry must not be asked
/// as fast as it answers.
const DID_NOT_WAIT: Duration = Duration::from_secs(1);

impl Following<'_> {
    /// Asks for the full interface's list; with `patient`, waits there for changes. Returns when it is
    /// time to look for something better.
    pub(super) async fn poll_lists(&mut self, patient: bool) -> Result<(), Failure> {
        let until = Instant::now() + self.from.refresh * LOOK_AGAIN;
        while Instant::now() < until {
            let asked = Instant::now();
            let before = self.known.position().map(|(epoch, rev)| (epoch.to_owned(), rev));
            self.ask_for_list(patient).await?;
            let before = before.as_ref().map(|(epoch, rev)| (epoch.as_str(), *rev));
            let moved = self.known.position() != before;
            let waited = moved || asked.elapsed() >= DID_NOT_WAIT;
            sleep(if patient && waited && !self.known.is_incomplete() { GATHER } else { self.pause() }).await;
        }
        Ok(())
    }

    async fn ask_for_list(&mut self, patient: bool) -> Result<(), Failure> {
        let mut url = self.from.http.urls.list(&self.from.service);
        // While the registry warms, the end of it is what is waited for, and no long poll tells of that.
        let known = self.known.position().filter(|_| patient && !self.known.is_incomplete());
        if let Some((epoch, rev)) = known {
            url.query_pairs_mut()
                .append_pair("epoch", epoch)
                .append_pair("rev", &rev.to_string())
                .append_pair("wait", &format!("{}s", self.from.wait.as_secs()));
        }
        let conditional = known.is_some();
        let patience = if conditional { self.from.wait } else { Duration::ZERO };
        let label = label(&Method::GET, &url);
        let answered = self.get(url, None, patience).await?;
        if answered.status == StatusCode::NOT_MODIFIED && conditional {
            self.confirm();
            return Ok(());
        }
        if answered.status != StatusCode::OK {
            return Err(Failure::of_status(&label, &answered));
        }
        let list = lists::full(&answered.body, &self.from.service).map_err(|why| {
            // Some registries of twenty lines answer any path with their only list, or with a page.
            let kind = if self.has_full_interface { Kind::Other } else { Kind::NoRoute };
            Failure::new(&label, why).of_kind(kind)
        })?;
        self.has_full_interface = true;
        // A watch that follows begins with a list of its own.
        self.last_event = None;
        self.adopt(list);
        Ok(())
    }

    /// Asks for the simple interface's list. Returns when it is time to look for something better.
    pub(super) async fn poll_simple(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + self.from.refresh * LOOK_AGAIN;
        // What names the last list; lists of the full interface have none of these names.
        let mut etag = None;
        while Instant::now() < until {
            self.ask_for_simple_list(&mut etag).await?;
            sleep(self.pause()).await;
        }
        Ok(())
    }

    async fn ask_for_simple_list(&mut self, etag: &mut Option<HeaderValue>) -> Result<(), Failure> {
        let url = self.from.http.urls.simple_list(&self.from.service);
        let label = label(&Method::GET, &url);
        let answered = self.get(url, etag.as_ref(), Duration::ZERO).await?;
        if answered.status == StatusCode::NOT_MODIFIED && etag.is_some() {
            self.confirm();
            return Ok(());
        }
        if answered.status != StatusCode::OK {
            return Err(Failure::of_status(&label, &answered));
        }
        let list = lists::simple(&answered).map_err(|why| Failure::new(&label, why))?;
        // That of a list which is not complete would keep the complete one away.
        *etag = answered.headers.get(ETAG).filter(|_| !list.warming).cloned();
        self.last_event = None;
        self.adopt(list);
        Ok(())
    }

    async fn get(
        &self,
        url: Url,
        etag: Option<&HeaderValue>,
        patience: Duration,
    ) -> Result<Answered, Failure> {
        let http = &self.from.http;
        let complete = |mut request: RequestBuilder| {
            request = request.header(ACCEPT, "application/json").header(CACHE_CONTROL, "no-cache");
            match etag {
                Some(etag) => request.header(IF_NONE_MATCH, etag),
                None => request,
            }
        };
        http.exchange(Method::GET, url, complete, patience, MAX_LIST).await
    }

    /// A little shorter than is set, so that clients that began together do not stay so.
    fn pause(&self) -> Duration {
        self.from.refresh.mul_f64(0.9 + 0.1 * fastrand::f64())
    }
}
