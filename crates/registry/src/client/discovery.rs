//! [`HttpDiscovery`]: finding the instances of a service in a registry over HTTP.
//!
//! Here is what is set, and which interface is used when; how each is used is in
//! [`watching`](super::watching) and [`polling`](super::polling).

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::{Discovery, Instance, Publisher};
use reqwest::header::HeaderValue;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::backoff::{Backoff, FIRST_PAUSE, LONGEST_PAUSE};
use super::failure::{Failure, Kind};
use super::http::Http;
use super::known::Known;
use super::lists::List;
use super::settings::SettingsError;
use super::watching::Ended;

/// How often the list is asked for where it cannot be watched.
const DEFAULT_REFRESH: Duration = Duration::from_secs(10);
/// How long a long poll waits for a change.
const DEFAULT_WAIT: Duration = Duration::from_secs(55);
/// How long a watch may be silent: a registry pings more often.
const DEFAULT_SILENCE: Duration = Duration::from_secs(45);
/// So many watches one after the other may break soon before the list is polled for a while.
const BROKEN_WATCHES: u32 = 3;
/// What is not soon.
const LASTED: Duration = Duration::from_secs(30);

/// Finds the instances of one service in the registry at a URL.
///
/// It watches where the registry can be watched; where it can't, it asks by long polls, and where
/// there is only the simple interface, it asks every 10 s. The last list stays in force through
/// every failure; only a well-formed one replaces it.
#[derive(Debug)]
pub struct HttpDiscovery {
    pub(super) http: Http,
    pub(super) service: String,
    pub(super) refresh: Duration,
    pub(super) wait: Duration,
    pub(super) silence: Duration,
    backoff: Backoff,
}

impl HttpDiscovery {
    /// Finds the instances of `service` in the registry at this URL: its origin, or the path of its
    /// simple interface. The service `""` is the plain list of servers. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, or with the name.
    pub fn new(url: &str, service: impl Into<String>) -> Result<Self, SettingsError> {
        let service = service.into();
        Instance::check_service(&service)?;
        Ok(Self {
            http: Http::new(url)?,
            service,
            refresh: DEFAULT_REFRESH,
            wait: DEFAULT_WAIT,
            silence: DEFAULT_SILENCE,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        })
    }

    /// The bearer token for reading; none if not set. It crosses the network as it is unless the URL
    /// begins with `https`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.http.set_token(token.into());
        self
    }

    /// A file whose first line is the bearer token. It is read for each request, so that the token can
    /// be replaced while the client runs; that it does not read is a failure like any other.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.http.set_token_file(path.into());
        self
    }

    /// Trusts these certificates (PEM) beside the system's, for `https`.
    ///
    /// # Errors
    ///
    /// They are not PEM, or there is none.
    pub fn extra_roots(mut self, pem: &[u8]) -> Result<Self, SettingsError> {
        self.http.add_roots(pem)?;
        Ok(self)
    }

    /// How long connecting may take, how long an answer may be in coming, and how long it may stop
    /// in its middle; 5 s if not set. The whole of an answer may take six times as long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.set_timeout(timeout);
        self
    }

    /// How often the list is asked for where it cannot be watched, at least 10 ms; 10 s if not set.
    /// Shorter, and changes are seen sooner at the price of as many more requests. After 30 times this
    /// it is looked whether the registry can be watched by now.
    #[must_use]
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.refresh = refresh.max(Duration::from_millis(10));
        self
    }

    /// How long a long poll waits for a change, in whole seconds, at least one; 55 s if not set. Longer,
    /// and a registry that is silent is found out later, or a proxy in between gives up first.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Duration::from_secs(wait.as_secs().max(1));
        self
    }

    /// After how long without a byte a watch counts as broken; 45 s if not set. It must be longer than
    /// the registry's pause between pings.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The first and the longest pause after failures, with jitter; 1 s and 15 s if not set. Shorter,
    /// and a registry that comes back is met by more clients at once.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = Backoff::new(first, longest);
        self
    }
}

impl Discovery for HttpDiscovery {
    fn describe(&self) -> String {
        let service = if self.service.is_empty() { "servers" } else { &self.service };
        format!("{service} at {}", self.http.urls.simple())
    }

