//! [`HttpState`]: what all requests of a router share.

use std::sync::Arc;

use farcall_server::ServerHandle;
use farcall_web::OriginCheck;

use crate::options::HttpOptions;

/// The state that all requests share. A clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct HttpState {
    pub(crate) handle: ServerHandle,
    pub(crate) options: Arc<HttpOptions>,
    pub(crate) origins: Arc<OriginCheck>,
}
