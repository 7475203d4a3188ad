//! The attempts of a call that failed, for its error.

use std::fmt;

use farcall_transport::Address;

/// The failed attempts of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptLog {
    attempts: u32,
    /// The endpoints, each once: the first [`MAX_ENDPOINTS`].
    endpoints: Vec<Address>,
    /// `true` if there were more endpoints.
    has_more: bool,
}

/// Endpoints listed in an error message; more would not be read.
const MAX_ENDPOINTS: usize = 8;

impl AttemptLog {
    /// Adds an attempt that failed, at this endpoint if one was picked.
    pub(crate) fn record(&mut self, endpoint: Option<&Address>) {
        self.attempts = self.attempts.saturating_add(1);
        let Some(endpoint) = endpoint.filter(|endpoint| !self.endpoints.contains(endpoint)) else { return };
        if self.endpoints.len() < MAX_ENDPOINTS {
            self.endpoints.push(endpoint.clone());
        } else {
            self.has_more = true;
        }
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn endpoints(&self) -> &[Address] {
        &self.endpoints
    }
}

impl fmt::Display for AttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} attempts", self.attempts)?;
        // A single endpoint is named by the error itself.
        if self.endpoints.len() > 1 {
            let names: Vec<_> = self.endpoints.iter().map(Address::to_string).collect();
            write!(f, ": {}{}", names.join(", "), if self.has_more { ", ..." } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_endpoints_are_named_each_once() {
        let address = |port: usize| Address::parse(&format!("a:{port}")).unwrap();
        let mut log = AttemptLog::default();
        log.record(None);
        log.record(Some(&address(1)));
        log.record(Some(&address(1)));
        assert_eq!((log.attempts(), log.to_string()), (3, "after 3 attempts".to_owned()));
        (2..=8).for_each(|port| log.record(Some(&address(port))));
        let names: Vec<_> = (1..=8).map(|port| address(port).to_string()).collect();
        assert_eq!(log.to_string(), format!("after 10 attempts: {}", names.join(", ")));
        log.record(Some(&address(8)));
        assert!(!log.to_string().ends_with("..."));
        log.record(Some(&address(9)));
        assert_eq!(log.to_string(), format!("after 12 attempts: {}, ...", names.join(", ")));
        assert_eq!(log.endpoints().len(), 8);
    }
}
