//! [`HttpRegistrar`]: registers a server in a registry over HTTP.
//!
//! When heartbeats are sent is left to [`keep_registered`](farcall_discovery::keep_registered).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farcall_discovery::{Instance, Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};
use farcall_protocol::time::millis;
use farcall_transport::Dialer;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::decode::diagnose;
use super::http::{Http, MAX_SMALL_BODY};
use super::options::ClientOptions;
use super::request_error::{RequestError, RequestErrorKind, label};
use super::response::FullResponse;
use super::settings::SettingsError;
use crate::wire::{self, RegistrationToken};

/// The heartbeat interval if neither the registry nor [`HttpRegistrar::heartbeat`] sets it.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(4 * 60);
/// Heartbeats in a time to live, if the registry sets only that.
const HEARTBEATS_PER_TTL: u32 = 3;

/// Registers instances in a registry over HTTP.
///
/// Each registration has a token, which its renewals and its removal carry: where another server has registered the same
/// instance, deregistering ends this registration only.
///
/// It uses the full interface if the registry has it, otherwise the simple one. That keeps no metadata and no id other
/// than the address, and has no removal: deregistering registers the instance with weight 0 for a second.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_discovery::{Instance, Registrar, keep_registered};
/// use farcall_registry::client::HttpRegistrar;
///
/// let registrar = HttpRegistrar::new("http://registry:7100")?.token_file("/etc/farcall/write-token");
/// let instance = Instance::new("Arith", "tcp@10.0.0.5:7001".parse()?);
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// keep_registered(registrar, instance, stop).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a registrar does nothing until it is used"]
pub struct HttpRegistrar {
    http: Http,
    ttl: Option<Duration>,
    heartbeat: Option<Duration>,
    /// The tokens of registrations whose outcome is unknown: the next attempt for the instance uses the same, so that
    /// what was registered is not registered twice. At most one for each attempt that was under way at once.
    unanswered: Mutex<Vec<(String, String, RegistrationToken)>>,
}

/// The lease of a registered instance: the interface through which it was registered, and the registration's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLease {
    interface: Interface,
    token: Option<RegistrationToken>,
}

/// The registry's answer to a registration or a heartbeat.
struct Answer {
    /// The time until the next heartbeat.
    heartbeat: Duration,
    token: Option<RegistrationToken>,
}

/// The token of a registration under way, which is kept for the next attempt unless the registry answers.
struct Attempt<'a> {
    registrar: &'a HttpRegistrar,
    instance: &'a Instance,
    token: Option<RegistrationToken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    Full,
    Simple,
}

