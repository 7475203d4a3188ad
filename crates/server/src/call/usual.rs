//! The start of a usual call: a small request that is far from all limits, of a method that is known to be quick. It is read
//! where it was received. All other calls are for [`run`](super::run).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};

use farcall_context::Inherited;
use farcall_protocol::{FrontMessage, Inbox};
use farcall_transport::BufferPool;
use tokio::time::Instant;

use super::env::CallEnv;
use super::run::{TASK_BYTES, spawn};
use super::running::HandlerState;
use super::{Call, ReplyTo, deadline, guarded};
use crate::service::handler::{ReceivedRequest, Response, ResponseFuture, SpareFuture};
use crate::service::judgement::ArgumentSize;
use crate::service::method::Method;

/// A call that [`CallEnv::admit_usual`] has admitted.
pub(crate) struct UsualCall<'a> {
    pub(crate) method: &'a Arc<Method>,
    pub(crate) front: FrontMessage,
    pub(crate) inbox: &'a mut Inbox<BufferPool>,
    pub(crate) env: &'a CallEnv,
}

impl UsualCall<'_> {
    /// Starts the handler, as [`start`](super::run::start) does, and takes the request out of the inbox.
    #[inline]
    pub(crate) fn start(
        self,
        now: Instant,
        spare: &mut Option<SpareFuture>,
        response: &mut Option<Response>,
    ) -> Instant {
        let Self { method, mut front, inbox, env } = self;
        let (seq, body_len) = (front.seq, front.body_len());
        let inherited =
            Inherited::default().deadline(deadline(front.timeout_ms, env.negotiated.handle_timeout, now));
        method.stats.started();
        env.server.offload.note_quick_call();
        // The future outlives the guard if it panics, since a second panic while the first unwinds would end the process.
        let mut started = None;
        let polled = guarded(method, seq, &inherited, || {
            let (name, codec) = (method.shared_name(), &env.negotiated.codec);
            let (inbox, front, spare) = (&mut *inbox, &mut front, &mut *spare);
            let received = ReceivedRequest::at_front(inbox, front, name, &inherited, codec, &env.info, spare);
            let future = started.insert(method.handler.call_received(received));
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
        let size = ArgumentSize::of(body_len);
        method.polled(size, took);
        inbox.skip_front(&mut front);
        if let Err(panicked) = polled {
            let dropped = guarded(method, seq, &inherited, || drop(started));
            *response = Some(dropped.err().unwrap_or(panicked));
        } else if response.is_none() {
            let future = started.expect("a pending future was not dropped");
            let method = Arc::clone(method);
            let call = Call { seq, reply_to: ReplyTo::Peer, method, inherited, arrived: now, span: None };
            spawn(call, HandlerState::Started(future), TASK_BYTES + 2 * body_len, size, None, env);
            // Not `done`: the next call is not charged with the time to create this one's task.
            return Instant::now();
        }
        let status = response.as_ref().and_then(Response::status);
        method.stats.ended(took, status.map(|status| status.code));
        env.server.recent_calls.ended(&method.name, &env.info, took, status);
        done
    }
}
