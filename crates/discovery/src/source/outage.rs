//! [`Outage`]: the failures of a source in a row, as the log, the list and the pauses between requests have them.

use std::fmt;
use std::time::Duration;

use farcall_transport::log::LogThrottle;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::discovery::Publisher;

/// The failures of a source in a row. It has no clock but the log's: sleeping is left to the source.
#[derive(Debug)]
pub struct Outage {
    /// The name of the source, such as `Consul`.
    source: &'static str,
    /// The description of the source, with the service.
    place: String,
    pauses: Backoff,
    log: LogThrottle,
}

impl Outage {
    /// Creates the state of a source that has not failed, with these pauses after failures.
    #[must_use]
    pub fn new(source: &'static str, place: String, pauses: Backoff) -> Self {
        Self { source, place, pauses, log: LogThrottle::new() }
    }

    /// Returns the description of the source.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Ends the outage, if there is one: the source was read.
    pub fn end(&mut self) {
        if self.pauses.failures() > 0
            && let Some(line) = self.log.permit()
        {
            info!(place = self.place, suppressed = line.suppressed, "{} is read again", self.source);
        }
        self.pauses.reset();
    }

    /// Reports a failure. The last list stays in force. Returns the pause before the next request.
    #[must_use]
    pub fn failed(&mut self, publisher: &Publisher, error: &impl fmt::Display) -> Duration {
        let (place, source) = (&self.place, self.source);
        let failures = self.pauses.failures();
        if failures == 0
            && let Some(line) = self.log.permit()
        {
            warn!(place, %error, suppressed = line.suppressed, "{source} cannot be read; the last list stays in force");
        } else {
            debug!(place, %error, failures, "{source} still cannot be read");
        }
        publisher.failed(error.to_string());
        self.pauses.next_pause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher;

    #[test]
    fn pauses_grow_until_the_source_is_read() {
        let (publisher, subscription) = publisher();
        let second = Duration::from_secs(1);
        let mut outage = Outage::new("Test", "T at a test".to_owned(), Backoff::new(second, second * 8));
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            longest = longest.max(outage.failed(&publisher, &"no answer"));
        }
        assert!(longest > second && longest <= second * 8, "{longest:?}");
        let failing = subscription.borrow().failing.clone();
        assert_eq!(failing.expect("the subscriber sees it").reason.as_ref(), "no answer");
        outage.end();
        assert!(outage.failed(&publisher, &"no answer") <= second);
    }
}
