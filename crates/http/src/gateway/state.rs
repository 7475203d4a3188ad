//! [`GatewayState`]: what the gateway's requests share, and its paths.

use std::sync::Arc;

use farcall_server::ServerHandle;

use super::answers::AnswerMemory;
use super::body::BodyLimits;
use super::options::Gateway;

/// The path that lists the services; calls are below it.
pub(super) const ROOT: &str = "/rpc";
/// The path of the OpenAPI document.
pub(super) const DOCUMENT: &str = "/rpc/openapi.json";

/// The state that the gateway's requests share. A clone is cheap.
#[derive(Clone, Debug)]
pub(super) struct GatewayState {
    pub(super) handle: ServerHandle,
    pub(super) options: Arc<Gateway>,
    pub(super) bodies: BodyLimits,
    pub(super) answers: AnswerMemory,
}

impl GatewayState {
    pub(super) fn new(handle: ServerHandle, options: &Gateway) -> Self {
        Self {
            options: Arc::new(options.clone()),
            bodies: BodyLimits::new(handle.clone(), options),
            handle,
            answers: AnswerMemory::new(options),
        }
    }
}
