//! The pauses between dials of a server that cannot be reached.

use std::time::Duration;

use farcall_discovery::{Backoff, Jitter};

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, jitter aside.
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// Each further failure multiplies the pause by this.
const FACTOR: f64 = 1.6;
/// Clients that lost a server together do not return together.
const JITTER: Jitter = Jitter::Around(0.2);

/// Creates the pauses of gRPC's connection backoff protocol, which dials and probes use.
pub(crate) const fn reconnect_backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, MAX_PAUSE).factor(FACTOR).jitter(JITTER)
}
