//! [`RunningHandler`]: a handler that needs more than one poll, and the permit that its call holds
//! until it has ended. When and where it is polled is for [`super::handler_task`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::time::{later, sooner};
use farcall_protocol::{Code, Execution, Status};
use farcall_transport::HumanDuration;
use tokio::time::Instant;
use tracing::debug;

use super::encoded_response::{EncodedResponse, compress};
use super::env::CallEnv;
use super::fair_queue::Flow;
use super::offload::{OffloadPool, SHORT_JOB};
use super::{Call, ReplyTo};
use crate::overload::admission::Place;
use crate::overload::refusal::Refusal;
use crate::server::state::ServerState;
use crate::service::handler::{Request, Response, ResponseFuture};
use crate::service::judgement::{ArgumentSize, MAX_QUICK_POLL};
use crate::stream::call_stream::CallStream;

/// The time that an offloaded poll may take longer than a local one: its thread was just woken, on
/// another core with cold caches. Without it, quick methods would stay offloaded for being offloaded.
const COLD_START: Duration = Duration::from_micros(100);

/// The progress of a handler whose call has a task.
pub(super) enum HandlerState {
    /// The handler was not called yet, and the request's body is compressed.
    Compressed(Request),
    /// The handler was not called yet.
    NotStarted(Request),
    /// The handler was called, and perhaps polled.
    Started(ResponseFuture),
    /// The handler will not be called, or panicked when it was.
    Finished,
}

/// The reason why no more polls of a handler are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// There is a response.
    Completed,
    /// The caller, or the server's stop, cancelled the call.
    Cancelled,
    /// The call's deadline has passed.
    DeadlineExceeded,
}

/// A handler in progress, and its call's permit.
pub(super) struct RunningHandler {
    // In this order, also if this is dropped unfinished: what the handler holds is gone before the
    // permit is released.
    state: HandlerState,
    permit: CallPermit,
    size: ArgumentSize,
    /// `true` if any poll was too slow for a thread that runs connections.
    was_slow: bool,
}

/// A call's place among those in flight. When it is dropped, the handler has ended: it counts the
/// call and sends the response, whatever happened.
struct CallPermit {
    call: Call,
    env: CallEnv,
    response: Option<Response>,
    /// `None` without an adaptive limit, while the call waits for a place, and for calls that are not limited.
    place: Option<Place>,
}

impl HandlerState {
    /// Decompresses the request's body, if that was not done yet and is still worth it.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    fn decompress(&mut self, call: &Call, env: &CallEnv) -> Result<(), Status> {
        if !matches!(self, Self::Compressed(_)) {
            return Ok(());
        }
        let Self::Compressed(mut request) = std::mem::replace(self, Self::Finished) else { unreachable!() };
        call.check_deadline(Instant::now())?;
        // Not before: queued calls hold what they were sent.
        let len = env.decompressed_len(&request.body)?;
        env.server.check_memory(&env.calls, 2 * len)?;
        env.calls.hold_more(call.seq, 2 * len);
        request.body = env.decompress(&request.body)?;
        *self = Self::NotStarted(request);
        Ok(())
    }

    /// Polls once, which calls the handler first if that was not done yet.
    fn poll(&mut self, call: &Call, now: Instant, cx: &mut Context<'_>) -> Poll<Response> {
        if matches!(self, Self::NotStarted(_)) {
            if let Err(status) = call.check_deadline(now) {
                return Poll::Ready(Response::error(status));
            }
            let Self::NotStarted(request) = std::mem::replace(self, Self::Finished) else { unreachable!() };
            match call.guarded(|| call.method.handler.call(request)) {
                Ok(future) => *self = Self::Started(future),
                Err(panicked) => return Poll::Ready(panicked),
            }
        }
        let Self::Started(future) = self else {
            unreachable!("it is started above, and not polled after its end")
        };
        match call.guarded(|| Pin::new(future).poll(cx)) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(panicked),
        }
    }
}

impl RunningHandler {
    /// Creates it together with the call's permit. `size` is that of the arguments.
    pub(super) fn new(
        call: Call,
        env: &CallEnv,
        state: HandlerState,
        size: ArgumentSize,
        place: Option<Place>,
    ) -> Self {
        env.server.in_flight.fetch_add(1, Relaxed);
        let permit = CallPermit { call, env: env.clone(), response: None, place };
        Self { state, permit, size, was_slow: false }
    }

    pub(super) const fn server(&self) -> &Arc<ServerState> {
        &self.permit.env.server
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.permit.call.inherited.deadline
    }

