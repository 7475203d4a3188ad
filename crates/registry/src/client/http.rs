//! [`Http`]: one request and its answer, bounded in time and size.
//!
//! What is asked for and what the answer means is for others.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use farcall_tls::Pem;
use farcall_transport::HumanDuration;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::{Failure, label};
use super::http_client;
use super::settings::SettingsError;
use super::token::Token;
use super::urls::Urls;

/// How long a step of a request may take, if nothing else is set.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many times the limit of a step a whole body may take: one byte now and then is no answer.
pub(super) const BODY_STEPS: u32 = 6;
/// The most of an answer that is read, where it is no list.
pub(super) const SMALL_BODY: usize = 64 * 1024;

/// The way to one registry. A connection is kept for further requests, and ends with it.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) urls: Urls,
    token: Token,
    roots: Vec<Pem>,
    timeout: Duration,
    /// Made when it is first needed: reading the system's certificates takes a while, and may fail.
    client: OnceCell<Client>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            urls: Urls::parse(url)?,
            token: Token::None,
            roots: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            client: OnceCell::new(),
        })
    }

    pub(super) fn set_token(&mut self, token: String) {
        self.token = Token::Given(token);
    }

    pub(super) fn set_token_file(&mut self, path: PathBuf) {
        self.token = Token::File(path);
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout.max(Duration::from_millis(1));
    }

    pub(super) fn add_roots(&mut self, pem: &[u8]) -> Result<(), SettingsError> {
        self.roots.push(http_client::parse_roots(pem)?);
        Ok(())
    }

    /// How long a step of a request may take: to connect, to begin to answer, to go on.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a request, and reads an answer of at most `most` bytes, of 64 KiB where it is no success.
    /// The answer may take `patience` longer than usual to begin.
    pub(super) async fn exchange(
        &self,
        method: Method,
        url: Url,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
        patience: Duration,
        most: usize,
    ) -> Result<Answered, Failure> {
        let label = label(&method, &url);
        let mut response = self.open(&label, method, url, complete, patience).await?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = if status.is_success() {
            self.read(&label, response, most).await?
        } else {
            // The status says enough; the body is only read for what else it says.
            self.read(&label, response, SMALL_BODY).await.unwrap_or_default()
        };
        Ok(Answered { status, headers, body })
    }

    /// Sends a request; returns when the answer has begun.
    pub(super) async fn open(
        &self,
        label: &str,
        method: Method,
        url: Url,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
        patience: Duration,
    ) -> Result<Response, Failure> {
        let wrong = |why: String| Failure::new(label, why);
        let limit = self.timeout + patience;
        let begin = async {
            let client = self
                .client
                .get_or_try_init(|| http_client::client(self.urls.simple(), &self.roots, self.timeout))
                .await
                .map_err(wrong)?;
            let mut request = complete(client.request(method, url));
            if let Some(token) = self.token.header().await.map_err(wrong)? {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.build().map_err(|error| Failure::of_transport(label, &error))?;
            send(client, request).await.map_err(|error| Failure::of_transport(label, &error))
        };
        timeout(limit, begin).await.unwrap_or_else(|_| {
            Err(Failure::new(label, format_args!("no answer within {}", HumanDuration(limit))))
        })
    }

    /// What an answer says that was opened and is not the one hoped for.
    pub(super) async fn refusal(&self, label: &str, mut response: Response) -> Failure {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        // The status says enough; the body is only read for what else it says.
        let body = self.read(label, response, SMALL_BODY).await.unwrap_or_default();
        Failure::of_status(label, &Answered { status, headers, body })
    }

    /// Reads the body, and stops reading where it is too long or too slow.
    async fn read(&self, label: &str, mut response: Response, most: usize) -> Result<Vec<u8>, Failure> {
        let too_long = || Failure::new(label, format_args!("the answer is longer than {most} bytes"));
        let announced = response.content_length().unwrap_or_default();
        if announced > most as u64 {
            return Err(too_long());
        }
        let limit = self.timeout * BODY_STEPS;
        let deadline = Instant::now() + limit;
        let mut body = Vec::new();
        loop {
            let next = deadline.min(Instant::now() + self.timeout);
            let chunk = match timeout_at(next, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(Failure::of_transport(label, &error)),
                Err(_) if next == deadline => {
                    return Err(Failure::new(
                        label,
                        format_args!("the answer took longer than {}", HumanDuration(limit)),
                    ));
                }
                Err(_) => return Err(Failure::of_silence(label, self.timeout)),
            };
            if body.len() + chunk.len() > most {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// Sends a request; once more, where its connection was closed before an answer came. Most often it is one
/// that was kept, and that the registry closed for its idleness at just that moment. All that is ever
/// asked of a registry may be done twice.
async fn send(client: &Client, request: Request) -> reqwest::Result<Response> {
    let again = request.try_clone();
    match (client.execute(request).await, again) {
        (Err(error), Some(again)) if was_closed(&error) => client.execute(again).await,
        (outcome, _) => outcome,
    }
}

/// Whether the connection was there, and ended without a byte of an answer.
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

/// Whether the answer says of itself that it is of this type.
pub(super) fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(expected))
}
