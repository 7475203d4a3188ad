//! [`Goaways`]: the goaways that have refused one call, which count as no attempts up to a bound.

use super::retry::is_refused_by_goaway;
use crate::error::RpcError;

/// The goaways that have refused one call.
///
/// A server that drains, or whose connection has reached its largest age, begins none of the requests behind its goaway.
/// Such a refusal says nothing about the call, and costs the server no more than to read the request. A connection refuses
/// a call once, and a server whose connections do not last is dialed with pauses. gRPC forgives one of them, whatever the
/// retry policy is (its proposal A6, "transparent retries"); a connection has no largest age there by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Goaways(u32);

/// The number of goaways that count as no attempts of one call: each connection refuses a request that takes longer to
/// arrive than a connection lasts, and its call must end.
const MAX_FORGIVEN: u32 = 20;

impl Goaways {
    /// Counts a goaway, if the error is its refusal. Returns `true` if the attempt is not to be counted.
    pub(super) fn forgive(&mut self, error: &RpcError) -> bool {
        is_refused_by_goaway(error) && {
            self.0 = self.0.saturating_add(1);
            self.0 <= MAX_FORGIVEN
        }
    }

    /// Returns the number of goaways so far.
    pub(super) const fn count(self) -> u32 {
        self.0
    }
}
