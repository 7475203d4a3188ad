//! [`Client`]: calls of etcd's methods, with the choice of the endpoint, the token and the limits. The requests
//! are left to the callers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use farcall_discovery::source::http::{self, error_body, read_body};
use farcall_discovery::source::{self, check_token};
use farcall_protocol::text::parse_error;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::call_error::{CallError, CallErrorKind};
use crate::endpoints::Endpoints;
use crate::error::EtcdOptionsError;
use crate::limits::MAX_ANSWER_BYTES;
use crate::options::{Credentials, EtcdOptions};
use crate::tls;
use crate::watch::Watch;
use crate::wire::{AuthenticateAnswer, AuthenticateRequest, WatchRequest};

/// A client whose clones share connections, token and preferred endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    endpoints: Endpoints,
    /// The endpoint that answered last, modulo their number.
    current: AtomicUsize,
    credentials: Option<Credentials>,
    /// Never locked across an await: two callers may authenticate at once, and the later wins.
    token: Mutex<Token>,
    request_timeout: Duration,
}

#[derive(Clone, Debug)]
enum Token {
    /// The next call requests one, if there are credentials.
    None,
    /// Authentication is off in etcd.
    NotRequired,
    Valid(Arc<str>),
}

impl Client {
    pub(crate) fn new(config: &EtcdOptions) -> Result<Self, EtcdOptionsError> {
        config.check()?;
        let http = http::client(tls::configure(config)?).map_err(EtcdOptionsError::Client)?;
        Ok(Self(Arc::new(Inner {
            http,
            endpoints: config.endpoints.clone(),
            current: AtomicUsize::new(0),
            credentials: config.credentials.clone(),
            token: Mutex::new(Token::None),
            request_timeout: config.request_timeout,
        })))
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }

    /// Calls a method at the preferred endpoint, then at the others, until one answers.
    pub(crate) async fn call<A: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        request: &(impl Serialize + Sync),
    ) -> Result<A, CallError> {
        let mut before = Vec::new();
        loop {
            let index = self.preferred();
            match self.call_at(index, method, request).await {
                Err(error) if error.kind.may_differ_elsewhere() => {
                    self.leave(index);
                    if before.len() + 1 == self.0.endpoints.len() {
                        return Err(error.after(before));
                    }
                    before.push(error);
                }
                outcome => return outcome,
            }
        }
    }

    /// Calls a method at one endpoint.
    pub(crate) async fn call_at<A: DeserializeOwned + Send + 'static>(
        &self,
        index: usize,
        method: &'static str,
        request: &(impl Serialize + Sync),
    ) -> Result<A, CallError> {
        let answer = self.within_limit(self.bytes(index, method, request)).await;
        let answer = match answer {
            Ok(bytes) => source::aside(bytes.len(), move || parse(&bytes)).await,
            Err(kind) => Err(kind),
        };
        answer.map_err(|kind| self.error(index, method, kind))
    }

    /// Opens a watch at the preferred endpoint, which is left if that fails. Returns after the first message,
    /// which confirms the watch.
    pub(crate) async fn watch(&self, request: &WatchRequest) -> Result<Watch, CallError> {
        let index = self.preferred();
        let opened = self.within_limit(async {
            let response = self.answer(index, Watch::METHOD, request).await?;
            let mut watch = Watch::new(index, response);
            watch.created().await?;
            Ok(watch)
        });
        opened.await.map_err(|kind| {
            if kind.may_differ_elsewhere() {
                self.leave(index);
            }
            if kind.wants_new_token() {
                self.forget_token();
            }
            self.error(index, Watch::METHOD, kind)
        })
    }

    /// Prefers the next endpoint from now on.
    pub(crate) fn leave(&self, index: usize) {
        let next = (index + 1) % self.0.endpoints.len();
        // If another call has changed it already, it left the same endpoint.
        let left = self.0.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next != index {
            debug!(
                from = self.0.endpoints.name(index),
                to = self.0.endpoints.name(next),
                "using another etcd"
            );
        }
    }

    /// Forgets the token, so that the next call requests another.
    fn forget_token(&self) {
        self.set_token(Token::None);
    }

    pub(crate) fn error(&self, index: usize, method: &'static str, kind: CallErrorKind) -> CallError {
        CallError::new(self.0.endpoints.name(index), method, kind)
    }

    /// Creates the error of an answer of the preferred endpoint.
    pub(crate) fn error_here(&self, method: &'static str, kind: CallErrorKind) -> CallError {
        self.error(self.preferred(), method, kind)
    }

    fn preferred(&self) -> usize {
        self.0.current.load(Ordering::Relaxed)
    }

    async fn within_limit<T>(
        &self,
        call: impl Future<Output = Result<T, CallErrorKind>>,
    ) -> Result<T, CallErrorKind> {
        let limit = self.0.request_timeout;
        timeout(limit, call).await.unwrap_or(Err(CallErrorKind::Timeout(limit)))
    }

    async fn bytes(
        &self,
        index: usize,
        method: &str,
        request: &impl Serialize,
    ) -> Result<Vec<u8>, CallErrorKind> {
        let response = self.answer(index, method, request).await?;
        Ok(read_body(response, MAX_ANSWER_BYTES).await?)
    }

    /// Sends a request, again with another token if the first one is refused. Returns an answer that is a success.
    async fn answer(
        &self,
        index: usize,
        method: &str,
        request: &impl Serialize,
    ) -> Result<Response, CallErrorKind> {
        // None of the requests can fail to become JSON: they are strings, numbers and flags.
        let body = Bytes::from(
            serde_json::to_vec(request).map_err(|error| CallErrorKind::InvalidAnswer(error.to_string()))?,
        );
        let token = self.token(index).await?;
        match self.post(index, method, body.clone(), token.as_deref()).await {
            Err(error) if error.wants_new_token() && self.0.credentials.is_some() => {
                debug!(%error, "requesting another token from etcd");
                self.forget_token();
                let token = self.token(index).await?;
                self.post(index, method, body, token.as_deref()).await
            }
            outcome => outcome,
        }
    }

    async fn post(
        &self,
        index: usize,
        method: &str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<Response, CallErrorKind> {
        let mut request = self.0.http.post(self.0.endpoints.method(index, method));
        request = request.header(CONTENT_TYPE, "application/json").body(body);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        if method == Watch::METHOD {
            // With it, a member that is cut off from the others ends its watches instead of keeping silent.
            request = request.header("Grpc-Metadata-Hasleader", "true");
        }
        let response = request.send().await.map_err(|error| CallErrorKind::unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // Pages of errors may be long; a sentence is enough.
        const MAX_ERROR_BYTES: usize = 64 * 1024;
        Err(CallErrorKind::refused(status.as_u16(), &error_body(response, MAX_ERROR_BYTES).await))
    }

    /// Returns the token; `None` if etcd requires none.
    async fn token(&self, index: usize) -> Result<Option<Arc<str>>, CallErrorKind> {
        let Some(Credentials { user, password }) = &self.0.credentials else { return Ok(None) };
        // Cloned out, so that the lock is not held below.
        let known = self.0.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Token::Valid(token) => return Ok(Some(token)),
            Token::NotRequired => return Ok(None),
            Token::None => {}
        }
        let request = AuthenticateRequest { name: user, password };
        let body =
            serde_json::to_vec(&request).map_err(|error| CallErrorKind::InvalidAnswer(error.to_string()))?;
        match self.post(index, "auth/authenticate", body.into(), None).await {
            Ok(response) => {
                let answer: AuthenticateAnswer = parse(&read_body(response, MAX_ANSWER_BYTES).await?)?;
                check_token(&answer.token, source::Token::MAX_BYTES)
                    .map_err(|fault| CallErrorKind::InvalidAnswer(format!("its token {fault}")))?;
                let token: Arc<str> = answer.token.into();
                self.set_token(Token::Valid(Arc::clone(&token)));
                Ok(Some(token))
            }
            Err(error) if error.is_auth_off() => {
                warn!(endpoint = self.0.endpoints.name(index), user, "this etcd requires no password");
                self.set_token(Token::NotRequired);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn set_token(&self, token: Token) {
        *self.0.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn parse<A: DeserializeOwned>(body: &[u8]) -> Result<A, CallErrorKind> {
    serde_json::from_slice(body).map_err(|error| {
        let beginning = String::from_utf8_lossy(&body[..body.len().min(200)]);
        CallErrorKind::InvalidAnswer(format!(
            "{}, in `{}`",
            parse_error(&error),
            crate::call_error::excerpt(&beginning)
        ))
    })
}
