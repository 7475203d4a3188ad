//! One call: its first poll on the connection's task, and a task of its own if that was not enough.
//! Where that has it polled is for [`handler_task`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farcall_context::{ConnectionInfo, Context, Inherited};
use farcall_protocol::{Code, Execution, Flags, Header, Negotiated, Seq, Status};
use futures::stream::{AbortHandle, AbortRegistration, Abortable};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::span::Entered;
use tracing::{debug, error};

use self::encoded_response::{compressed, push_response, within_budget};
use self::handler_task::Turns;
use self::in_flight::{Calls, Running};
use crate::memory_budget::Held;
use crate::observe::span::CallSpan;
use crate::server::state::Core;
use crate::service::handler::{Request, Response, ResponseFuture};
use crate::service::method::Method;

mod admission;
pub(crate) mod encoded_response;
pub(crate) mod handler_task;
pub(crate) mod in_flight;
pub(crate) mod invocation;
pub(crate) mod offload;

/// What a call needs from beginning to end. Its method is borrowed until it gets a task: most calls
/// get none, and the method's count is one that all connections write to.
pub(crate) struct Call<M = Arc<Method>> {
    pub(super) seq: Seq,
    pub(super) answer: Answer,
    pub(super) method: M,
    pub(super) inherited: Inherited,
    pub(super) arrived: Instant,
    /// Where somebody listens. Behind a pointer, since most of the time nobody does.
    pub(super) span: Option<Box<CallSpan>>,
}

/// Who is told how a call ended that did not end at once.
pub(crate) enum Answer {
    /// Nobody: it is one-way.
    Nobody,
    /// The peer of its connection.
    Peer,
    /// Whoever invoked it.
    Invoker(oneshot::Sender<Response>),
}

/// What a call needs of its connection once it has left its task.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) calls: Arc<Calls>,
    pub(crate) negotiated: Arc<Negotiated>,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) core: Arc<Core>,
}

/// How a call got on when it was started, and what time it is then.
pub(crate) enum Started {
    /// It has ended.
    Ended(Response, Instant),
    /// It goes on in a task of its own.
    Spawned(Instant),
}

impl Call<&Arc<Method>> {
    /// Starts the handler. A quick one ends here and now, and costs no task. `now` is the time
    /// that the connection knows; reading the clock again for each call would cost more than
    /// some handlers do. The handler is given the method's name from the header.
    pub(crate) fn start(self, header: &mut Header, body: Bytes, home: &Home, now: Instant) -> Started {
        self.method.stats.started();
        let body_len = body.len();
        if self.method.is_slow() {
            // Its beginning may be what is slow about it, so even that is left to its task.
            let request = self.request(header, body, home);
            self.with_method_of_its_own().spawn(Work::Waiting(request), body_len, home);
            return Started::Spawned(Instant::now());
        }
        home.core.aside.quick_call();
        // All that a quick handler does happens under one guard. What it holds outlives the guard where
        // it panics, since a second panic while the first unwinds would end the process.
        let mut begun = None;
        let polled = self.guarded(|| {
            let reply = begun.insert(self.method.handler.call(self.request(header, body, home)));
            // This waker wakes nobody: what comes back pending is polled again by its own task.
            let polled = Pin::new(reply).poll(&mut task::Context::from_waker(Waker::noop()));
            if polled.is_ready() {
                begun = None;
            }
            polled
        });
        let done = Instant::now();
        let took = done - now;
        self.method.polled(took);
        let response = match polled {
            Ok(Poll::Ready(response)) => response,
            Ok(Poll::Pending) => {
                let reply = begun.expect("what was polled and is pending is there");
                self.with_method_of_its_own().spawn(Work::Begun(reply), body_len, home);
                // Not `done`: the next call is not charged with what this one's task takes to make.
                return Started::Spawned(Instant::now());
            }
            Err(panicked) => self.guarded(|| drop(begun)).err().unwrap_or(panicked),
        };
        // Mostly it began when it arrived, and the difference of the two times is known.
        let latency = if now == self.arrived { took } else { done - self.arrived };
        self.count(&response, home, latency);
        Started::Ended(response, done)
    }

