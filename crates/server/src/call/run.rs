//! The start of a call: its handler's first poll on the task that read the request, and a task for
//! the call if that was not enough.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::{Message, Metadata};
use futures::stream::{AbortHandle, AbortRegistration};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use super::Call;
use super::env::CallEnv;
use super::handler_task::HandlerTask;
use super::in_flight::InFlightCall;
use super::offload::{OffloadPool, Trial};
use super::running::{HandlerState, RunningHandler, worked};
use crate::observe::span::CallSpan;
use crate::overload::admission::{Applicant, Entry, PlaceWait};
use crate::overload::refusal::Refusal;
use crate::service::handler::{Request, Response, ResponseFuture, SpareFuture};
use crate::service::judgement::{ArgumentSize, Judgement, MAX_QUICK_POLL, PollPlace};
use crate::service::method::Method;
use crate::stream::call_stream::CallStream;

/// The size of a call that has a task, without its body and metadata, in bytes: its task, its handler, and its places in the
/// tables. 10,000 idle streams were measured at 2.6 KB each.
pub(super) const TASK_BYTES: usize = 4 * 1024;

/// A body below this, in bytes, is copied out of the read buffer for a call that waits for a thread.
const MAX_COPIED_BODY: usize = 4 * 1024;

/// The stream of a call that starts: `()` if it does not stream, which costs nothing then.
pub(crate) trait StartedStream: Copy {
    /// `true` if the call streams.
    const STREAMS: bool;

    /// Hands the stream over with the request.
    fn attach(&self, request: &mut Request);

    /// Returns the latency of the call, which ended after this time.
    fn latency(&self, ended: Duration) -> Duration;

    /// Notes in the call's span that the stream has ended.
    fn ended(&self, span: Option<&CallSpan>);

    /// Returns the stream for the table of calls in flight.
    fn shared(&self) -> Option<Arc<CallStream>>;
}

impl StartedStream for () {
    const STREAMS: bool = false;

    #[inline]
    fn attach(&self, _request: &mut Request) {}

    #[inline]
    fn latency(&self, ended: Duration) -> Duration {
        ended
    }

    #[inline]
    fn ended(&self, _span: Option<&CallSpan>) {}

    #[inline]
    fn shared(&self) -> Option<Arc<CallStream>> {
        None
    }
}

impl StartedStream for &Arc<CallStream> {
    const STREAMS: bool = true;

    fn attach(&self, request: &mut Request) {
        request.set_stream(Arc::clone(self));
    }

    fn latency(&self, ended: Duration) -> Duration {
        self.first_item().unwrap_or(ended)
    }

    fn ended(&self, span: Option<&CallSpan>) {
        if let Some(span) = span {
            span.record_stream_end();
        }
    }

    fn shared(&self) -> Option<Arc<CallStream>> {
        Some(Arc::clone(self))
    }
}