impl HttpRegistrar {
    /// Creates a registrar for the registry at `url`: its origin, or the path of its simple interface. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], if the URL is invalid.
    pub fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            http: Http::new(ClientOptions::new(url)?),
            ttl: None,
            heartbeat: None,
            unanswered: Mutex::default(),
        })
    }

    /// Sets the bearer token for writing. Default: none. It is sent in clear text unless the URL begins with `https`.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.http.options.set_token(token.into());
        self
    }

    /// Sets a file whose first line is the bearer token. It is read for each request, so that the token can be replaced
    /// while the server runs. A file that cannot be read is a failure like any other.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.http.options.set_token_file(path.into());
        self
    }

    /// Adds certificates (PEM) to trust for `https`, in addition to the system's.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Roots`], if they are not PEM, or there is none.
    pub fn extra_roots(mut self, pem: &[u8]) -> Result<Self, SettingsError> {
        self.http.options.add_roots(pem)?;
        Ok(self)
    }

    /// Sets what opens the streams to the registry, such as a [`Dialer`] with a
    /// [connector](Dialer::connector). Default: `None`, an HTTP client that keeps a connection, and that knows the proxies
    /// of the environment. With a dialer each request has a stream; TLS is the dialer's own, and so are its proxies, and
    /// the certificates that are trusted.
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.http.options.set_dialer(dialer);
        self
    }

    /// Sets the time to live of instances that have none, from 1 s to 1 day. Default: `None`, the registry's, which is
    /// 5 minutes unless it is set there; 30 s, with a heartbeat every 10 s, suits production. Too short: a brief network
    /// failure removes servers. Too long: clients try crashed servers.
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets the interval between heartbeats. Default: the registry's. It must be well below the time to live, so that a
    /// heartbeat may be lost.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Sets the timeout of each step of a request: connecting, the response's beginning, and each pause in its body.
    /// Default 5 s; at least 1 ms. Registering may need two requests.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.options.set_timeout(timeout);
        self
    }

    /// Returns the instance as it is sent: checked, and with a time to live.
    fn complete(&self, instance: &Instance) -> Result<Instance, RegistrarError> {
        let mut instance = instance.clone();
        if let (None, Some(ttl)) = (instance.ttl_ms, self.ttl) {
            instance.ttl_ms = Some(millis(ttl));
        }
        Ok(instance.check()?)
    }

    async fn put(
        &self,
        instance: &Instance,
        token: Option<&RegistrationToken>,
    ) -> Result<Answer, RequestError> {
        let url = self.http.options.urls.instance(instance);
        self.send(Method::PUT, url, instance, |request| with_token(request, token).json(instance)).await
    }

    async fn post(
        &self,
        instance: &Instance,
        token: Option<&RegistrationToken>,
    ) -> Result<Answer, RequestError> {
        let url = self.http.options.urls.simple().clone();
        let headers = |mut request: RequestBuilder| {
            request = with_token(request, token).header(wire::SERVER, instance.addr.to_string()).body("");
            if !instance.service.is_empty() {
                request = request.header(wire::SERVICE, &instance.service);
            }
            request = request.header(wire::WEIGHT, instance.weight);
            if let Some(zone) = &instance.zone {
                request = request.header(wire::ZONE, zone);
            }
            if let Some(version) = &instance.version {
                request = request.header(wire::VERSION, version);
            }
            if let Some(ttl_ms) = instance.ttl_ms {
                request = request.header(wire::TTL_MS, ttl_ms);
            }
            request
        };
        self.send(Method::POST, url, instance, headers).await
    }

    async fn heartbeat_once(
        &self,
        instance: &Instance,
        token: Option<&RegistrationToken>,
    ) -> Result<Answer, RequestError> {
        let url = self.http.options.urls.heartbeat(instance);
        self.send(Method::POST, url, instance, |request| with_token(request, token).body("")).await
    }

    /// Sends a registration or a heartbeat.
    async fn send(
        &self,
        method: Method,
        url: Url,
        instance: &Instance,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, RequestError> {
        let label = label(&method, &url);
        let response = self.http.exchange(method, url, complete, Duration::ZERO, MAX_SMALL_BODY).await?;
        if !response.status.is_success() {
            return Err(RequestError::of_status(&label, &response));
        }
        self.read_answer(&response, instance).map_err(|error| RequestError::new(&label, error))
    }

    fn read_answer(&self, response: &FullResponse, instance: &Instance) -> Result<Answer, String> {
        // `wire::Registration`, of which a registry of twenty lines may omit any field.
        #[derive(Deserialize)]
        struct PartialRegistration {
            token: Option<String>,
            ttl_ms: Option<u64>,
            heartbeat_ms: Option<u64>,
        }
        // A body that is not JSON, such as a proxy's login page, means that nothing was registered.
        let registration: PartialRegistration =
            serde_json::from_slice(&response.body).map_err(|error| diagnose(&response.body, &error))?;
        let of_ttl = |ttl_ms| Duration::from_millis(ttl_ms) / HEARTBEATS_PER_TTL;
        let heartbeat = self
            .heartbeat
            .or(registration.heartbeat_ms.map(Duration::from_millis))
            .or(registration.ttl_ms.or(instance.ttl_ms).map(of_ttl))
            .unwrap_or(DEFAULT_HEARTBEAT);
        // A token that no header can carry would make every heartbeat fail.
        let token = registration.token.and_then(|token| RegistrationToken::parse(&token).ok());
        Ok(Answer { heartbeat, token })
    }

    /// Begins a registration, with the token of an earlier attempt that was not answered if there is one.
    fn begin<'a>(&'a self, instance: &'a Instance) -> Attempt<'a> {
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let known = unanswered
            .iter()
            .position(|(service, id, _)| (service, id) == (&instance.service, &instance.id))
            .map(|at| unanswered.swap_remove(at).2);
        let token = known.unwrap_or_else(RegistrationToken::random);
        Attempt { registrar: self, instance, token: Some(token) }
    }
}

