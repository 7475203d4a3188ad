//! [`Options`]: what few requests have.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::call::once::OnceTries;
use crate::call::request_error::RequestError;
use crate::call::retry_policy::RetryPolicy;
use crate::call::stream::link::Link;
use crate::endpoints::backend::Backend;

/// The options of a call that are rarely set, and its mistakes.
#[derive(Clone, Default)]
pub(super) struct Options {
    /// The key for balancers such as consistent hashing.
    pub(super) key: Option<Box<[u8]>>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) wait_for_ready: Option<bool>,
    pub(super) broadcast_target: Option<BroadcastTarget>,
    /// Set to `true` when the request has left the layers.
    pub(super) left_layers: Option<Arc<AtomicBool>>,
    /// The stream of a streaming call.
    pub(super) link: Option<Arc<Link>>,
    /// An endpoint that is called only if there is no other.
    pub(super) avoided: Option<Arc<Backend>>,
    /// The tries of a call that is carried out once; `None` if its tries are not told apart, as in a broadcast.
    pub(super) tries: Option<Arc<OnceTries>>,
    /// The reason why the request cannot be sent.
    pub(super) error: Option<RequestError>,
}

/// The endpoint of one request of a broadcast, which is tried once.
#[derive(Clone, Debug)]
pub(crate) enum BroadcastTarget {
    /// The channel's only endpoint.
    Only,
    /// One of many.
    Backend(Arc<Backend>),
}

impl Options {
    /// Creates the options of a request that cannot be sent.
    #[cold]
    pub(super) fn with_error(error: RequestError) -> Box<Self> {
        Box::new(Self { error: Some(error), ..Self::default() })
    }
}