/// Starts the handler. A quick one ends within this function, and costs no task. Returns the time at the end of it. The
/// response is put into `response`, which is `None`; without one, the call goes on in its task.
///
/// `now` is the time that the caller knows: to read the clock again for each call would cost more
/// than some handlers do. The handler is given the method's name from the header, and `spare` for its future, which is
/// put back when it has ended. It takes the body, or reads it where it is.
pub(crate) fn start<S: StartedStream>(
    call: Call<&Arc<Method>>,
    message: &mut Message,
    stream: S,
    env: &CallEnv,
    now: Instant,
    spare: &mut Option<SpareFuture>,
    response: &mut Option<Response>,
) -> Instant {
    if !S::STREAMS && env.server.overload.is_some() {
        match entry(&call, env, now) {
            Entry::Start => {}
            Entry::Wait(wait) => {
                call.method.stats.started();
                let (held_bytes, size) =
                    (held_bytes(&call, &message.body), ArgumentSize::of(message.body.len()));
                let mut request = call.request(message, env);
                copy_small_body(&mut request);
                let handler = HandlerState::NotStarted(request);
                spawn_waiting(call.into_owned(), handler, held_bytes, size, wait, env);
                return Instant::now();
            }
            Entry::Refuse(refusal) => {
                *response = Some(refuse(&call, refusal, env, now));
                return now;
            }
        }
    }
    call.method.stats.started();
    let (body_len, held_bytes) = (message.body.len(), held_bytes(&call, &message.body));
    let size = ArgumentSize::of(body_len);
    let judgement = call.method.judgement(size);
    let mut doubtful = None;
    if !judgement.is_quick() {
        doubtful = Doubtful::try_begin(judgement, env);
        if doubtful.is_none() {
            // The handler's first poll may be the slow one, so that one is left to the task, too.
            let mut request = call.request(message, env);
            stream.attach(&mut request);
            copy_small_body(&mut request);
            spawn(
                call.into_owned(),
                HandlerState::NotStarted(request),
                held_bytes,
                size,
                stream.shared(),
                env,
            );
            return Instant::now();
        }
    }
    env.server.offload.note_quick_call();
    // All that a quick handler does happens under one guard. The future outlives the guard if it
    // panics, since a second panic while the first unwinds would end the process.
    let mut started = None;
    let polled = call.guarded(|| {
        let handler = &call.method.handler;
        let future = if S::STREAMS {
            let mut request = call.request(message, env);
            stream.attach(&mut request);
            handler.call(request)
        } else {
            handler.call_received(call.received(message, env, spare))
        };
        let future = started.insert(future);
        // A waker that does nothing: a pending future is polled again by its task.
        if let Poll::Ready(ready) = Pin::new(future).poll(&mut task::Context::from_waker(Waker::noop())) {
            *response = Some(ready);
            if let Some(ended) = started.take().and_then(ResponseFuture::into_spare) {
                *spare = Some(ended);
            }
        }
    });
    let done = Instant::now();
    let took = done - now;
    match doubtful {
        None => {
            call.method.polled(size, took);
        }
        Some(doubtful) => doubtful.end(call.method, size, took),
    }
    if let Err(panicked) = polled {
        *response = Some(call.guarded(|| drop(started)).err().unwrap_or(panicked));
    } else if response.is_none() {
        // What the handler has read is not kept while it goes on.
        drop(std::mem::take(&mut message.body));
        let future = started.expect("a pending future was not dropped");
        spawn(call.into_owned(), HandlerState::Started(future), held_bytes, size, stream.shared(), env);
        // Not `done`: the next call is not charged with the time to create this one's task.
        return Instant::now();
    }
    // Usually it started when it arrived, and the difference of the two times is known.
    let latency = if now == call.arrived { took } else { done - call.arrived };
    let status = response.as_ref().and_then(Response::status);
    call.count(status, env, stream.latency(latency));
    stream.ended(call.span.as_deref());
    done
}

/// Starts a call with a large compressed body, which is decompressed where slow handlers are polled. `len` is its
/// length then. Returns the response if there is one already; otherwise, the call goes on in its task.
#[cold]
pub(crate) fn start_compressed<S: StartedStream>(
    call: Call<&Arc<Method>>,
    message: &mut Message,
    len: usize,
    stream: S,
    env: &CallEnv,
) -> Option<Response> {
    let size = ArgumentSize::of(len);
    let held_bytes = held_bytes(&call, &message.body);
    if !S::STREAMS && env.server.overload.is_some() {
        match entry(&call, env, Instant::now()) {
            Entry::Start => {}
            Entry::Wait(wait) => {
                call.method.stats.started();
                let handler = HandlerState::Compressed(call.request(message, env));
                spawn_waiting(call.into_owned(), handler, held_bytes, size, wait, env);
                return None;
            }
            Entry::Refuse(refusal) => return Some(refuse(&call, refusal, env, Instant::now())),
        }
    }
    call.method.stats.started();
    let mut request = call.request(message, env);
    stream.attach(&mut request);
    spawn(call.into_owned(), HandlerState::Compressed(request), held_bytes, size, stream.shared(), env);
    None
}

/// Has an adaptive limit decide on a call.
#[cold]
fn entry(call: &Call<&Arc<Method>>, env: &CallEnv, now: Instant) -> Entry {
    let Some(overload) = &env.server.overload else { return Entry::Start };
    let metadata = call.inherited.metadata.as_deref();
    let applicant = Applicant {
        method: call.method,
        criticality: metadata.map(Metadata::criticality).unwrap_or_default(),
        caller: env.caller_id(),
        deadline: call.inherited.deadline,
    };
    overload.admit(&applicant, now)
}

