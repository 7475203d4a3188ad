//! [`interceptor`]: a tower layer of a server made of an `async` closure. The client's has the same name in its crate.

use std::convert::Infallible;
use std::task::{self, Poll};

use farcall_protocol::Status;
use tower_layer::Layer;
use tower_service::Service;

use super::handler::{Request, Response};
use super::layer::HandlerService;

/// Creates a layer of a closure that is called with each request and the rest of the server. It may look at the request's
/// [`Context`](farcall_context::Context), refuse it with an error, pass it on with [`Next::call`], and look at the response.
///
/// An `Err` is the call's error as it is: with [`Status::refused`] the caller knows that the method was not started, and may
/// call elsewhere.
///
/// ```
/// use farcall_protocol::{Code, Status};
/// use farcall_server::{Next, Request, Server, interceptor};
///
/// let tenant = interceptor(|request: Request, next: Next| async move {
///     if request.context().metadata("tenant").is_none() {
///         return Err(Status::refused(Code::PermissionDenied, "name a `tenant` in the metadata"));
///     }
///     let method = request.context().method().to_owned();
///     let response = next.call(request).await;
///     println!("{method}: {}", response.status().map_or("ok", |status| status.code.name()));
///     Ok(response)
/// });
/// let builder = Server::builder().layer(tenant);
/// # let _ = builder;
/// ```
pub const fn interceptor<F, Fut>(intercept: F) -> Interceptor<F>
where
    F: Fn(Request, Next) -> Fut,
    Fut: Future<Output = Result<Response, Status>>,
{
    Interceptor { intercept }
}

/// The layer of an [`interceptor`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a layer does nothing until it is added to a server or a service"]
pub struct Interceptor<F> {
    intercept: F,
}

impl<F: Clone> Layer<HandlerService> for Interceptor<F> {
    type Service = Intercepted<F>;

    fn layer(&self, inner: HandlerService) -> Intercepted<F> {
        Intercepted { intercept: self.intercept.clone(), inner }
    }
}

/// The service of an [`Interceptor`].
#[derive(Clone, Debug)]
pub struct Intercepted<F> {
    intercept: F,
    inner: HandlerService,
}

impl<F, Fut> Service<Request> for Intercepted<F>
where
    F: Fn(Request, Next) -> Fut,
    Fut: Future<Output = Result<Response, Status>>,
{
    type Response = Response;
    type Error = Status;
    type Future = Fut;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx).map_err(|never: Infallible| match never {})
    }

    fn call(&mut self, request: Request) -> Fut {
        (self.intercept)(request, Next(self.inner))
    }
}

/// The rest of a server behind an [`interceptor`]: the layers within it, and the method's handler.
#[derive(Clone, Debug)]
pub struct Next(HandlerService);

impl Next {
    /// Passes a request on, and returns its response, which may be an error. Dropping the future stops the handler.
    pub async fn call(mut self, request: Request) -> Response {
        let Ok(response) = self.0.call(request).await;
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use farcall_context::{ConnectionInfo, Context, Inherited};
    use farcall_protocol::{ByteStr, Code, Codec, Execution, Seq};

    use super::*;

    fn request(method: &str) -> Request {
        let info = Arc::new(ConnectionInfo::new(1, "memory"));
        let context =
            Context::new(ByteStr::from(method.to_owned()), Seq(1), Inherited::default(), false, info);
        Request::new(context, Codec::Json, "1".into())
    }

    #[tokio::test]
    async fn closure_refuses_and_sees_responses() {
        let layer = interceptor(|request: Request, next: Next| async move {
            if request.context().method() == "T.secret" {
                return Err(Status::refused(Code::PermissionDenied, "no"));
            }
            let response = next.call(request).await;
            assert!(response.status().is_some());
            Ok(Response::new("seen".into()))
        });
        let mut service = layer.layer(HandlerService::new());
        let refused = service.call(request("T.secret")).await.unwrap_err();
        assert_eq!((refused.code, refused.execution), (Code::PermissionDenied, Execution::Refused));
        // No method belongs to a request that did not come to a server, so the rest answers with an error.
        assert_eq!(service.call(request("T.open")).await.unwrap().body(), "seen");
    }
}
