//! A call in progress: what it consists of, and the guard around its handler's code.
//!
//! [`run`] and [`usual`] start handlers, [`handler_task`] polls those that need more than one poll, [`offload`]
//! lends threads to slow ones in the order of [`fair_queue`], [`local`] makes calls that came over no connection.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use farcall_context::Inherited;
use farcall_protocol::time::{later, sooner};
use farcall_protocol::{Code, Header, Message, Seq, Status};
use farcall_transport::log::escaped_panic;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;
use tracing::span::Entered;

use self::env::CallEnv;
use self::local_peer::LocalPeer;
use crate::observe::span::CallSpan;
use crate::service::handler::{ReceivedRequest, Request, Response, SpareFuture};
use crate::service::method::Method;
use crate::stream::call_stream::CallStream;

pub(crate) mod encoded_response;
pub(crate) mod env;
pub(crate) mod fair_queue;
pub(crate) mod handler_task;
mod handler_turns;

pub(crate) mod in_flight;
pub(crate) mod invocation;
pub(crate) mod invoked_stream;
pub(crate) mod local;
pub(crate) mod local_peer;
#[cfg(all(test, shuttle))]
mod models;
pub(crate) mod offload;
pub(crate) mod offload_runtime;
pub(crate) mod offloaded_work;
pub(crate) mod run;
mod running;
pub(crate) mod usual;

/// A call from its admission to its response. Its method is borrowed until the call gets a task:
/// most calls get none, and all connections write to the method's reference count.
pub(crate) struct Call<M = Arc<Method>> {
    pub(crate) seq: Seq,
    pub(crate) reply_to: ReplyTo,
    pub(crate) method: M,
    pub(crate) inherited: Inherited,
    pub(crate) arrived: Instant,
    /// `None` if no subscriber listens; behind a pointer, since that is the usual case.
    pub(crate) span: Option<Box<CallSpan>>,
}

/// The receiver of a response that was not ready at once.
pub(crate) enum ReplyTo {
    /// No receiver: the call is one-way.
    None,
    /// The peer of the call's connection.
    Peer,
    /// The same, behind the items of the call.
    PeerStream(Arc<CallStream>),
    /// The caller in this process, see [`local`].
    Local(oneshot::Sender<Response>),
    /// The same, behind the items of the call.
    LocalStream(Arc<LocalPeer>),
}

impl ReplyTo {
    /// Returns the stream of the call; `None` if it does not stream.
    fn stream(&self) -> Option<&Arc<CallStream>> {
        match self {
            Self::PeerStream(stream) => Some(stream),
            Self::LocalStream(peer) => Some(peer.stream()),
            Self::None | Self::Peer | Self::Local(_) => None,
        }
    }
}

impl<'a> Call<&'a Arc<Method>> {
    /// Creates the call of an admitted request, and opens its span. Takes the metadata out of the
    /// header. `limit` is the longest that its handler may run.
    // Inlined, since the call is large to be moved.
    #[inline]
    pub(crate) fn new(
        method: &'a Arc<Method>,
        header: &mut Header,
        reply_to: ReplyTo,
        arrived: Instant,
        limit: Option<Duration>,
        env: &CallEnv,
    ) -> Self {
        let deadline = deadline(header.timeout_ms, limit, arrived);
        let metadata = header.metadata.take().map(|metadata| Arc::new(*metadata));
        let span = CallSpan::open(&method.name, metadata.as_deref(), &env.info);
        let trace = span.as_ref().map(|span| Arc::new(span.context()));
        let inherited = Inherited::default().deadline(deadline).metadata(metadata).trace(trace);
        Self { seq: header.seq, reply_to, method, inherited, arrived, span }
    }

    /// Returns the same call with a reference to its method that can leave the connection's task.
    fn into_owned(self) -> Call {
        let Self { seq, reply_to, method, inherited, arrived, span } = self;
        Call { seq, reply_to, method: Arc::clone(method), inherited, arrived, span }
    }
}

