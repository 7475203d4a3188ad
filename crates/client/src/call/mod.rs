//! A call that is about to be made, or under way: a builder that is also a future.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_context::Inherited;
use farcall_protocol::Code;
use farcall_transport::BufferPool;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::broadcast::Broadcast;
use crate::call::request::Request;
use crate::call::retry_policy::RetryPolicy;
use crate::call::state::{Calling, notify};
use crate::channel::Channel;
use crate::connection::response::Answer;
use crate::error::{CallError, RpcError};

pub(crate) mod attempts;
pub(crate) mod broadcast;
pub(crate) mod endpoint_choice;
pub(crate) mod request;
pub(crate) mod retry;
pub(crate) mod retry_budget;
pub(crate) mod retry_policy;
pub(crate) mod routing_key;
pub(crate) mod span;
pub(crate) mod state;

/// A call that is about to be made. Nothing happens before it is awaited, or started.
///
/// Made inside a handler, it inherits the handler's deadline and metadata. Dropping it while it
/// is awaited cancels it, to the handler.
#[must_use = "a call is made when it is awaited, started, or sent with `notify`"]
pub struct Call<T, E = Infallible> {
    calling: Calling,
    read: Read<T, E>,
}

/// How the outcome of a call is read.
pub(crate) type Read<T, E> = fn(Result<Answer, RpcError>) -> Result<T, CallError<E>>;

impl<T: DeserializeOwned> Call<T> {
    /// A call of a method without an error type of its own. `arguments` serialize to a map by
    /// parameter name, or to an array in order.
    pub fn new<A: Serialize + ?Sized>(
        channel: &Channel,
        method: impl Into<Cow<'static, str>>,
        arguments: &A,
    ) -> Self {
        Self::with(channel, method.into(), arguments, |outcome| {
            Ok(outcome.and_then(|answer| answer.decode())?)
        })
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Call<T, E> {
    /// A call of a method that returns a `Result<T, E>`: where it returns an error, the call fails
    /// with [`CallError::Application`]. `arguments` are as for [`Call::new`].
    pub fn fallible<A: Serialize + ?Sized>(
        channel: &Channel,
        method: impl Into<Cow<'static, str>>,
        arguments: &A,
    ) -> Self {
        Self::with(channel, method.into(), arguments, |outcome| match outcome {
            Ok(answer) => Ok(answer.decode()?),
            Err(error) if error.code() == Code::Application => match error.details() {
                Some(Ok(details)) => Err(CallError::Application(details)),
                // Not the error that was promised: its text has to do.
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        })
    }
}

impl<T, E> Call<T, E> {
    fn with<A: Serialize + ?Sized>(
        channel: &Channel,
        method: Cow<'static, str>,
        arguments: &A,
        read: Read<T, E>,
    ) -> Self {
        let inner = Arc::clone(&channel.inner);
        let request = Request::new(
            method,
            inner.codec.encode_body_in(&BufferPool, arguments),
            inner.timeout,
            Inherited::current(),
        );
        Self { calling: Calling::new(request, inner), read }
    }

    /// The time for the whole call, connecting and further tries included, from when it is awaited
    /// or started. Default: the channel's, which is none unless it was set. An inherited deadline
    /// that is earlier counts. With less than a millisecond, zero included, nothing is sent.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with_request(|request| request.timeout = Some(limit))
    }

    /// Sends `value` along under `key`, which must be lower case; otherwise the call fails with
    /// `invalid_argument`.
    pub fn metadata(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with_request(|request| request.set_metadata(key, value))
    }

    /// Says that the call may be made twice with the effect of once. Default: it may not.
    pub fn idempotent(self) -> Self {
        self.with_request(Request::set_idempotent)
    }

    /// The key that the channel's balancer goes by, where it is one that wants the call's own, such
    /// as `ConsistentHash::by_key()`: calls with the same key go to the same endpoint. Default: none.
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.with_request(|request| request.routing().key = Some(key.as_ref().into()))
    }

    /// What is done when the call fails. Default: what the channel does.
    pub fn retry(self, mode: RetryPolicy) -> Self {
        self.with_request(|request| request.routing().retry = Some(mode))
    }

    /// Waits, as long as the call's time allows, while nobody can be reached, instead of failing at
    /// once; without a timeout, for ever. Default: what the channel does, which is to fail.
    pub fn wait_for_ready(self, wait: bool) -> Self {
        self.with_request(|request| request.routing().wait_for_ready = Some(wait))
    }

    /// Calls every endpoint of the channel at once, instead of one. See [`Broadcast`].
    pub fn broadcast(mut self) -> Broadcast<T, E> {
        let asked = self.calling.take_asked();
        let (request, inner) = asked.expect("a call that has begun cannot become a broadcast");
        Broadcast::new(inner, request, self.read)
    }

    /// Changes what is asked for, as long as nothing is under way.
    fn with_request(mut self, change: impl FnOnce(&mut Request)) -> Self {
        if let Some(request) = self.calling.asked() {
            change(request);
        }
        self
    }

    /// Sends the call now, and hands back what it will result in. Dropping that cancels it.
    ///
    /// It gets under way without being awaited, also where the channel has to connect first. Where
    /// the server refuses it, or the connection breaks before it was written, the next try is made
    /// when it is awaited.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(mut self) -> StartedCall<T, E> {
        self.calling.start();
        StartedCall { calling: self.calling, read: self.read }
    }

    /// Sends the call and wants no answer: whether the handler runs, and how it ends, stays
    /// unknown. Ready once the request is in the hands of the connection, which writes it before it
    /// closes. It takes no place among the calls that the server runs at once, but waits while too
    /// many bytes wait to be written.
    ///
    /// # Errors
    ///
    /// It could not be sent: no connection, no time left, arguments that do not encode, a request
    /// over the server's limit of size. The execution is `not_sent`.
    pub async fn notify(mut self) -> Result<(), RpcError> {
        match self.calling.take_asked() {
            Some((request, inner)) => notify(request, &inner).await,
            // It was polled before, as a call with an answer, and goes on as one.
            None => self.calling.await.map(drop),
        }
    }
}

impl<T, E> Future for Call<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.calling).poll(cx));
        Poll::Ready((self.read)(outcome))
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Call");
        if let Some(method) = self.calling.method() {
            shown.field("method", &method);
        }
        shown.finish_non_exhaustive()
    }
}

/// A call that is under way. Await it for its outcome; drop it to cancel it.
#[must_use = "dropping a started call cancels it"]
pub struct StartedCall<T, E = Infallible> {
    calling: Calling,
    read: Read<T, E>,
}

impl<T, E> Future for StartedCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.calling).poll(cx));
        Poll::Ready((self.read)(outcome))
    }
}

impl<T, E> fmt::Debug for StartedCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}