    /// What its handler is given. Made where it is handed over, since it is large to be moved.
    fn request(&self, header: &mut Header, body: Bytes, home: &Home) -> Request {
        let name = std::mem::take(&mut header.service_method);
        let idempotent = header.flags.contains(Flags::IDEMPOTENT);
        let (inherited, info) = (self.inherited.clone(), Arc::clone(&home.info));
        let context = Context::new(name, self.seq, inherited, idempotent, info);
        Request { context, codec: home.negotiated.codec.clone(), body }
    }

    fn with_method_of_its_own(self) -> Call {
        let Self { seq, answer, method, inherited, arrived, span } = self;
        Call { seq, answer, method: Arc::clone(method), inherited, arrived, span }
    }
}

impl Call {
    fn spawn(self, work: Work, body_len: usize, home: &Home) {
        let (abort, registration) = AbortHandle::new_pair();
        let running = Running {
            method: Arc::clone(&self.method),
            from: Arc::clone(&home.info),
            arrived: self.arrived,
            deadline: self.inherited.deadline,
            abort,
        };
        home.calls.begin(self.seq, running);
        home.core.in_flight.fetch_add(1, Relaxed);
        // Its context keeps the buffer that it was read into; where it does not, its arguments
        // are about as large.
        let held = home.core.budget.hold(body_len);
        let place = Place { call: self, home: home.clone(), response: None, _held: held };
        let handling = Handling { work, place, was_slow: false };
        home.core.tasks.spawn(handling.run(registration));
    }
}

impl<M: AsRef<Method>> Call<M> {
    /// That there is time left to begin.
    ///
    /// # Errors
    ///
    /// The status to answer: `deadline_exceeded`, `refused`.
    pub(super) fn check_deadline(&self, now: Instant) -> Result<(), Status> {
        if self.inherited.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Status::refused(Code::DeadlineExceeded, "its time was up before it began"));
        }
        Ok(())
    }

    /// Counts it among the calls that have ended.
    fn count(&self, response: &Response, home: &Home, latency: Duration) {
        let (method, status) = (self.method.as_ref(), response.status());
        method.stats.ended(latency, status.map(|status| status.code));
        home.core.recent.ended(&method.name, &home.info, latency, status);
        if let Some(status) = status {
            self.failed(status);
        }
    }

    /// Tells whoever listens of an error that the call ends with.
    pub(super) fn failed(&self, status: &Status) {
        if let Some(span) = &self.span {
            span.failed(status);
        }
    }

    /// Is in the call's span, if it has one, until what this returns is dropped.
    fn enter_span(&self) -> Option<Entered<'_>> {
        self.span.as_ref().map(|span| span.enter())
    }

    /// One poll of the handler, in which calls that it makes inherit what this one has.
    fn poll(&self, reply: &mut ResponseFuture, cx: &mut task::Context<'_>) -> Poll<Response> {
        match self.guarded(|| Pin::new(reply).poll(cx)) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(panicked),
        }
    }

    /// Runs code of the user's: what it panics with becomes the answer.
    fn guarded<T>(&self, body: impl FnOnce() -> T) -> Result<T, Response> {
        let _entered = self.enter_span();
        // Nothing of ours that the code could have left half done is used after a panic.
        catch_unwind(AssertUnwindSafe(|| self.inherited.scope(body))).map_err(|_| {
            let method = &self.method.as_ref().name;
            error!(%method, seq = %self.seq, "handler panicked");
            let message = format!("`{method}` panicked");
            Response::error(Status::done(Code::Internal, message))
        })
    }
}

/// How far a handler is when its call gets a task.
enum Work {
    /// It was not called yet.
    Waiting(Request),
    /// It was called, and perhaps polled.
    Begun(ResponseFuture),
    /// It will not be called, or did not survive it.
    Over,
}

impl Work {
    /// One poll, which calls the handler first if that was not done yet.
    fn poll(&mut self, call: &Call, now: Instant, cx: &mut task::Context<'_>) -> Poll<Response> {
        if matches!(self, Self::Waiting(_)) {
            if let Err(status) = call.check_deadline(now) {
                return Poll::Ready(Response::error(status));
            }
            let Self::Waiting(request) = std::mem::replace(self, Self::Over) else { unreachable!() };
            match call.guarded(|| call.method.handler.call(request)) {
                Ok(reply) => *self = Self::Begun(reply),
                Err(panicked) => return Poll::Ready(panicked),
            }
        }
        match self {
            Self::Begun(reply) => call.poll(reply, cx),
            Self::Waiting(_) | Self::Over => unreachable!("it is called above, and not polled after its end"),
        }
    }
}