/// Ends a call that is not started.
#[cold]
fn refuse(call: &Call<&Arc<Method>>, refusal: Refusal, env: &CallEnv, now: Instant) -> Response {
    let response = refusal.response(&call.method.name);
    if let Some(status) = response.status() {
        call.record_error(status);
        env.server.recent_calls.ended(&call.method.name, &env.info, now - call.arrived, Some(status));
    }
    response
}

/// Copies a small body out of the read buffer: its call waits, and would keep the buffer of many other messages.
fn copy_small_body(request: &mut Request) {
    if request.body.len() < MAX_COPIED_BODY {
        request.body = Bytes::copy_from_slice(&request.body);
    }
}

/// A call that is polled on the connection's task though its method may be slow, which this poll tells.
struct Doubtful<'a> {
    offload: &'a OffloadPool,
    /// `None` if the method was only suspected to be slow.
    _trial: Option<Trial<'a>>,
    preempted: Duration,
}

impl<'a> Doubtful<'a> {
    /// `None` if the method is known to be slow, or nothing is known of it and another call is on trial, or the call
    /// might hold up other connections of a server with several threads: those whose tasks are queued on the same
    /// thread wait even if the others are free.
    #[cold]
    fn try_begin(judgement: &Judgement, env: &'a CallEnv) -> Option<Self> {
        let offload = &*env.server.offload;
        let trial = match judgement.place() {
            PollPlace::Connection | PollPlace::Measured => None,
            PollPlace::Offload => return None,
            PollPlace::Trial => {
                let is_alone = env.server.tasks.len() <= 1 + env.calls.all_in_flight();
                // A single thread runs the tests of handlers, where nothing is gained if first calls differ from others.
                let has_threads = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
                if has_threads && !is_alone {
                    return None;
                }
                Some(offload.try_trial()?)
            }
        };
        Some(Self { offload, _trial: trial, preempted: offload.preempted() })
    }

    /// Judges the method by the poll that is done.
    #[cold]
    fn end(self, method: &Method, size: ArgumentSize, took: Duration) {
        let judgement = method.judgement(size);
        let worked = worked(took, self.preempted, self.offload);
        if worked > MAX_QUICK_POLL {
            judgement.found_slow(method.judged(), worked);
        } else {
            judgement.was_quick();
        }
    }
}

/// Returns the bytes that a call holds if it gets a task: the body, which the context keeps or the
/// decoded arguments are about as large as; both while they are decoded; and the metadata.
fn held_bytes<M>(call: &Call<M>, body: &Bytes) -> usize {
    let metadata = call.inherited.metadata.as_ref().map_or(0, |metadata| metadata.memory_bytes());
    TASK_BYTES + 2 * body.len() + metadata
}

/// Gives a call a task that polls its handler to the end.
pub(super) fn spawn(
    call: Call,
    handler: HandlerState,
    held_bytes: usize,
    size: ArgumentSize,
    stream: Option<Arc<CallStream>>,
    env: &CallEnv,
) {
    let place = match &env.server.overload {
        Some(overload) if stream.is_none() => overload.begin(&call.method, Instant::now()),
        _ => None,
    };
    let registration = begin(&call, held_bytes, stream, env);
    let handler = RunningHandler::new(call, env, handler, size, place);
    env.server.tasks.spawn(HandlerTask::new(handler).run(registration));
}

/// Gives a call a task that waits for a place, and polls its handler to the end.
#[cold]
fn spawn_waiting(
    call: Call,
    handler: HandlerState,
    held_bytes: usize,
    size: ArgumentSize,
    wait: PlaceWait,
    env: &CallEnv,
) {
    let registration = begin(&call, held_bytes, None, env);
    let handler = RunningHandler::new(call, env, handler, size, None);
    env.server.tasks.spawn(HandlerTask::waiting(handler, wait).run(registration));
}

/// Adds a call to those in flight on its connection.
fn begin(
    call: &Call,
    held_bytes: usize,
    stream: Option<Arc<CallStream>>,
    env: &CallEnv,
) -> AbortRegistration {
    let (abort, registration) = AbortHandle::new_pair();
    let in_flight = InFlightCall {
        method: Arc::clone(&call.method),
        from: Arc::clone(&env.info),
        arrived: call.arrived,
        deadline: call.inherited.deadline,
        held_bytes,
        abort,
        stream,
    };
    env.calls.begin(call.seq, in_flight);
    registration
}