    /// Returns the time until which a streaming call must have sent an item, or ended, and its stream. `None` for other
    /// calls, and without that limit.
    pub(super) fn first_item_limit(&self) -> Option<(Instant, Arc<CallStream>)> {
        let CallPermit { call, env, .. } = &self.permit;
        let stream = call.reply_to.stream()?;
        Some((later(call.arrived, env.negotiated.handle_timeout?), Arc::clone(stream)))
    }

    /// Takes the place that the call has waited for. Returns `false` if it has none, and will not be started.
    pub(super) fn enter(&mut self, granted: Result<Place, Refusal>) -> bool {
        match granted {
            Ok(place) => {
                self.permit.place = Some(place);
                true
            }
            Err(refusal) => {
                self.state = HandlerState::Finished;
                self.permit.response = Some(refusal.response(&self.permit.call.method.name));
                false
            }
        }
    }

    /// Returns the origin of its polls, for a fair share of the offload pool.
    pub(super) fn flow(&self) -> Flow {
        let CallPermit { call, env, .. } = &self.permit;
        env.flow(&call.method)
    }

    /// Returns `true` if a poll may take too long for a thread that runs connections.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.state, HandlerState::Compressed(_))
            || !self.permit.call.method.judgement(self.size).is_quick()
    }

    /// Returns `true` if its next poll will hardly hold up others: the last ones of its client were short, or its method
    /// was only suspected to be slow.
    pub(super) fn is_short(&self) -> bool {
        let CallPermit { call, env, .. } = &self.permit;
        env.calls.offloads_are_within(SHORT_JOB)
            || call.method.judgement(self.size).is_only_suspected(call.method.judged())
    }

    /// Ready if the connection's handlers have time left in this turn; otherwise the task is woken in a later one.
    /// `has_waited` is the task's own.
    #[inline]
    pub(super) fn poll_turn(&mut self, cx: &Context<'_>, has_waited: &mut bool) -> Poll<()> {
        if self.permit.env.calls.try_begin_poll(cx, has_waited) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Polls once, on a thread that runs connections. Ready as soon as there is a response.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { state, permit, size, was_slow } = self;
        let now = Instant::now();
        let polled = state.poll(&permit.call, now, cx);
        let took = now.elapsed();
        permit.env.calls.poll_ended(took);
        if permit.call.reply_to.stream().is_some() {
            permit.call.method.note_stream_poll();
        }
        *was_slow |= permit.call.method.polled(*size, took);
        polled.map(|response| permit.response = Some(response))
    }

    /// Polls once, on a thread of the offload pool. Ready as soon as there is a response.
    pub(super) fn poll_offloaded(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { state, permit, size, was_slow } = self;
        let CallPermit { call, env, response: slot, .. } = permit;
        if let Err(status) = state.decompress(call, env) {
            *slot = Some(Response::error(status));
            return Poll::Ready(());
        }
        let preempted = env.server.offload.preempted();
        let now = Instant::now();
        let polled = state.poll(call, now, cx);
        let worked = worked(now.elapsed(), preempted, &env.server.offload);
        let judgement = call.method.judgement(*size);
        if worked > MAX_QUICK_POLL + COLD_START {
            judgement.found_slow(call.method.judged(), worked);
            *was_slow = true;
        } else if call.reply_to.stream().is_some() {
            call.method.note_stream_poll();
            judgement.was_quick();
        }
        env.calls.offloaded(worked);
        polled.map(|mut response| {
            if matches!(call.reply_to, ReplyTo::Peer | ReplyTo::PeerStream(_)) {
                // Here, since it may take longer than the poll.
                compress(&mut response, &env.negotiated);
            }
            *slot = Some(response);
        })
    }

    /// Drops the handler, then releases the permit with the response: the handler's if there is one,
    /// else one that says why it was stopped.
    pub(super) fn finish(self, reason: StopReason) {
        let Self { state, mut permit, size, was_slow } = self;
        if reason != StopReason::Completed {
            permit.env.calls.poll_ended(Duration::ZERO);
        }
        let response = match (permit.response.take(), reason) {
            (Some(response), _) => {
                // A call that was refused before its handler began says nothing about the handler.
                if !was_slow && matches!(state, HandlerState::Started(_)) {
                    permit.call.method.judgement(size).was_quick();
                    permit.env.server.offload.note_quick_call();
                }
                response
            }
            (None, StopReason::DeadlineExceeded) => {
                permit.stopped(&state, Code::DeadlineExceeded, &permit.exceeded_limit())
            }
            (None, StopReason::Completed | StopReason::Cancelled) => {
                permit.stopped(&state, Code::Cancelled, permit.env.calls.cancel_reason())
            }
        };
        // What the handler holds is gone before the permit is released.
        let dropped = permit.call.guarded(|| drop(state));
        if let Some(place) = &mut permit.place
            && reason == StopReason::Completed
        {
            place.complete();
        }
        permit.response = Some(dropped.err().unwrap_or(response));
    }
}

