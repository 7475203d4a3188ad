//! [`Client`]: requests to Consul's agent, with the token and the limits. What they mean is left to the callers.

use std::time::Duration;

use farcall_protocol::EscapedText;
use farcall_tls::{Pem, add_roots, add_system_roots, client_config, read_file};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, Url, redirect};
use rustls::RootCertStore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::warn;

use crate::call_error::{CallError, excerpt};
use crate::error::ConsulOptionsError;
use crate::options::{ConsulOptions, Token};

/// The maximum length of an answer, in bytes: some 30,000 instances, each with its node and its checks.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
/// The header of the token.
const TOKEN_HEADER: &str = "X-Consul-Token";
/// The characters of a segment of a path that are written as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client whose clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    agent: Url,
    token: Token,
    request_timeout: Duration,
}

/// An answer: its headers, and its body as JSON.
pub(crate) struct Answer<A> {
    pub(crate) headers: HeaderMap,
    pub(crate) body: A,
}

impl Client {
    pub(crate) fn new(options: &ConsulOptions) -> Result<Self, ConsulOptionsError> {
        options.check()?;
        let mut roots = RootCertStore::empty();
        for pem in &options.extra_roots {
            add_roots(&mut roots, "extra root certificate", &Pem::Text(pem.clone()), &[])?;
        }
        if options.agent.scheme() == "https"
            && let Err(error) = add_system_roots(&mut roots)
        {
            warn!(%error, "only the extra root certificates are trusted");
        }
        // Also without TLS: the client would otherwise look for a provider of cryptography that was never installed.
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(roots, None, &[])?)
            // Answers must come from the agent, and the token must not go anywhere else.
            .no_proxy()
            .redirect(redirect::Policy::none())
            // A peer that vanished under a query that waits is noticed by the kernel.
            .tcp_keepalive(Duration::from_secs(10))
            .build()
            .map_err(ConsulOptionsError::Client)?;
        Ok(Self {
            http,
            agent: options.agent.clone(),
            token: options.token.clone(),
            request_timeout: options.request_timeout,
        })
    }

    /// Returns the agent's URL, for display.
    pub(crate) fn place(&self) -> String {
        EscapedText(self.agent.as_str().trim_end_matches('/')).to_string()
    }

    /// Requests JSON; `wait` is the time that Consul may wait for a change.
    pub(crate) async fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        wait: Duration,
    ) -> Result<Answer<A>, CallError> {
        // Consul adds up to a sixteenth, at random.
        let limit = wait + wait / 16 + self.request_timeout;
        let answer = async {
            let response = self.send(Method::GET, path, query, None::<&()>).await?;
            let headers = response.headers().clone();
            let bytes = read(response, MAX_ANSWER_BYTES).await?;
            let body = serde_json::from_slice(&bytes).map_err(|error| {
                let beginning = excerpt(&String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
                CallError::InvalidAnswer(format!("{error}, in `{beginning}`"))
            })?;
            Ok(Answer { headers, body })
        };
        timeout(limit, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
    }

    /// Sends a request that changes something.
    pub(crate) async fn put(
        &self,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<(), CallError> {
        let limit = self.request_timeout;
        let answer = async { self.send(Method::PUT, path, &[], body).await.map(drop) };
        timeout(limit, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
    }

    /// Sends a request. Returns an answer that is a success.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Response, CallError> {
        let mut url = self.agent.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(token) = self.token()? {
            request = request.header(TOKEN_HEADER, token);
        }
        let response = request.send().await.map_err(CallError::unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        const MAX_ERROR_BYTES: usize = 64 * 1024; // a sentence is enough
        let body = read(response, MAX_ERROR_BYTES).await?;
        let message = excerpt(&String::from_utf8_lossy(&body));
        Err(CallError::Refused { status: status.as_u16(), message })
    }

    /// Reads the token. Its file is short, and most often in memory.
    fn token(&self) -> Result<Option<String>, CallError> {
        match &self.token {
            Token::None => Ok(None),
            Token::Text(token) => Ok(Some(token.clone())),
            Token::File(path) => {
                let bytes = read_file(path, MAX_TOKEN_BYTES)?;
                let text = String::from_utf8_lossy(&bytes);
                Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
            }
        }
    }
}

/// Writes a name as one segment of a path.
pub(crate) fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, SEGMENT)
}

/// Reads the whole body, which is not longer than `limit`.
async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, CallError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(CallError::TooLong(limit));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(CallError::unreachable)? {
        if body.len() + chunk.len() > limit {
            return Err(CallError::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
