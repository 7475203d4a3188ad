//! [`interceptor`]: a tower layer made of an `async` closure.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use super::layer::CallService;
use super::request::Request;
use crate::connection::response::Response;
use crate::error::RpcError;

/// Creates a layer of a closure that is called with each request and the rest of the channel. It may change
/// the request, refuse it, pass it on with [`Next::call`], more than once if it likes, and look at the outcome.
///
/// ```
/// use farcall_client::{Channel, Next, Request, RpcError, interceptor};
/// use farcall_protocol::Code;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenant = interceptor(|mut request: Request, next: Next| async move {
///     if request.method().starts_with("Admin.") {
///         return Err(RpcError::not_sent(Code::PermissionDenied, "not for tenants"));
///     }
///     request.set_metadata("tenant", "blue");
///     let outcome = next.call(request).await;
///     println!("{}", outcome.as_ref().map_or_else(|error| error.code().name(), |_| "ok"));
///     outcome
/// });
/// let channel = Channel::builder().to("tcp@127.0.0.1:1").layer(tenant).build()?;
/// let refused = channel.call::<()>("Admin.stop", &()).await.unwrap_err();
/// assert_eq!(refused.code(), Code::PermissionDenied);
/// # Ok(())
/// # }
/// ```
pub const fn interceptor<F, Fut>(intercept: F) -> Interceptor<F>
where
    F: Fn(Request, Next) -> Fut,
    Fut: Future<Output = Result<Response, RpcError>>,
{
    Interceptor { intercept }
}

/// The layer of an [`interceptor`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a layer does nothing until it is added to a channel"]
pub struct Interceptor<F> {
    intercept: F,
}

impl<F: Clone> Layer<CallService> for Interceptor<F> {
    type Service = Intercepted<F>;

    fn layer(&self, inner: CallService) -> Intercepted<F> {
        Intercepted { intercept: self.intercept.clone(), inner }
    }
}

/// The service of an [`Interceptor`].
#[derive(Clone, Debug)]
pub struct Intercepted<F> {
    intercept: F,
    inner: CallService,
}

impl<F, Fut> Service<Request> for Intercepted<F>
where
    F: Fn(Request, Next) -> Fut,
    Fut: Future<Output = Result<Response, RpcError>>,
{
    type Response = Response;
    type Error = RpcError;
    type Future = Fut;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Fut {
        (self.intercept)(request, Next(self.inner.clone()))
    }
}

/// The rest of a channel behind an [`interceptor`]: the layers within it, and the channel itself.
#[derive(Clone, Debug)]
pub struct Next(CallService);

impl Next {
    /// Passes a request on. Dropping the future cancels the call.
    #[must_use = "a request is passed on when the future is polled"]
    pub fn call(mut self, request: Request) -> BoxFuture<'static, Result<Response, RpcError>> {
        self.0.call(request)
    }
}