/// Returns how long a poll has worked that took this time, without that for which its thread was preempted.
/// `preempted` is [`OffloadPool::preempted`] before the poll.
pub(super) fn worked(took: Duration, preempted: Duration, offload: &OffloadPool) -> Duration {
    if took <= MAX_QUICK_POLL {
        return took;
    }
    let preempted = offload.preempted().saturating_sub(preempted);
    // Less than it took, unless the time is paused: then both have nothing to do with each other.
    took.checked_sub(preempted).unwrap_or(took)
}

impl CallPermit {
    /// Names the limit that the call has exceeded: its caller's timeout, or `handle_timeout`, which is for the time until
    /// the first item if the call sends any.
    fn exceeded_limit(&self) -> String {
        let Self { call, env, .. } = self;
        let handle_timeout = env.negotiated.handle_timeout;
        let of_call = call.inherited.deadline.map(|deadline| deadline - call.arrived);
        let of_first_item =
            call.reply_to.stream().filter(|stream| stream.first_item().is_none()).and(handle_timeout);
        let limit = sooner(of_call, of_first_item).unwrap_or_default();
        let name = if handle_timeout == Some(limit) { "`handle_timeout`" } else { "its caller's timeout" };
        let what =
            if of_first_item == Some(limit) { "it sent no item and did not end" } else { "it did not end" };
        format!("{what} within {}, {name}", HumanDuration(limit))
    }

    /// Creates the response of a handler that was stopped.
    fn stopped(&self, state: &HandlerState, code: Code, reason: &str) -> Response {
        if let Some(stream) = self.call.reply_to.stream() {
            stream.abandon();
            if let Some((status, metadata)) = stream.cut_status().filter(|_| code == Code::Cancelled) {
                let response = Response::error(status);
                return match metadata {
                    Some(metadata) => response.with_metadata(metadata),
                    None => response,
                };
            }
        }
        let method = &self.call.method.name;
        let _entered = self.call.enter_span();
        debug!(method, seq = %self.call.seq, reason, "handler stopped");
        let execution = match state {
            HandlerState::Compressed(_) | HandlerState::NotStarted(_) => Execution::Refused,
            HandlerState::Started(_) | HandlerState::Finished => Execution::Maybe,
        };
        Response::error(Status::new(code, execution, format!("`{method}` was stopped: {reason}")))
    }
}

impl Drop for CallPermit {
    /// Also runs when the task is dropped unfinished, as by a runtime that shuts down: the call is
    /// counted and answered in that case, too.
    fn drop(&mut self) {
        let mut response = self.response.take().unwrap_or_else(|| {
            Response::error(Status::maybe(Code::Internal, format!("`{}` was dropped", self.call.method.name)))
        });
        self.place = None;
        let Self { call, env, .. } = self;
        call.count(response.status(), env, call.latency());
        env.server.in_flight.fetch_sub(1, Relaxed);
        match std::mem::replace(&mut call.reply_to, ReplyTo::None) {
            ReplyTo::None => env.calls.end(call.seq, |_| ()),
            ReplyTo::Peer => {
                env.server.keep_within_budget(&mut response, &env.calls);
                // Compressed before the lock is taken.
                let encoded = EncodedResponse::new(&mut response, &env.negotiated);
                env.calls.end(call.seq, |outbox| encoded.push_to(outbox, call.seq, &env.negotiated));
            }
            ReplyTo::PeerStream(stream) => {
                if let Some(span) = &call.span {
                    span.record_stream_end();
                }
                env.server.keep_within_budget(&mut response, &env.calls);
                let encoded = EncodedResponse::new(&mut response, &env.negotiated);
                env.calls.end(call.seq, |outbox| {
                    stream.finish(outbox);
                    encoded.push_to(outbox, call.seq, &env.negotiated);
                });
                // If the connection has closed, nothing was appended.
                stream.remove();
            }
            ReplyTo::Local(caller) => {
                env.calls.end(call.seq, |_| ());
                env.server.keep_within_budget(&mut response, &env.calls);
                // An error means that the caller is gone and needs no response.
                let _ = caller.send(response);
            }
            ReplyTo::LocalStream(peer) => {
                env.calls.end(call.seq, |_| ());
                env.server.keep_within_budget(&mut response, &env.calls);
                peer.finish(response);
            }
        }
    }
}