/// A call's place among those in flight: held until its handler has really ended, and then given
/// back with an answer, whatever happened.
struct Place {
    call: Call,
    home: Home,
    response: Option<Response>,
    _held: Held,
}

/// A handler at work, and the place that it has.
pub(super) struct Handling {
    // In this order, also where it is dropped unfinished: what the handler holds is gone before
    // its place comes free.
    work: Work,
    place: Place,
    was_slow: bool,
}

impl Handling {
    pub(super) const fn core(&self) -> &Arc<Core> {
        &self.place.home.core
    }

    /// What tells its method from the others of the server.
    pub(super) fn method_id(&self) -> usize {
        Arc::as_ptr(&self.place.call.method).addr()
    }

    /// Whether a poll may take too long for a thread that others wait for.
    pub(super) fn is_slow(&self) -> bool {
        self.place.call.method.is_slow()
    }

    /// One poll, which may take so much more time than another for what is not the handler's doing.
    /// Ready once there is a response.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>, allowance: Duration) -> Poll<()> {
        let Self { work, place, was_slow } = self;
        let began = Instant::now();
        let polled = work.poll(&place.call, began, cx);
        *was_slow |= place.call.method.polled(began.elapsed().saturating_sub(allowance));
        polled.map(|response| place.response = Some(response))
    }

    async fn run(self, registration: AbortRegistration) {
        let deadline = self.place.call.inherited.deadline;
        let mut turns = Turns::new(self);
        let ended = {
            let running = pin!(Abortable::new(turns.run(), registration));
            match deadline {
                Some(deadline) => timeout_at(deadline, running).await,
                None => Ok(running.await),
            }
        };
        let Some(Self { work, mut place, was_slow }) = turns.over().await else { return };
        let response = match (place.response.take(), ended) {
            (Some(response), _) => {
                if !was_slow {
                    place.call.method.was_quick();
                }
                response
            }
            (None, Ok(_)) => place.cut_off(&work, Code::Cancelled, place.home.calls.why_cancelled()),
            (None, Err(_elapsed)) => place.cut_off(&work, Code::DeadlineExceeded, "its time ran out"),
        };
        // Whatever the handler holds is gone before its place comes free.
        let response = match place.call.guarded(|| drop(work)) {
            Ok(()) => response,
            Err(panicked) => panicked,
        };
        place.response = Some(response);
    }
}

impl Place {
    fn cut_off(&self, work: &Work, code: Code, why: &str) -> Response {
        let method = &self.call.method.name;
        let _entered = self.call.enter_span();
        debug!(method, seq = %self.call.seq, why, "handler stopped");
        let execution = match work {
            Work::Waiting(_) => Execution::Refused,
            Work::Begun(_) | Work::Over => Execution::Maybe,
        };
        Response::error(Status::new(code, execution, format!("`{method}` was stopped: {why}")))
    }
}

impl Drop for Place {
    /// Also when the task is dropped unfinished, as a runtime that shuts down does it.
    fn drop(&mut self) {
        let response = self.response.take().unwrap_or_else(|| {
            Response::error(Status::maybe(Code::Internal, format!("`{}` was dropped", self.call.method.name)))
        });
        let Self { call, home, .. } = self;
        call.count(&response, home, call.arrived.elapsed());
        home.core.in_flight.fetch_sub(1, Relaxed);
        match std::mem::replace(&mut call.answer, Answer::Nobody) {
            Answer::Nobody => home.calls.end(call.seq, |_| ()),
            Answer::Peer => {
                let (response, flags) = compressed(within_budget(response, &home.core), &home.negotiated);
                home.calls.end(call.seq, |outbox| {
                    push_response(outbox, &home.negotiated, call.seq, &response, flags);
                });
            }
            Answer::Invoker(invoker) => {
                home.calls.end(call.seq, |_| ());
                // Whoever invoked it and went away wants no answer.
                let _ = invoker.send(within_budget(response, &home.core));
            }
        }
    }
}
