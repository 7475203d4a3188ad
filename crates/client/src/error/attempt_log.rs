//! How often, and where, a call that failed was tried: for its error.

use std::fmt;

use farcall_transport::Address;

use crate::error::RpcError;

/// The tries of a call that was made more than once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tries {
    made: u32,
    /// Where, each endpoint once: the first [`ENDPOINTS_KEPT`].
    at: Vec<Address>,
    /// Whether there were more endpoints.
    more: bool,
}

/// As many endpoints as anybody reads in an error.
const ENDPOINTS_KEPT: usize = 8;

impl Tries {
    /// One more has failed.
    pub(crate) fn add(&mut self, error: &RpcError) {
        self.made = self.made.saturating_add(1);
        let Some(endpoint) = error.endpoint().filter(|endpoint| !self.at.contains(endpoint)) else { return };
        if self.at.len() < ENDPOINTS_KEPT {
            self.at.push(endpoint.clone());
        } else {
            self.more = true;
        }
    }

    pub(crate) const fn made(&self) -> u32 {
        self.made
    }

    pub(crate) fn at(&self) -> &[Address] {
        &self.at
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} tries", self.made)?;
        // A single one is named by the error itself.
        if self.at.len() > 1 {
            let names: Vec<_> = self.at.iter().map(Address::to_string).collect();
            write!(f, ": {}{}", names.join(", "), if self.more { ", ..." } else { "" })?;
        }
        Ok(())
    }
}
