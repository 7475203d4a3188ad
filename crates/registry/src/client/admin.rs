//! [`RegistryAdmin`]: what an operator does with a registry: list everything, drain, weigh and remove instances.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use farcall_protocol::text::parse_error;
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::decode::MAX_LIST_BYTES;
use super::http::Http;
use super::options::ClientOptions;
use super::request_error::{RequestError, RequestErrorKind, label};
use super::response::FullResponse;
use super::settings::SettingsError;
use crate::wire::{Envelope, InstanceBody, InstanceRecord, Instances, Patch, ServiceSummary, Services};

/// Lists and changes what a registry has, for operators and their tools.
///
/// ```
/// use farcall_registry::client::RegistryAdmin;
/// use farcall_registry::wire::Patch;
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
/// let admin = RegistryAdmin::new(&url)?;
/// let found = admin.instances("Arith").await?;
/// admin.patch("Arith", &found[0].instance.id, Patch::default().drain(true)).await?;
/// assert_eq!(admin.services().await?[0].draining, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RegistryAdmin {
    http: Http,
}

/// A failed request to a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct AdminError {
    error: RequestError,
    status: Option<u16>,
}

impl AdminError {
    /// Returns `true` if the registry could not be connected to.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.error.kind == RequestErrorKind::Unreachable
    }

    /// Returns the status of the response; `None` if there was none.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns the error of the HTTP client below it, which can be downcast; `None` if there is none. Its innermost cause is part
    /// of this one's text.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.error.cause()
    }
}

impl From<RequestError> for AdminError {
    fn from(error: RequestError) -> Self {
        Self { error, status: None }
    }
}

impl RegistryAdmin {
    /// Creates a client of the registry at `url`: its origin, or the path of its simple interface. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The URL is invalid.
    pub fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self { http: Http::new(ClientOptions::new(url)?) })
    }

    /// Sets a file whose first line is the token of the requests. It is read for each of them.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.http.options.set_token_file(path.into());
        self
    }

    /// Trusts the certificates in this PEM, in addition to the system's.
    ///
    /// # Errors
    ///
    /// The PEM has no certificate, or an invalid one.
    pub fn extra_roots(mut self, pem: &[u8]) -> Result<Self, SettingsError> {
        self.http.options.add_roots(pem)?;
        Ok(self)
    }

    /// Sets the time limit of each step of a request, at least 1 ms. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.options.set_timeout(timeout);
        self
    }

    /// Returns the services that have instances, by name.
    ///
    /// # Errors
    ///
    /// The registry was not reached, or refused.
    pub async fn services(&self) -> Result<Vec<ServiceSummary>, AdminError> {
        let list: Envelope<Services> =
            self.request(Method::GET, self.http.options.urls.services(), None).await?;
        Ok(list.body.services)
    }

    /// Returns the instances of a service in any state, by id.
    ///
    /// # Errors
    ///
    /// The registry was not reached, or refused.
    pub async fn instances(&self, service: &str) -> Result<Vec<InstanceRecord>, AdminError> {
        let url = self.http.options.urls.list(service);
        let list: Envelope<Instances> = self.request(Method::GET, url, None).await?;
        Ok(list.body.instances)
    }

    /// Sets or removes overrides of an instance, and returns it as it is then.
    ///
    /// # Errors
    ///
    /// The registry was not reached, has no such instance (status 404), or refused.
    pub async fn patch(&self, service: &str, id: &str, patch: Patch) -> Result<InstanceRecord, AdminError> {
        let body: InstanceBody = self.request(Method::PATCH, self.url(service, id), Some(patch)).await?;
        Ok(body.record)
    }

    /// Removes an instance, whichever server registered it. A server that is up registers again with its next heartbeat.
    ///
    /// # Errors
    ///
    /// The registry was not reached, or refused.
    pub async fn remove(&self, service: &str, id: &str) -> Result<(), AdminError> {
        self.send(Method::DELETE, self.url(service, id), None).await.map(drop)
    }

    fn url(&self, service: &str, id: &str) -> Url {
        self.http.options.urls.instance_named(service, id)
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        patch: Option<Patch>,
    ) -> Result<T, AdminError> {
        let label = label(&method, &url);
        let response = self.send(method, url, patch).await?;
        serde_json::from_slice(&response.body).map_err(|error| {
            RequestError::new(&label, format_args!("not what a registry answers: {}", parse_error(&error)))
                .into()
        })
    }

    async fn send(&self, method: Method, url: Url, patch: Option<Patch>) -> Result<FullResponse, AdminError> {
        let label = label(&method, &url);
        let complete = |request: reqwest::RequestBuilder| match &patch {
            Some(patch) => request.json(patch),
            None => request,
        };
        let response = self.http.exchange(method, url, complete, Duration::ZERO, MAX_LIST_BYTES).await?;
        if matches!(response.status, StatusCode::OK | StatusCode::NO_CONTENT) {
            return Ok(response);
        }
        Err(AdminError {
            error: RequestError::of_status(&label, &response),
            status: Some(response.status.as_u16()),
        })
    }
}