    async fn run(self, publisher: Publisher) {
        let following = Following {
            known: Known::default(),
            has_full_interface: false,
            last_event: None,
            told: None,
            backoff: self.backoff.clone(),
            publisher: &publisher,
            from: &self,
        };
        tokio::select! {
            // Dropping it loses nothing that anybody still wants.
            never = following.follow() => match never {},
            () = publisher.closed() => {}
        }
    }
}

/// How the registry is asked, from the best to the plainest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// It tells of changes.
    Watch,
    /// It answers when there is a change.
    LongPoll,
    /// It answers at once, for it has too many that wait.
    Lists,
    /// It has the simple interface only.
    Simple,
}

/// A discovery that runs.
pub(super) struct Following<'a> {
    pub(super) from: &'a HttpDiscovery,
    pub(super) known: Known,
    /// A list of the full interface has come: what is no list there is a failure, not a lesser registry.
    pub(super) has_full_interface: bool,
    /// The name of the watch's last event.
    pub(super) last_event: Option<HeaderValue>,
    publisher: &'a Publisher,
    /// The failure that was told last, if it lasts.
    told: Option<String>,
    backoff: Backoff,
}

impl Following<'_> {
    async fn follow(mut self) -> std::convert::Infallible {
        let mut interface = Interface::Watch;
        let mut broken_watches = 0;
        loop {
            interface = match interface {
                Interface::Watch => match self.watch().await {
                    Ended::NotBegun(failure) if failure.kind == Kind::Unreachable => {
                        self.fail(&failure).await
                    }
                    Ended::NotBegun(failure) => {
                        debug!(registry = self.from.describe(), %failure, "it cannot be watched; polling");
                        Interface::LongPoll
                    }
                    Ended::Nonsense(failure) => self.fail(&failure).await,
                    // Registries restart and proxies end what takes long: no failure if the next one works.
                    Ended::Broken(failure, lasted) => {
                        debug!(registry = self.from.describe(), %failure, "the watch ended");
                        broken_watches = if lasted < LASTED { broken_watches + 1 } else { 0 };
                        sleep(self.backoff.next()).await;
                        match broken_watches % BROKEN_WATCHES {
                            0 if lasted < LASTED => Interface::LongPoll,
                            _ => Interface::Watch,
                        }
                    }
                },
                Interface::LongPoll => match self.poll_lists(true).await {
                    Ok(()) => Interface::Watch,
                    Err(failure) if failure.kind == Kind::NoRoute => Interface::Simple,
                    Err(failure) if failure.kind == Kind::Busy => Interface::Lists,
                    Err(failure) => self.fail(&failure).await,
                },
                Interface::Lists => match self.poll_lists(false).await {
                    Ok(()) => Interface::Watch,
                    Err(failure) if failure.kind == Kind::NoRoute => Interface::Simple,
                    Err(failure) => self.fail(&failure).await,
                },
                Interface::Simple => match self.poll_simple().await {
                    Ok(()) => Interface::Watch,
                    Err(failure) => self.fail(&failure).await,
                },
            };
        }
    }

    /// Tells of a failure, once while it is the same, and waits before everything is tried anew.
    async fn fail(&mut self, failure: &Failure) -> Interface {
        let why = failure.to_string();
        if self.told.as_ref() != Some(&why) {
            warn!(registry = self.from.describe(), why, "the last list stays in force");
            self.publisher.failed(&*why);
            self.told = Some(why);
        }
        sleep(self.backoff.next()).await;
        Interface::Watch
    }

    /// Takes a list that came.
    pub(super) fn adopt(&mut self, list: List) {
        self.known.adopt(list);
        self.publish();
    }

    /// What is known has changed.
    pub(super) fn publish(&mut self) {
        self.publisher.publish(self.known.endpoints());
        self.succeed();
    }

    /// What is known is still true.
    pub(super) fn confirm(&mut self) {
        self.publisher.confirm();
        self.succeed();
    }

    fn succeed(&mut self) {
        self.backoff.reset();
        if self.told.take().is_some() {
            info!(registry = self.from.describe(), "the list is renewed again");
        }
    }
}
