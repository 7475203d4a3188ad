//! [`RequestError`]: the reason why a request to the registry failed, with a message that names the request.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_transport::HumanDuration;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode, Url};

use super::response::FullResponse;
use crate::excerpt::excerpt;
use crate::wire;

/// The reason why a request failed.
#[derive(Clone, Debug)]
pub(super) struct RequestError {
    pub(super) kind: RequestErrorKind,
    message: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// Two are equal if their texts are: their causes have more in them that tells when they happened.
impl PartialEq for RequestError {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message) == (other.kind, &other.message)
    }
}

impl Eq for RequestError {}

/// The consequence of a failure for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestErrorKind {
    /// The registry does not have this part of the interface.
    NoRoute,
    /// The registry has too many watches and long polls.
    Busy,
    /// No connection could be made.
    Unreachable,
    /// A proxy refuses to ask the registry.
    Proxy,
    /// Any other failure.
    Other,
}

impl RequestError {
    /// Creates an error of the request that `label` names; see [`label`].
    pub(super) fn new(label: &str, message: impl fmt::Display) -> Self {
        Self { kind: RequestErrorKind::Other, message: format!("{label}: {message}"), cause: None }
    }

    /// Returns the error of the HTTP client; `None` if it had none.
    pub(super) fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }

    /// Sets the kind.
    pub(super) fn with_kind(mut self, kind: RequestErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Creates the error for a response with an unexpected status.
    pub(super) fn of_status(label: &str, response: &FullResponse) -> Self {
        let status = response.status;
        let mut message = format!("answered {status}");
        // A registry says why; a page of a proxy is not JSON.
        let mut proxy = None;
        if let Ok(wire::ErrorBody { error }) = serde_json::from_slice(&response.body) {
            message.push_str(&format!(": {}", excerpt(&error)));
        } else {
            proxy = response.proxy.as_deref();
        }
        if status.is_redirection()
            && let Some(location) = response.headers.get(LOCATION)
        {
            let location = excerpt(&String::from_utf8_lossy(location.as_bytes()));
            message.push_str(&format!(", a redirect to {location}, which is not followed"));
        }
        let kind = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => RequestErrorKind::Proxy,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                RequestErrorKind::NoRoute
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => RequestErrorKind::Busy,
            _ if proxy.is_some() => RequestErrorKind::Proxy,
            _ => RequestErrorKind::Other,
        };
        match proxy {
            _ if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let proxy = response.proxy.as_deref().unwrap_or("on the way");
                message.push_str(&format!(", which is the answer of a proxy: {proxy}"));
            }
            Some(proxy) => {
                message.push_str(&format!(", which may be the answer of the proxy {proxy}"));
            }
            None => {}
        }
        Self::new(label, message).with_kind(kind)
    }

    /// Creates the error for a failure of the HTTP client to send a request, which it does through `proxy`.
    pub(super) fn of_transport_through(label: &str, error: reqwest::Error, proxy: Option<&str>) -> Self {
        let is_connect = error.is_connect();
        let mut failed = Self::of_transport(label, error);
        if let Some(proxy) = proxy.filter(|_| is_connect) {
            failed.message.push_str(&format!(" (through the proxy {proxy})"));
        }
        failed
    }

    /// Creates the error for a failure of the HTTP client.
    pub(super) fn of_transport(label: &str, error: reqwest::Error) -> Self {
        let mut cause: &dyn Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause = cause.to_string();
        let cause = farcall_tls::in_words(&cause);
        let mut failed = if error.is_connect() && error.is_timeout() {
            Self::new(label, "cannot connect: no answer in time").with_kind(RequestErrorKind::Unreachable)
        } else if error.is_connect() {
            Self::new(label, format_args!("cannot connect: {cause}")).with_kind(RequestErrorKind::Unreachable)
        } else {
            Self::new(label, format_args!("the answer broke off: {cause}"))
        };
        failed.cause = Some(Arc::new(error));
        failed
    }

    /// Creates the error for a response in which no byte arrived for `limit`.
    pub(super) fn of_silence(label: &str, limit: Duration) -> Self {
        Self::new(label, format_args!("nothing came for {}", HumanDuration(limit)))
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// There is no source: the text has the innermost cause.
impl Error for RequestError {}

/// Returns the request's name in messages: the same for all requests of a kind, so that a lasting failure has the same
/// message each time.
pub(super) fn label(method: &Method, url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    if let Some((_, service)) = url.query_pairs().find(|(key, _)| key == "service") {
        shown.query_pairs_mut().append_pair("service", &service);
    }
    format!("{method} {shown}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_test_support::errors::assert_told_once;

    use super::*;
    use crate::client::{AdminError, SettingsError, UrlError};

    fn answered(status: StatusCode, body: &str, proxy: Option<&str>) -> RequestError {
        let (headers, proxy) = (reqwest::header::HeaderMap::new(), proxy.map(str::to_owned));
        let response = FullResponse { status, headers, body: body.as_bytes().to_vec(), proxy };
        RequestError::of_status("GET http://a", &response)
    }

    #[test]
    fn refusal_of_a_proxy_is_not_told_as_that_of_the_registry() {
        let (proxy, page) = (Some("http://proxy:3128"), "<html>Forbidden</html>");
        let error = answered(StatusCode::FORBIDDEN, page, proxy);
        assert_eq!(error.kind, RequestErrorKind::Proxy);
        assert!(
            error
                .to_string()
                .ends_with("403 Forbidden, which may be the answer of the proxy http://proxy:3128")
        );
        // Only a proxy answers so, whether it is known or not.
        for proxy in [proxy, None] {
            let error = answered(StatusCode::PROXY_AUTHENTICATION_REQUIRED, page, proxy);
            assert_eq!(error.kind, RequestErrorKind::Proxy);
            let named = format!("which is the answer of a proxy: {}", proxy.unwrap_or("on the way"));
            assert!(error.to_string().ends_with(&named), "{error}");
        }
        let error = answered(StatusCode::FORBIDDEN, r#"{"error":"the token is unknown"}"#, proxy);
        assert_eq!(error.kind, RequestErrorKind::Other);
        assert!(error.to_string().ends_with("403 Forbidden: the token is unknown"), "{error}");
        let error = answered(StatusCode::FORBIDDEN, page, None);
        assert_eq!((error.kind, error.to_string().contains("proxy")), (RequestErrorKind::Other, false));
    }

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut error = RequestError::new("GET http://a", format_args!("cannot connect: {}", refused()));
        error.cause = Some(Arc::new(refused()));
        assert_told_once(&error);
        let error = AdminError::from(error);
        assert_told_once(&error);
        assert!(error.cause().unwrap().is::<io::Error>());
        assert_told_once(&SettingsError::Url { url: "a".to_owned(), error: UrlError::Scheme });
        #[cfg(feature = "server")]
        assert_told_once(&crate::server::OpenError::Snapshot { path: "a".into(), error: refused() });
    }
}