impl Attempt<'_> {
    /// Makes the lease of a registration that was answered.
    fn registered(mut self, interface: Interface, answer: Answer) -> Registered<HttpLease> {
        self.token = None;
        Registered::new(HttpLease { interface, token: answer.token }, answer.heartbeat)
    }
}

/// Keeps the token if the registration failed or was cancelled: the registry may have executed it all the same.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        let Instance { service, id, .. } = self.instance;
        let mut unanswered = self.registrar.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.push((service.clone(), id.clone(), token));
    }
}

impl Registrar for HttpRegistrar {
    type Lease = HttpLease;

    fn describe(&self) -> String {
        self.http.options.urls.simple().to_string()
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<HttpLease>, RegistrarError> {
        let instance = self.complete(instance)?;
        let attempt = self.begin(&instance);
        let full = match self.put(&instance, attempt.token.as_ref()).await {
            Ok(answer) => return Ok(attempt.registered(Interface::Full, answer)),
            Err(error) if error.kind == RequestErrorKind::NoRoute => error,
            Err(error) => return Err(failed(&error)),
        };
        match self.post(&instance, attempt.token.as_ref()).await {
            Ok(answer) => Ok(attempt.registered(Interface::Simple, answer)),
            Err(simple) => {
                Err(RegistrarError::new(registrar_error_kind(&simple), format!("{simple}; {full}")))
            }
        }
    }

    async fn renew(&self, instance: &Instance, lease: &mut HttpLease) -> Result<Renewal, RegistrarError> {
        let instance = self.complete(instance)?;
        let outcome = match lease.interface {
            Interface::Full => self.heartbeat_once(&instance, lease.token.as_ref()).await,
            Interface::Simple => self.post(&instance, lease.token.as_ref()).await,
        };
        match outcome {
            Ok(answer) => {
                // A registry that was replaced by one that knows tokens answers the first one here.
                lease.token = answer.token.or(lease.token.take());
                Ok(Renewal::Renewed(answer.heartbeat))
            }
            // The instance, its registration or the interface is gone: registering again finds out which.
            Err(error) if error.kind == RequestErrorKind::NoRoute => Ok(Renewal::Unknown),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn deregister(&self, instance: &Instance, lease: HttpLease) -> Result<(), RegistrarError> {
        let mut instance = self.complete(instance)?;
        let token = lease.token.as_ref();
        match lease.interface {
            Interface::Full => {
                let url = self.http.options.urls.instance(&instance);
                let label = label(&Method::DELETE, &url);
                let complete = |request| with_token(request, token);
                let response = self
                    .http
                    .exchange(Method::DELETE, url, complete, Duration::ZERO, MAX_SMALL_BODY)
                    .await
                    .map_err(|error| failed(&error))?;
                if response.status.is_success() || response.status == StatusCode::NOT_FOUND {
                    Ok(())
                } else {
                    Err(failed(&RequestError::of_status(&label, &response)))
                }
            }
            Interface::Simple => {
                instance.weight = 0;
                instance.ttl_ms = Some(millis(Instance::MIN_TTL));
                self.post(&instance, token).await.map(drop).map_err(|error| failed(&error))
            }
        }
    }
}

fn with_token(request: RequestBuilder, token: Option<&RegistrationToken>) -> RequestBuilder {
    match token {
        Some(token) => request.header(wire::TOKEN, token.as_str()),
        None => request,
    }
}

fn failed(error: &RequestError) -> RegistrarError {
    RegistrarError::from_source(registrar_error_kind(error), error.clone())
}

fn registrar_error_kind(error: &RequestError) -> RegistrarErrorKind {
    match error.kind {
        RequestErrorKind::Unreachable | RequestErrorKind::Busy | RequestErrorKind::Proxy => {
            RegistrarErrorKind::Unavailable
        }
        RequestErrorKind::NoRoute => RegistrarErrorKind::Rejected,
        RequestErrorKind::Other => RegistrarErrorKind::Other,
    }
}
