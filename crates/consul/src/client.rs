//! [`Client`]: requests to Consul's agent, with the token and the limits. What they mean is left to the callers.

use std::time::Duration;

use farcall_discovery::source::http::{self, error_body, read_body};
use farcall_discovery::source::{Token, aside, first_line};
use farcall_protocol::EscapedText;
use farcall_protocol::text::parse_error;
use farcall_tls::client_config;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::call_error::{CallError, excerpt};
use crate::error::ConsulOptionsError;
use crate::options::ConsulOptions;

/// The maximum length of an answer, in bytes: some 30,000 instances, each with its node and its checks.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
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
        let roots = http::trusted_roots(&options.extra_roots, options.agent.scheme() == "https")?;
        let http = http::client(client_config(roots, None, &[])?).map_err(ConsulOptionsError::Client)?;
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
    pub(crate) async fn get<A: DeserializeOwned + Send + 'static>(
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
            let bytes = read_body(response, MAX_ANSWER_BYTES).await?;
            let body = aside(bytes.len(), move || parse(&bytes)).await?;
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
        // Its file is short, and most often in memory.
        if let Some(token) = self.token.read(first_line, Token::MAX_BYTES)? {
            request = request.header(TOKEN_HEADER, token);
        }
        let response = request.send().await.map_err(|error| CallError::unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        const MAX_ERROR_BYTES: usize = 64 * 1024; // a sentence is enough
        let body = error_body(response, MAX_ERROR_BYTES).await;
        let message = excerpt(&String::from_utf8_lossy(&body));
        Err(CallError::Refused { status: status.as_u16(), message })
    }
}

/// Writes a name as one segment of a path.
pub(crate) fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, SEGMENT)
}

fn parse<A: DeserializeOwned>(body: &[u8]) -> Result<A, CallError> {
    serde_json::from_slice(body).map_err(|error| {
        let beginning = excerpt(&String::from_utf8_lossy(&body[..body.len().min(200)]));
        CallError::InvalidAnswer(format!("{}, in `{beginning}`", parse_error(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_mistake_is_told_by_its_beginning_and_its_place() {
        let text = format!("[\"{}\"]", "x".repeat(1 << 20));
        let mistake = parse::<Vec<u16>>(text.as_bytes()).unwrap_err().to_string();
        assert!(
            mistake.len() < 600 && mistake.contains("expected u16 at line 1 column 1048579"),
            "{mistake}"
        );
    }
}
