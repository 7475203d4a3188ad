//! [`Phase`]: the progress of a connection towards its end.

use tokio::time::Instant;

/// The progress of a connection towards its end. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are taken.
    Open,
    /// Calls in flight are finished and answered; then it closes.
    Finishing,
    /// The outbox is sent; then it closes.
    Flushing,
    /// Nothing more is sent; the sending side is being closed, until this time at most.
    Shutting(Instant),
    /// Input is discarded until the peer has closed, or until this time: closing earlier could destroy
    /// the last responses on their way.
    Lingering(Instant),
}

impl Phase {
    /// Returns `true` if responses may still be added to what waits for the peer, or requests come.
    pub(super) const fn is_serving(self) -> bool {
        matches!(self, Self::Open | Self::Finishing)
    }
}
