//! [`OnceHandler`]: the handler of a method that is declared `once`, around the one that carries its calls out.

use std::sync::Arc;

use farcall_protocol::metadata::IDEMPOTENCY_KEY;
use farcall_transport::log::LogThrottle;

use super::calls::{OnceCalls, Part};
use super::execution::{Execution, OnceMethod};
use super::once_call::OnceCall;
use crate::service::handler::{Handler, Request, Response, ResponseFuture};

/// The handler of a method that is declared `once`.
pub(crate) struct OnceHandler {
    method: Arc<OnceMethod>,
    calls: Arc<OnceCalls>,
}

impl OnceHandler {
    pub(crate) fn new(handler: Arc<dyn Handler>, calls: Arc<OnceCalls>) -> Self {
        Self { method: Arc::new(OnceMethod { handler, panic_log: LogThrottle::new() }), calls }
    }
}

impl Handler for OnceHandler {
    fn call(&self, request: Request) -> ResponseFuture {
        let context = request.context();
        // Callers that send no key repeat no call.
        let Some(key) = context.metadata(IDEMPOTENCY_KEY) else { return self.method.handler.call(request) };
        let deadline = context.deadline();
        let entered = OnceCall::new(context, request.codec(), request.body(), key)
            .and_then(|call| self.calls.enter(call, deadline));
        match entered {
            Ok(Part::First(running)) => {
                let (calls, method) = (Arc::clone(&self.calls), Arc::clone(&self.method));
                ResponseFuture::new(Execution::new(running, calls, method, request))
            }
            Ok(Part::Joined(running)) => ResponseFuture::new(async move { running.answer().await }),
            Err(status) => ResponseFuture::ready(Response::error(status)),
        }
    }
}
