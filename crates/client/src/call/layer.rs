//! tower layers around the calls of a channel. The interface that [`response_future`](super::response_future) uses
//! is in [`send_request`](super::send_request).

use std::error::Error;
use std::fmt;
use std::future::{poll_fn, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use farcall_protocol::{Code, Execution, Status};
use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use super::broadcast::call_target;
use super::channel_core::ChannelCore;
use super::request::Request;
use super::response_future::{ResponseFuture, send_one_way};
use super::send_request::{LayeredFuture, SendRequest};
use super::stream::task::make;
use crate::connection::response::Response;
use crate::error::{Phase, RpcError};

/// The service that a layer of a channel wraps: it sends requests, through the layers that were added before.
///
/// See [`ChannelBuilder::layer`](crate::ChannelBuilder::layer). It does not keep the channel open: once all clones of
/// the channel are gone, and all its calls, it fails with `unavailable`, `not_sent`.
#[derive(Clone)]
pub struct CallService(Arc<dyn SendRequest>);

/// Errors of layers.
type BoxError = Box<dyn Error + Send + Sync>;

/// A layer that was added to a channel under construction.
pub(crate) type AddLayer = Box<dyn FnOnce(CallService) -> CallService + Send>;

impl CallService {
    /// Creates the innermost service, which sends requests over the channel.
    pub(crate) fn innermost(core: Weak<ChannelCore>) -> Self {
        Self(Arc::new(Innermost { core }))
    }
}

impl SendRequest for CallService {
    fn send(&self, request: Request) -> LayeredFuture {
        self.0.send(request)
    }
}

impl Service<Request> for CallService {
    type Response = Response;
    type Error = RpcError;
    type Future = BoxFuture<'static, Result<Response, RpcError>>;

    /// Returns ready: a channel without room lets its calls wait.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.0.send(request)
    }
}

impl fmt::Debug for CallService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallService").finish_non_exhaustive()
    }
}

/// Boxes `layer`, to be put around the calls of a channel that is not built yet.
pub(crate) fn add<L>(layer: L) -> AddLayer
where
    L: Layer<CallService> + Send + 'static,
    L::Service: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    Box::new(move |inner| CallService(Arc::new(Layered(layer.layer(inner)))))
}

/// A service that a layer made.
struct Layered<S>(S);

impl<S> SendRequest for Layered<S>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn send(&self, mut request: Request) -> LayeredFuture {
        let mut service = self.0.clone();
        let left_layers = request.watch_layers();
        Box::pin(async move {
            let failed = |error: S::Error| layer_error(error.into(), &left_layers);
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            service.call(request).await.map_err(failed)
        })
    }
}

/// Converts the error of a layer: an [`RpcError`] stays as it is, a [`Status`] keeps its code and execution, and others
/// are `internal`.
fn layer_error(error: BoxError, left_layers: &AtomicBool) -> RpcError {
    let error = match error.downcast::<RpcError>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match error.downcast::<Status>() {
        Ok(status) => RpcError::from_status(*status, Phase::Prepare),
        Err(error) => {
            let sent = left_layers.load(Ordering::Relaxed);
            let execution = if sent { Execution::Maybe } else { Execution::NotSent };
            RpcError::new(Code::Internal, execution, Phase::Prepare, error.to_string())
                .with_shared_source(Arc::from(error))
        }
    }
}

/// The channel itself, behind all of its layers.
struct Innermost {
    /// Weak, since the channel owns its layers.
    core: Weak<ChannelCore>,
}

impl SendRequest for Innermost {
    fn send(&self, mut request: Request) -> LayeredFuture {
        let Some(core) = self.core.upgrade() else {
            let message = "the channel of the layer is gone";
            let error = RpcError::new(Code::Unavailable, Execution::NotSent, Phase::Prepare, message);
            return Box::pin(ready(Err(error)));
        };
        request.leave_layers();
        if request.is_one_way() {
            return Box::pin(async move { send_one_way(request, &core).await });
        }
        if let Some(target) = request.broadcast_target() {
            return Box::pin(async move {
                request.start()?;
                call_target(&request, &core, &target).await
            });
        }
        if request.is_streaming() {
            return make(request, core);
        }
        Box::pin(ResponseFuture::without_layers(request, core))
    }
}
