//! [`Http`]: sends requests to one registry and reads the responses, with limits of time and size.
//!
//! The content of requests, and the meaning of responses, is left to its callers.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use farcall_transport::HumanDuration;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, Request, RequestBuilder, Response, Url};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use super::dialed_http::DialedError;
use super::http_client::{self, HttpClient};
use super::options::ClientOptions;
use super::request_error::{RequestError, RequestErrorKind, label};
use super::response::FullResponse;
use super::token;

/// The multiple of the timeout that a whole body may take, so that a byte now and then does not keep a request going.
pub(super) const BODY_TIMEOUT_FACTOR: u32 = 6;
/// The maximum size of a response that is not a list, in bytes.
pub(super) const MAX_SMALL_BODY: usize = 64 * 1024;

/// The HTTP client of one registry. It keeps a connection for further requests.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) options: ClientOptions,
    /// Created by the first request: reading the system's certificates takes a while, and may fail.
    client: OnceCell<HttpClient>,
}

impl Http {
    pub(super) fn new(options: ClientOptions) -> Self {
        Self { options, client: OnceCell::new() }
    }

    /// Sends a request, and reads a response of at most `max_bytes`, or of 64 KiB if it is an error. The response may begin
    /// `extra_wait` later than usual.
    pub(super) async fn exchange(
        &self,
        method: Method,
        url: Url,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
        extra_wait: Duration,
        max_bytes: usize,
    ) -> Result<FullResponse, RequestError> {
        let label = label(&method, &url);
        let mut response = self.open(&label, method, url, complete, extra_wait).await?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = if status.is_success() {
            self.read(&label, response, max_bytes).await?
        } else {
            // The status suffices; the body may add a message.
            self.read(&label, response, MAX_SMALL_BODY).await.unwrap_or_default()
        };
        Ok(FullResponse { status, headers, body, proxy: self.answering_proxy() })
    }

    /// Sends a request; returns when the response has begun.
    pub(super) async fn open(
        &self,
        label: &str,
        method: Method,
        url: Url,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
        extra_wait: Duration,
    ) -> Result<Response, RequestError> {
        let failed = |error: String| RequestError::new(label, error);
        let limit = self.options.timeout + extra_wait;
        let begin = async {
            let client = self
                .client
                .get_or_try_init(|| {
                    http_client::client(self.options.urls.simple(), &self.options.roots, self.options.timeout)
                })
                .await
                .map_err(failed)?;
            let HttpClient { client, proxy } = client;
            let mut request = complete(client.request(method, url));
            if let Some(token) = token::header(&self.options.token).await.map_err(failed)? {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.build().map_err(|error| RequestError::of_transport(label, error))?;
            if let Some(dialed) = &self.options.dialed {
                return dialed.send(request).await.map_err(|error| match error {
                    DialedError::Connect(error) => {
                        RequestError::new(label, error).with_kind(RequestErrorKind::Unreachable)
                    }
                    DialedError::Exchange(error) => RequestError::new(label, error),
                });
            }
            send(client, request)
                .await
                .map_err(|error| RequestError::of_transport_through(label, error, proxy.as_deref()))
        };
        timeout(limit, begin).await.unwrap_or_else(|_| {
            Err(RequestError::new(label, format_args!("no answer within {}", HumanDuration(limit))))
        })
    }

    /// Returns the proxy that may have answered a request. One that tunnels TLS cannot.
    fn answering_proxy(&self) -> Option<String> {
        let is_asked = self.options.dialed.is_none() && self.options.urls.simple().scheme() == "http";
        is_asked.then(|| self.client.get()?.proxy.clone()).flatten()
    }

    /// Returns the error for a response with an unexpected status, whose body was not read yet.
    pub(super) async fn status_error(&self, label: &str, mut response: Response) -> RequestError {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        // The status suffices; the body may add a message.
        let body = self.read(label, response, MAX_SMALL_BODY).await.unwrap_or_default();
        RequestError::of_status(label, &FullResponse { status, headers, body, proxy: self.answering_proxy() })
    }

    /// Reads the body; fails if it is too long or too slow.
    async fn read(
        &self,
        label: &str,
        mut response: Response,
        max_bytes: usize,
    ) -> Result<Vec<u8>, RequestError> {
        let too_long =
            || RequestError::new(label, format_args!("the answer is longer than {max_bytes} bytes"));
        let announced = response.content_length().unwrap_or_default();
        if announced > max_bytes as u64 {
            return Err(too_long());
        }
        let limit = self.options.timeout * BODY_TIMEOUT_FACTOR;
        let deadline = Instant::now() + limit;
        let mut body = Vec::new();
        loop {
            let next = deadline.min(Instant::now() + self.options.timeout);
            let chunk = match timeout_at(next, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(RequestError::of_transport(label, error)),
                Err(_) if next == deadline => {
                    return Err(RequestError::new(
                        label,
                        format_args!("the answer took longer than {}", HumanDuration(limit)),
                    ));
                }
                Err(_) => return Err(RequestError::of_silence(label, self.options.timeout)),
            };
            if body.len() + chunk.len() > max_bytes {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// Sends a request, and sends it again if the connection was closed before a response began: most often an idle
/// connection that the registry closed at that moment. All requests to a registry are idempotent.
async fn send(client: &Client, request: Request) -> reqwest::Result<Response> {
    let retry = request.try_clone();
    match (client.execute(request).await, retry) {
        (Err(error), Some(retry)) if was_closed(&error) => client.execute(retry).await,
        (outcome, _) => outcome,
    }
}

/// Returns `true` if the connection existed, and ended before a byte of the response.
fn was_closed(error: &reqwest::Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
            );
        }
        cause = error.source();
    }
    false
}
