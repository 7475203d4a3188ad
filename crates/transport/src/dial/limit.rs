//! [`ConnectLimit`]: the time that a dial has, from connecting to the last handshake.

use farcall_runtime::time::{Duration, Instant, timeout_at};

/// The connect timeout of one dial, counted from when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectLimit {
    limit: Option<Duration>,
    /// `None` without a limit, or with one that no clock reaches.
    deadline: Option<Instant>,
}

impl ConnectLimit {
    /// Starts to count now.
    pub(super) fn start(limit: Option<Duration>) -> Self {
        Self { limit, deadline: limit.and_then(|limit| Instant::now().checked_add(limit)) }
    }

    /// Runs a step of the dial in the time that is left.
    ///
    /// # Errors
    ///
    /// The whole limit, if it has passed.
    pub(super) async fn run<T>(self, step: impl Future<Output = T>) -> Result<T, Duration> {
        match self.deadline {
            None => Ok(step.await),
            Some(deadline) => timeout_at(deadline, step).await.map_err(|_| self.limit.unwrap_or_default()),
        }
    }
}
