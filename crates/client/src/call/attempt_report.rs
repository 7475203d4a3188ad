//! [`AttemptReport`]: a further attempt of a call, and why it is made, for tools that show them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_transport::Address;

use crate::error::RpcError;

/// A further attempt of a call. [`ChannelBuilder::on_retry`](crate::ChannelBuilder::on_retry) gets it before the attempt is
/// made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The number of the attempt that is about to be made; the first of a call has the number 1, and no report.
    pub number: u32,
    /// The endpoint of the attempt before; `None` if it had none.
    pub endpoint: Option<Address>,
    /// The reason.
    pub reason: AttemptReason,
}

/// The reason for a further attempt of a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttemptReason {
    /// The attempt before has failed.
    Failed(RpcError),
    /// The attempt before goes on, and has not been answered within this time: the new one is a hedged request.
    Slow(Duration),
}

/// The function that is called with each report, if any.
#[derive(Clone, Default)]
pub(crate) struct AttemptObserver(Option<Arc<Observe>>);

type Observe = dyn Fn(&AttemptReport) + Send + Sync;

impl AttemptObserver {
    pub(crate) fn new(observe: impl Fn(&AttemptReport) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Reports the attempt of this number. The rest is made only if there is an observer.
    pub(super) fn report(&self, number: u32, rest: impl FnOnce() -> (Option<Address>, AttemptReason)) {
        let Some(observe) = &self.0 else { return };
        let (endpoint, reason) = rest();
        observe(&AttemptReport { number, endpoint, reason });
    }
}

impl fmt::Debug for AttemptObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "AttemptObserver(..)" } else { "None" })
    }
}
