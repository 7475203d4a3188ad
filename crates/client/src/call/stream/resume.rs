//! [`Resume`]: the calls that a stream goes on with when its own fails, or when the server drains.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farcall_discovery::{Backoff, Jitter};
use farcall_protocol::stream::ItemBody;
use farcall_protocol::time::later;
use farcall_protocol::{Body, Code, Codec, EncodeError};
use farcall_runtime::time::{Instant, Sleep, sleep, sleep_until};

use super::link::Link;
use super::task::open;
use crate::call::channel_core::ChannelCore;
use crate::call::request::Request;
use crate::connection::streams::Directions;
use crate::error::RpcError;

/// The most calls in a row without an item.
const MAX_CALLS: u32 = 10;
/// The pauses before the second of these calls, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The time for which the old stream waits for the first item of the new one while its server drains. A stream without an
/// item by then, and without an error, counts as open.
const MAX_FIRST_WAIT: Duration = Duration::from_secs(1);
/// The time for which the old stream waits until the request of the new one is sent. Then it goes on.
const MAX_OPENING: Duration = Duration::from_secs(5);

/// Encodes the arguments of the next call from the last item; `None` if that does not decode.
type ArgumentsFn = Box<dyn FnMut(&Codec, &ItemBody<'_>) -> Option<Result<Body, EncodeError>> + Send>;

/// The way in which a stream goes on.
pub(super) struct Resume {
    /// Behind a lock, so that the half with it can be shared between threads.
    arguments: Mutex<ArgumentsFn>,
    /// The request of the first call.
    request: Request,
    first_within: Option<Duration>,
    /// The last item that was taken.
    last: Option<Bytes>,
    /// The calls since then.
    calls: u32,
    backoff: Backoff,
    /// The time by which the whole call has to be over.
    deadline: Option<Instant>,
    state: State,
}

enum State {
    /// Items are taken.
    Taking,
    /// The call has failed: the next one is made after this pause.
    Pausing(Pin<Box<Sleep>>),
    /// The server drains: another call is on its way, and no items are taken meanwhile.
    Switching(NextCall),
    /// The server drains, and the last call elsewhere has failed: items are taken until the next one.
    Draining(Pin<Box<Sleep>>),
}

/// A call that may replace the one in use. Dropping it cancels it.
struct NextCall {
    /// `None` once it has replaced the other.
    link: Option<Arc<Link>>,
    /// The end of the wait for its first item, once its request was sent; before, that of the wait for that.
    until: Pin<Box<Sleep>>,
    was_sent: bool,
}

/// The next step of the receiving half.
pub(super) enum Step {
    /// To take items.
    Take,
    /// To wait.
    Wait,
    /// To go on with this call.
    Switch(Arc<Link>),
}

impl Resume {
    pub(super) fn new(
        arguments: impl FnMut(&Codec, &ItemBody<'_>) -> Option<Result<Body, EncodeError>> + Send + 'static,
    ) -> Self {
        Self {
            arguments: Mutex::new(Box::new(arguments)),
            request: Request::default(),
            first_within: None,
            last: None,
            calls: 0,
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE).jitter(Jitter::Around(0.2)),
            deadline: None,
            state: State::Taking,
        }
    }

    /// Remembers the first call, which starts now.
    pub(super) fn prepared(mut self, request: &Request, first_within: Option<Duration>) -> Self {
        self.request = request.clone();
        self.first_within = first_within;
        self.deadline = request.timeout().map(|limit| Instant::now() + limit);
        self
    }

    /// Remembers an item that was taken.
    pub(super) fn taken(&mut self, value: &ItemBody<'_>) {
        self.last = Some(value.to_bytes());
        if std::mem::take(&mut self.calls) > 0 {
            self.backoff.reset();
        }
    }

    /// Returns `true` if the stream goes on after this error of its call.
    pub(super) fn failed(&mut self, error: &RpcError) -> bool {
        if error.code() != Code::Unavailable || self.calls >= MAX_CALLS || self.is_late() {
            return false;
        }
        // The first one is made at once: the server is likely to have said where the stream stands.
        let pause = if self.calls == 0 { Duration::ZERO } else { self.backoff.next_pause() };
        let resumed_at = later(Instant::now(), pause);
        if self.deadline.is_some_and(|deadline| deadline <= resumed_at) {
            return false;
        }
        self.state = State::Pausing(Box::pin(sleep_until(resumed_at)));
        true
    }

    /// Returns what to do next; pending if that is to wait.
    pub(super) fn poll_step(
        &mut self,
        link: &Arc<Link>,
        core: &Arc<ChannelCore>,
        cx: &mut Context<'_>,
    ) -> Poll<Step> {
        loop {
            match &mut self.state {
                State::Taking => {
                    if link.is_over() || !link.is_draining() || self.is_late() || self.calls >= MAX_CALLS {
                        return Poll::Ready(Step::Take);
                    }
                    let Some(next) = self.call(link, core) else { return Poll::Ready(Step::Take) };
                    let until = Box::pin(sleep(MAX_OPENING));
                    let next = NextCall { link: Some(next), until, was_sent: false };
                    self.state = State::Switching(next);
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = State::Taking;
                    if let Some(next) = self.call(link, core) {
                        return Poll::Ready(Step::Switch(next));
                    }
                }
                State::Draining(pause) => {
                    if link.is_over() || pause.as_mut().poll(cx).is_ready() {
                        self.state = State::Taking;
                        continue;
                    }
                    return Poll::Ready(Step::Take);
                }
                State::Switching(next) => {
                    match link.outcome_or_wait(cx) {
                        // All is said: the rest of it is here already.
                        Some(Ok(_)) => {
                            self.state = State::Taking;
                            continue;
                        }
                        Some(Err(_)) => {
                            let next = next.link.take();
                            self.state = State::Taking;
                            return Poll::Ready(next.map_or(Step::Take, Step::Switch));
                        }
                        None => {}
                    }
                    let opened = ready!(next.poll_open(cx));
                    let next = next.link.take();
                    if opened {
                        self.state = State::Taking;
                        return Poll::Ready(next.map_or(Step::Take, Step::Switch));
                    }
                    if let Some(next) = next {
                        next.drop_half(true);
                    }
                    let pause = self.backoff.next_pause();
                    self.state = State::Draining(Box::pin(sleep(pause)));
                }
            }
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Makes the next call, at another endpoint than that of `link` if there is one. `None` if there are no arguments.
    fn call(&mut self, link: &Link, core: &Arc<ChannelCore>) -> Option<Arc<Link>> {
        let mut request = self.request.clone();
        if let Some(last) = &self.last {
            let arguments = self.arguments.get_mut().unwrap_or_else(PoisonError::into_inner);
            request.set_body(arguments(&core.codec, &ItemBody::from(last.clone()))?);
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request.avoid(link.backend());
        self.calls += 1;
        let directions = Directions { sends: false, receives: true };
        Some(open(core, request, directions, self.first_within))
    }
}

impl NextCall {
    /// Waits until the call is open. Ready with `false` if it failed.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(link) = &self.link else { return Poll::Ready(false) };
        if let Poll::Ready(has_begun) = link.poll_begun(cx) {
            return Poll::Ready(has_begun);
        }
        if !self.was_sent && link.was_sent() {
            self.was_sent = true;
            self.until.as_mut().reset(later(Instant::now(), MAX_FIRST_WAIT));
        }
        self.until.as_mut().poll(cx).map(|()| self.was_sent)
    }
}

impl Drop for NextCall {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.drop_half(false);
        }
    }
}