/// Returns the deadline of a call whose caller gives it that many milliseconds, if it gives any, and the server `limit`.
#[inline]
fn deadline(timeout_ms: u64, limit: Option<Duration>, arrived: Instant) -> Option<Instant> {
    let of_caller = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
    sooner(of_caller, limit).map(|limit| later(arrived, limit))
}

impl<M: AsRef<Method>> Call<M> {
    /// Checks that there is time left to start the handler.
    ///
    /// # Errors
    ///
    /// `deadline_exceeded`, `refused`.
    pub(crate) fn check_deadline(&self, now: Instant) -> Result<(), Status> {
        if self.inherited.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Status::refused(Code::DeadlineExceeded, "its time was up before it began"));
        }
        Ok(())
    }

    /// Creates what the handler is given. Takes the method's name and the body out of the message. Called where it is handed
    /// over, since a request is large to be moved.
    #[inline]
    fn request(&self, message: &mut Message, env: &CallEnv) -> Request {
        self.received(message, env, &mut None).into_request()
    }

    /// Returns the same with its parts where they are.
    #[inline]
    fn received<'a>(
        &'a self,
        message: &'a mut Message,
        env: &'a CallEnv,
        spare: &'a mut Option<SpareFuture>,
    ) -> ReceivedRequest<'a> {
        self.method.as_ref().detach_name(&mut message.header.service_method);
        ReceivedRequest::new(message, &self.inherited, &env.negotiated.codec, &env.info, spare)
    }

    /// Returns the time from the arrival of the request to its end, which is now; of a stream, to its first item.
    fn latency(&self) -> Duration {
        let first_item = self.reply_to.stream().and_then(|stream| stream.first_item());
        first_item.unwrap_or_else(|| self.arrived.elapsed())
    }

    /// Counts the call among those that have ended, with this error.
    fn count(&self, status: Option<&Status>, env: &CallEnv, latency: Duration) {
        let method = self.method.as_ref();
        method.stats.ended(latency, status.map(|status| status.code));
        env.server.recent_calls.ended(&method.name, &env.info, latency, status);
        if let Some(status) = status {
            self.record_error(status);
        }
    }

    /// Records the error that the call ends with in its span.
    pub(crate) fn record_error(&self, status: &Status) {
        if let Some(span) = &self.span {
            span.record_error(status);
        }
    }

    /// Enters the call's span, if it has one, until the returned guard is dropped.
    fn enter_span(&self) -> Option<Entered<'_>> {
        self.span.as_ref().map(|span| span.enter())
    }

    /// Runs user code in the call's span, with its deadline and metadata inherited by calls made
    /// within.
    ///
    /// # Errors
    ///
    /// The response to send if the code panicked.
    fn guarded<T>(&self, body: impl FnOnce() -> T) -> Result<T, Response> {
        let _entered = self.enter_span();
        guarded(self.method.as_ref(), self.seq, &self.inherited, body)
    }
}

/// Runs user code, with these values inherited by calls made within.
///
/// # Errors
///
/// The response to send if the code panicked.
#[inline]
fn guarded<T>(
    method: &Method,
    seq: Seq,
    inherited: &Inherited,
    body: impl FnOnce() -> T,
) -> Result<T, Response> {
    // `AssertUnwindSafe`: no state shared with the handler is read after a panic.
    catch_unwind(AssertUnwindSafe(|| inherited.scope(body))).map_err(|panic| panicked(method, seq, &*panic))
}

/// Logs a panic of a handler. Returns the response to send.
#[cold]
fn panicked(method: &Method, seq: Seq, panic: &(dyn Any + Send)) -> Response {
    if let Some(line) = method.panic_log.permit() {
        let (panic, suppressed) = (escaped_panic(panic), line.suppressed);
        error!(method = method.name, %seq, panic, suppressed, "handler panicked");
    }
    Response::error(Status::done(Code::Internal, format!("`{}` panicked", method.name)))
}
