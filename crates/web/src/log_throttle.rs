//! [`LogThrottle`]: keeps a repeated failure from filling the log.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two messages about the same failure.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets a repeated log message through at most once every 10 s.
///
/// ```
/// use farcall_web::LogThrottle;
///
/// let mut throttle = LogThrottle::default();
/// assert!(throttle.allows());
/// assert!(!throttle.allows());
/// ```
#[derive(Debug, Default)]
pub struct LogThrottle {
    last: Option<Instant>,
}

impl LogThrottle {
    /// Returns `true` if a message is due, and starts the next interval then.
    pub fn allows(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_message_passes_per_interval() {
        let mut throttle = LogThrottle::default();
        assert!(throttle.allows());
        tokio::time::advance(INTERVAL - Duration::from_millis(1)).await;
        assert!(!throttle.allows());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(throttle.allows());
        assert!(!throttle.allows());
    }
}
