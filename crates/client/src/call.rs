//! A call that is about to be made, or under way: a builder that is also a future.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_context::current;
use farcall_protocol::{Code, Metadata};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::Answer;
use crate::calling::{Calling, notify};
use crate::channel::{Channel, Inner};
use crate::error::{CallError, RpcError};
use crate::request::Request;

/// A call that is about to be made. Nothing happens before it is awaited, or started.
///
/// Made inside a handler, it inherits the handler's deadline and metadata. Dropping it while it
/// is awaited cancels it, to the handler.
#[must_use = "a call is made when it is awaited, started, or sent with `notify`"]
pub struct Call<T, E = Infallible> {
    inner: Arc<Inner>,
    request: Request,
    read: Read<T, E>,
}

/// How the outcome of a call is read.
type Read<T, E> = fn(Result<Answer, RpcError>) -> Result<T, CallError<E>>;

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
        let request = Request {
            method,
            body: inner.codec.encode(arguments),
            metadata: None,
            mistake: None,
            timeout: inner.timeout,
            idempotent: false,
            inherited: current(),
        };
        Self { inner, request, read }
    }

    /// The time for the whole call, connecting and further tries included, from when it is awaited
    /// or started. Default: the channel's, which is none unless it was set. An inherited deadline
    /// that is earlier counts. With less than a millisecond, zero included, nothing is sent.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }

    /// Sends `value` along under `key`, which must be lower case; otherwise the call fails with
    /// `invalid_argument`.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let metadata = self.request.metadata.get_or_insert_with(|| Box::new(Metadata::new()));
        if let Err(mistake) = metadata.insert(key, value) {
            self.request.mistake.get_or_insert(mistake);
        }
        self
    }

    /// Says that the call may be made twice with the effect of once. Default: it may not.
    pub const fn idempotent(mut self) -> Self {
        self.request.idempotent = true;
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
    pub fn start(self) -> Started<T, E> {
        Started { calling: Calling::begin(self.request, self.inner).detach(), read: self.read }
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
    pub async fn notify(self) -> Result<(), RpcError> {
        notify(self.request, &self.inner).await
    }
}

impl<T, E> IntoFuture for Call<T, E> {
    type Output = Result<T, CallError<E>>;
    type IntoFuture = Started<T, E>;

    fn into_future(self) -> Started<T, E> {
        Started { calling: Calling::begin(self.request, self.inner), read: self.read }
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.request.method).finish_non_exhaustive()
    }
}

/// A call that is under way. Await it for its outcome; drop it to cancel it.
#[must_use = "dropping a started call cancels it"]
pub struct Started<T, E = Infallible> {
    calling: Calling,
    read: Read<T, E>,
}

impl<T, E> Future for Started<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.calling).poll(cx));
        Poll::Ready((self.read)(outcome))
    }
}

impl<T, E> fmt::Debug for Started<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}
