//! [`HttpDiscovery`]: finds the instances of a service in a registry over HTTP.
//!
//! Its settings are here; reading the registry is left to [`DiscoveryTask`](super::task).

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::{Backoff, Discovery, Instance, Jitter, Publisher};
use farcall_protocol::time::MAX_WAIT;
use farcall_transport::Dialer;

use super::http::Http;
use super::list_state::ListState;
use super::options::ClientOptions;
use super::settings::SettingsError;
use super::source::Source;
use super::task::DiscoveryTask;

/// The defaults of [`HttpDiscovery::backoff`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The minimum of [`HttpDiscovery::silence`].
const MIN_SILENCE: Duration = Duration::from_secs(1);
/// The minimum of [`HttpDiscovery::poll_interval`], and of pauses: a registry that is down must not be asked without one.
const MIN_REFRESH: Duration = Duration::from_millis(10);

/// Finds the instances of one service in a registry over HTTP.
///
/// It watches the registry if it can; otherwise it makes long polls, and if there is only the simple interface, it
/// requests the list every 10 s. The last list stays in force through every failure; only a well-formed one replaces
/// it.
///
/// Without a call that polls [`run`](Discovery::run), nothing is requested; a `Channel` of farcall's client does that.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_discovery::{Discovery, publisher};
/// use farcall_registry::client::HttpDiscovery;
/// # use farcall_registry::server::{Registry, RegistryOptions};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let registry = Registry::open(RegistryOptions::default()).await?;
/// # registry.register(farcall_discovery::Instance::new("Arith", "tcp@10.0.0.5:7001".parse()?))?;
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// # let router = registry.router(&[address]);
/// # tokio::spawn(async move { axum::serve(listener, router).await });
/// # let url = format!("http://{address}");
/// // For example "https://registry.example.com".
/// let discovery = HttpDiscovery::new(&url, "Arith")?.timeout(Duration::from_secs(2));
///
/// let (publisher, mut list) = publisher();
/// tokio::spawn(discovery.run(publisher));
/// let list = list.wait_for(|list| !list.endpoints.is_empty()).await?;
/// assert_eq!(list.endpoints[0].address.to_string(), "tcp@10.0.0.5:7001");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a discovery does nothing until it is run"]
pub struct HttpDiscovery {
    source: Source,
    backoff: Backoff,
}

impl HttpDiscovery {
    /// Creates a discovery of `service` in the registry at `url`: its origin, or the path of its simple interface. The
    /// service `""` is the plain list of servers. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], if the URL or the name is invalid.
    pub fn new(url: &str, service: impl Into<String>) -> Result<Self, SettingsError> {
        let service = service.into();
        Instance::check_service(&service)?;
        Ok(Self {
            source: Source::new(Http::new(ClientOptions::new(url)?), service),
            backoff: backoff(FIRST_PAUSE, MAX_PAUSE),
        })
    }

    /// Sets the bearer token for reading. Default: none. It is sent in clear text unless the URL begins with `https`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.source.http.options.set_token(token.into());
        self
    }

    /// Sets a file whose first line is the bearer token. It is read for each request, so that the token can be replaced
    /// while the client runs. A file that cannot be read is a failure like any other.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.source.http.options.set_token_file(path.into());
        self
    }

    /// Adds certificates (PEM) to trust for `https`, in addition to the system's.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Roots`], if they are not PEM, or there is none.
    pub fn extra_roots(mut self, pem: &[u8]) -> Result<Self, SettingsError> {
        self.source.http.options.add_roots(pem)?;
        Ok(self)
    }

    /// Sets what opens the streams to the registry, such as a [`Dialer`] with a
    /// [connector](Dialer::connector). Default: `None`, an HTTP client that keeps a connection, and that knows the proxies
    /// of the environment. With a dialer each request has a stream; TLS is the dialer's own, and so are its proxies, and
    /// the certificates that are trusted.
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.source.http.options.set_dialer(dialer);
        self
    }

    /// Sets the timeout of each step of a request: connecting, the response's beginning, and each pause in its body.
    /// Default 5 s; at least 1 ms. A whole body may take six times as long. Too short: a busy registry counts as down.
    /// Too long: a registry that hangs is noticed late.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.source.http.options.set_timeout(timeout);
        self
    }

    /// Sets the interval between requests for the list, if the registry cannot be watched. Default 10 s; at least 10 ms.
    /// Shorter: changes are seen sooner, at the price of more requests. After 30 intervals, watching is tried again.
    pub fn poll_interval(mut self, refresh: Duration) -> Self {
        self.source.refresh = refresh.clamp(MIN_REFRESH, MAX_WAIT);
        self
    }

    /// Sets how long a long poll waits for a change, in whole seconds. Default 55 s; at least 1 s. Longer: a registry that
    /// hangs is noticed later, or a proxy in between gives up first.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.source.wait = Duration::from_secs(wait.as_secs().clamp(1, MAX_WAIT.as_secs()));
        self
    }

    /// Sets the time without a byte after which a watch counts as broken. Default 45 s; at least 1 s. It must be longer than
    /// the registry's interval between pings, which is 15 s.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.source.silence = silence.clamp(MIN_SILENCE, MAX_WAIT);
        self
    }

    /// Sets the first and the longest pause after failures, with jitter. Default 1 s and 15 s; at least 10 ms. Shorter: a registry that
    /// comes back gets requests from more clients at once.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = backoff(first, max);
        self
    }
}

impl Discovery for HttpDiscovery {
    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn run(self, publisher: Publisher) {
        let state = ListState::new(self.describe(), &publisher, self.backoff);
        let task = DiscoveryTask::new(&self.source, state);
        tokio::select! {
            biased;
            // Cancel-safe: without a subscriber, its state is of no use.
            never = task.run() => match never {},
            // Cancel-safe: a note that is not published is of no use either.
            never = self.source.note_while_empty(&publisher) => match never {},
            () = publisher.closed() => {}
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(Self { source: self.source.renewed(), backoff: self.backoff.clone() })
    }
}

/// Half of a pause is certain, so that failures never cause a request at once.
fn backoff(first: Duration, max: Duration) -> Backoff {
    let first = first.max(MIN_REFRESH);
    Backoff::new(first, max.max(first)).jitter(Jitter::Equal)
}
