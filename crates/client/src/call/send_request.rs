//! The interface between a channel's calls and the layers around them.

use futures::future::BoxFuture;

use super::request::Request;
use crate::connection::response::Response;
use crate::error::RpcError;

/// The outcome of a request that is passed through layers.
pub(crate) type LayeredFuture = BoxFuture<'static, Result<Response, RpcError>>;

/// Sends requests: the outermost layer of a channel, or what a layer wraps.
pub(crate) trait SendRequest: Send + Sync {
    /// Sends a request. Dropping the future cancels the call.
    fn send(&self, request: Request) -> LayeredFuture;
}
