//! tower at the handlers' border: layers around calls, of all methods or of one service's, and tower
//! services as handlers.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{self, Poll};

use farcall_protocol::{BoxError, Code, Execution, Status};
use futures::FutureExt as _;
use futures::future::NeverError;
use tower_service::Service;

use super::handler::{Handler, LayerTarget, Request, Response, ResponseFuture};

/// The innermost service, which layers are put around: it calls the method's handler.
///
/// [`ServerBuilder::layer`](crate::ServerBuilder::layer) takes a layer from it to any service from
/// [`Request`] to [`Response`].
#[derive(Clone, Copy, Debug)]
pub struct HandlerService(());

impl HandlerService {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl Service<Request> for HandlerService {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = NeverError<ResponseFuture>;

    fn poll_ready(&mut self, _cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let target = request.extras.as_mut().and_then(|extras| extras.target.take());
        let response = match target {
            Some(target) => {
                target.started.store(true, Relaxed);
                target.handler.call(request)
            }
            // A layer made this request itself, so no method belongs to it.
            None => {
                let message = "a layer called its service with a request that did not come to the server";
                ResponseFuture::ready(Response::error(Status::refused(Code::Internal, message)))
            }
        };
        response.never_error()
    }
}

/// A layer that was applied once, so that what it counts it counts over all calls that pass it.
pub(crate) struct SharedLayer {
    service: Box<dyn LayeredHandler>,
}

impl SharedLayer {
    /// Creates it from the layer's service around [`HandlerService`].
    pub(crate) fn new<S>(service: S) -> Arc<Self>
    where
        S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Arc::new(Self { service: Box::new(Tower(service)) })
    }

    /// Returns `handler` behind the layer.
    pub(crate) fn around(self: &Arc<Self>, handler: Arc<dyn Handler>) -> Arc<dyn Handler> {
        Arc::new(Around { layer: Arc::clone(self), handler })
    }
}

/// A handler behind a layer.
struct Around {
    layer: Arc<SharedLayer>,
    handler: Arc<dyn Handler>,
}

impl Handler for Around {
    fn call(&self, mut request: Request) -> ResponseFuture {
        let started = Arc::new(AtomicBool::new(false));
        let target = LayerTarget { handler: Arc::clone(&self.handler), started: Arc::clone(&started) };
        request.extras.get_or_insert_default().target = Some(target);
        self.layer.service.call(request, started)
    }
}

/// A tower service whose type is erased.
trait LayeredHandler: Send + Sync {
    /// Calls the service. `started` tells whether the handler behind it was called.
    fn call(&self, request: Request, started: Arc<AtomicBool>) -> ResponseFuture;
}

struct Tower<S>(S);

impl<S> LayeredHandler for Tower<S>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn call(&self, request: Request, started: Arc<AtomicBool>) -> ResponseFuture {
        let called = call_when_ready(self.0.clone(), request);
        ResponseFuture::new(
            called.map(move |called| {
                called.unwrap_or_else(|(error, _)| to_response(error, started.load(Relaxed)))
            }),
        )
    }
}

/// Creates a handler from a tower service.
///
/// It waits until the service is ready before it calls it. An error of the service becomes the call's
/// [`Status`]: itself if it is one, else `internal`; `refused` if the service was not ready, else
/// `maybe`.
///
/// ```
/// use farcall_protocol::{Status, describe::MethodInfo};
/// use farcall_server::{Request, Response, Server, Service, from_tower};
/// use tower::limit::ConcurrencyLimitLayer;
/// use tower::{ServiceBuilder, service_fn};
///
/// let double = service_fn(async |request: Request| {
///     let n: i64 = request.value()?;
///     Ok::<_, Status>(Response::ok(request.codec(), &(n * 2)))
/// });
/// let double = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(10)).service(double);
/// let info = MethodInfo::new("double");
/// let server = Server::builder().service(Service::new("Arith").handler(info, from_tower(double)));
/// # let _ = server;
/// ```
pub fn from_tower<S>(service: S) -> impl Handler
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    FromTower(service)
}

struct FromTower<S>(S);

impl<S> Handler for FromTower<S>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn call(&self, request: Request) -> ResponseFuture {
        let called = call_when_ready(self.0.clone(), request);
        ResponseFuture::new(
            called.map(|called| called.unwrap_or_else(|(error, was_called)| to_response(error, was_called))),
        )
    }
}

/// Waits until a service is ready, then calls it.
///
/// # Errors
///
/// The service's error, and `true` if the service was called.
async fn call_when_ready<S>(mut service: S, request: Request) -> Result<Response, (BoxError, bool)>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(|error| (error.into(), false))?;
    service.call(request).await.map_err(|error| (error.into(), true))
}

/// Returns the response of an error of a tower service: itself if it is a status, else `internal`.
fn to_response(error: BoxError, was_started: bool) -> Response {
    Response::error(match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) => {
            let execution = if was_started { Execution::Maybe } else { Execution::Refused };
            Status::new(Code::Internal, execution, error.to_string())
        }
    })
}

#[cfg(test)]
mod tests {
    use farcall_context::{ConnectionInfo, Context, Inherited};
    use farcall_protocol::{ByteStr, Codec, Seq};
    use tower::service_fn;

    use super::*;

    fn request() -> Request {
        let info = Arc::new(ConnectionInfo::new(1, "memory"));
        let name = ByteStr::from("T.m".to_owned());
        let context = Context::new(name, Seq(1), Inherited::default(), false, info);
        Request::new(context, Codec::Json, "1".into())
    }

    /// A service that is never ready.
    #[derive(Clone)]
    struct Broken;

    impl Service<Request> for Broken {
        type Response = Response;
        type Error = BoxError;
        type Future = futures::future::Ready<Result<Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("broken".into()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            panic!("it is not ready")
        }
    }

    fn error(response: &Response) -> (Code, Execution) {
        let status = response.status().expect("an error");
        (status.code, status.execution)
    }

    #[tokio::test]
    async fn tower_service_handles_calls() {
        let echo =
            service_fn(async |request: Request| Ok::<_, BoxError>(Response::new(request.body().clone())));
        assert_eq!(from_tower(echo).call(request()).await.body(), "1");
    }

    #[tokio::test]
    async fn error_of_a_tower_service_tells_if_the_call_may_have_happened() {
        let fails = service_fn(async |_: Request| Err::<Response, BoxError>("it failed".into()));
        assert_eq!(error(&from_tower(fails).call(request()).await), (Code::Internal, Execution::Maybe));
        assert_eq!(error(&from_tower(Broken).call(request()).await), (Code::Internal, Execution::Refused));
        let refuses = service_fn(async |_: Request| {
            Err::<Response, Status>(Status::refused(Code::PermissionDenied, "no"))
        });
        let refused = from_tower(refuses).call(request()).await;
        assert_eq!(error(&refused), (Code::PermissionDenied, Execution::Refused));
    }

    #[tokio::test]
    async fn request_that_a_layer_made_itself_has_no_method() {
        let mut service = HandlerService::new();
        let response = service.call(request()).await.unwrap();
        assert_eq!(error(&response), (Code::Internal, Execution::Refused));
    }
}
