//! [`HttpRegistrar`]: registering a server in a registry over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::{Instance, Registered, Registrar, RegistrarError, Renewal};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::failure::{Failure, Kind, label};
use super::http::{Answered, Http, SMALL_BODY};
use super::lists::diagnose;
use super::settings::SettingsError;
use crate::wire;

/// When to renew where neither the registry nor anybody else says so.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(4 * 60);
/// How many heartbeats fit into a time to live, where the registry says only that.
const HEARTBEATS_OF_A_TTL: u32 = 3;

/// Registers instances in the registry at a URL.
///
/// It uses the full interface where the registry has it. Where it does not, it uses the simple one,
/// which keeps neither an id other than the address nor metadata, and in which taking an instance
/// away is to register it with weight 0 for a second.
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
pub struct HttpRegistrar {
    http: Http,
    ttl: Option<Duration>,
    heartbeat: Option<Duration>,
}

/// What is held while an instance is registered: which interface the registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLease(Interface);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    Full,
    Simple,
}

impl HttpRegistrar {
    /// A registrar for the registry at this URL: its origin, or the path of its simple interface.
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    pub fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self { http: Http::new(url)?, ttl: None, heartbeat: None })
    }

    /// The bearer token for writing; none if not set. It crosses the network as it is unless the URL
    /// begins with `https`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.http.set_token(token.into());
        self
    }

    /// A file whose first line is the bearer token. It is read for each request, so that the token can
    /// be replaced while the server runs; that it does not read is a failure like any other.
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

    /// How long an instance that says nothing of it stays without a heartbeat, 1 s to 1 day. If not set,
    /// the registry decides. Too short, and a pause of the network takes servers away; too long, and
    /// clients try dead ones.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The time between heartbeats; if not set, the registry decides. It must be well
    /// below the time to live, so that one may be lost.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// How long connecting may take, and how long an answer may be in coming; 5 s if not set.
    /// Registering anew may need two requests.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.set_timeout(timeout);
        self
    }

    /// The instance as it is sent.
    fn complete(&self, instance: &Instance) -> Result<Instance, RegistrarError> {
        let mut instance = instance.clone();
        if let (None, Some(ttl)) = (instance.ttl_ms, self.ttl) {
            instance.ttl_ms = Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        }
        instance.check().map_err(|error| RegistrarError(error.to_string()))
    }

    async fn put(&self, instance: &Instance) -> Result<Duration, Failure> {
        let url = self.http.urls.instance(instance);
        self.say(Method::PUT, url, instance, |request| request.json(instance)).await
    }

    async fn post(&self, instance: &Instance) -> Result<Duration, Failure> {
        let url = self.http.urls.simple().clone();
        let headers = |mut request: RequestBuilder| {
            request = request.header(wire::SERVER, instance.addr.to_string()).body("");
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
        self.say(Method::POST, url, instance, headers).await
    }

    async fn beat(&self, instance: &Instance) -> Result<Duration, Failure> {
        let url = self.http.urls.heartbeat(instance);
        self.say(Method::POST, url, instance, |request| request.body("")).await
    }

    /// Sends what registers or renews; returns when to renew.
    async fn say(
        &self,
        method: Method,
        url: Url,
        instance: &Instance,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Duration, Failure> {
        let label = label(&method, &url);
        let answered = self.http.exchange(method, url, complete, Duration::ZERO, SMALL_BODY).await?;
        if !answered.status.is_success() {
            return Err(Failure::of_status(&label, &answered));
        }
        self.heartbeat_of(&answered, instance).map_err(|why| Failure::new(&label, why))
    }

    fn heartbeat_of(&self, answered: &Answered, instance: &Instance) -> Result<Duration, String> {
        // As much of `wire::Registration` as a registry of twenty lines may leave out.
        #[derive(Deserialize)]
        struct Agreed {
            ttl_ms: Option<u64>,
            heartbeat_ms: Option<u64>,
        }
        // An answer that is none, such as a page that asks to sign in, has registered nothing.
        let agreed: Agreed =
            serde_json::from_slice(&answered.body).map_err(|error| diagnose(&answered.body, &error))?;
        let of_ttl = |ttl_ms| Duration::from_millis(ttl_ms) / HEARTBEATS_OF_A_TTL;
        Ok(self
            .heartbeat
            .or(agreed.heartbeat_ms.map(Duration::from_millis))
            .or(agreed.ttl_ms.or(instance.ttl_ms).map(of_ttl))
            .unwrap_or(DEFAULT_HEARTBEAT))
    }
}

impl Registrar for HttpRegistrar {
    type Lease = HttpLease;

    fn describe(&self) -> String {
        self.http.urls.simple().to_string()
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<HttpLease>, RegistrarError> {
        let instance = self.complete(instance)?;
        let full = match self.put(&instance).await {
            Ok(heartbeat) => return Ok(Registered { lease: HttpLease(Interface::Full), heartbeat }),
            Err(failure) if failure.kind == Kind::NoRoute => failure,
            Err(failure) => return Err(failed(&failure)),
        };
        match self.post(&instance).await {
            Ok(heartbeat) => Ok(Registered { lease: HttpLease(Interface::Simple), heartbeat }),
            Err(simple) => Err(RegistrarError(format!("{simple}; {full}"))),
        }
    }

    async fn renew(&self, instance: &Instance, lease: &mut HttpLease) -> Result<Renewal, RegistrarError> {
        let instance = self.complete(instance)?;
        let outcome = match lease.0 {
            Interface::Full => self.beat(&instance).await,
            Interface::Simple => self.post(&instance).await,
        };
        match outcome {
            Ok(heartbeat) => Ok(Renewal::Renewed(heartbeat)),
            // The instance is not there, or the interface no longer is: registering finds out which.
            Err(failure) if failure.kind == Kind::NoRoute => Ok(Renewal::Unknown),
            Err(failure) => Err(failed(&failure)),
        }
    }

    async fn deregister(&self, instance: &Instance, lease: HttpLease) -> Result<(), RegistrarError> {
        let mut instance = self.complete(instance)?;
        match lease.0 {
            Interface::Full => {
                let url = self.http.urls.instance(&instance);
                let label = label(&Method::DELETE, &url);
                let answered = self
                    .http
                    .exchange(Method::DELETE, url, |request| request, Duration::ZERO, SMALL_BODY)
                    .await
                    .map_err(|failure| failed(&failure))?;
                if answered.status.is_success() || answered.status == StatusCode::NOT_FOUND {
                    Ok(())
                } else {
                    Err(failed(&Failure::of_status(&label, &answered)))
                }
            }
            Interface::Simple => {
                instance.weight = 0;
                instance.ttl_ms = u64::try_from(Instance::MIN_TTL.as_millis()).ok();
                self.post(&instance).await.map(drop).map_err(|failure| failed(&failure))
            }
        }
    }
}

fn failed(failure: &Failure) -> RegistrarError {
    RegistrarError(failure.to_string())
}
