//! tower layers around calls: of all methods, or of one service's.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};

use farcall_protocol::{BoxError, Code, Execution, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::service::handler::{Handler, Request, Response, ResponseFuture};

/// A call on its way through layers: the request, and where it goes after the last of them.
pub struct LayeredCall {
    /// The call.
    pub request: Request,
    target: Arc<dyn Handler>,
    started: Arc<AtomicBool>,
}

impl fmt::Debug for LayeredCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

/// The innermost service, which layers are put around: it calls the method's own handler.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallService(());

impl Service<LayeredCall> for CallService {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = CallFuture;

    fn poll_ready(&mut self, _cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: LayeredCall) -> CallFuture {
        call.started.store(true, Ordering::Relaxed);
        CallFuture(call.target.call(call.request))
    }
}

/// The future of [`CallService`].
#[derive(Debug)]
pub struct CallFuture(ResponseFuture);

impl Future for CallFuture {
    type Output = Result<Response, std::convert::Infallible>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(Ok)
    }
}

/// A [`tower_layer::Layer`] that can be put around calls: what it makes of [`CallService`] is a
/// cloneable service from [`LayeredCall`] to [`Response`].
///
/// An error of a layer becomes a [`Status`]: itself where it is one, else `internal`; `refused`
/// where the handler had not been called yet, else `maybe`.
pub trait CallLayer: Send + Sync + 'static {
    /// The layered service, as a handler of layered calls.
    fn wrap(&self) -> Arc<dyn LayeredHandler>;
}

impl<L> CallLayer for L
where
    L: Layer<CallService> + Send + Sync + 'static,
    L::Service: Service<LayeredCall, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn wrap(&self) -> Arc<dyn LayeredHandler> {
        Arc::new(Tower(self.layer(CallService(()))))
    }
}

/// A layered service behind a pointer. Only [`CallLayer`] makes them.
pub trait LayeredHandler: Send + Sync {
    /// Sends a call through the layers.
    fn call(&self, call: LayeredCall) -> ResponseFuture;
}

struct Tower<S>(S);

impl<S> LayeredHandler for Tower<S>
where
    S: Service<LayeredCall, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn call(&self, call: LayeredCall) -> ResponseFuture {
        let mut service = self.0.clone();
        let started = Arc::clone(&call.started);
        ResponseFuture::new(async move {
            let failed = |error: S::Error| Response::error(status(error.into(), &started));
            match poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed) {
                Ok(()) => service.call(call).await.unwrap_or_else(failed),
                Err(response) => response,
            }
        })
    }
}

fn status(error: BoxError, started: &AtomicBool) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => {
            let execution =
                if started.load(Ordering::Relaxed) { Execution::Maybe } else { Execution::Refused };
            Status::new(Code::Internal, execution, error.to_string())
        }
    }
}

/// One layer, applied once, so that what it counts it counts over all calls that pass it.
pub(crate) struct Layered {
    handler: Arc<dyn LayeredHandler>,
}

impl Layered {
    pub(crate) fn new(layer: &impl CallLayer) -> Self {
        Self { handler: layer.wrap() }
    }

    /// `target` behind the layer.
    pub(crate) fn around(layered: &Arc<Self>, target: Arc<dyn Handler>) -> Arc<dyn Handler> {
        Arc::new(Around { layered: Arc::clone(layered), target })
    }
}

struct Around {
    layered: Arc<Layered>,
    target: Arc<dyn Handler>,
}

impl Handler for Around {
    fn call(&self, request: Request) -> ResponseFuture {
        let started = Arc::new(AtomicBool::new(false));
        self.layered.handler.call(LayeredCall { request, target: Arc::clone(&self.target), started })
    }
}
