//! When an endpoint that keeps failing is left out.

/// When an endpoint that keeps failing is left out of the choice.
///
/// After so many failures in a row (calls not answered in time, and answers `unavailable` or
/// `internal`) it gets no calls for a time that grows from 1 s by 1.6 to 120 s,
/// with jitter. Then it is probed: a connection, and `farcall.health` over it. Where that works it
/// is let back, and the first failure after that ends its stay at once. Never more than half of
/// the endpoints are left out for failing, and where all look bad, all are used.
///
/// This is about endpoints that answer badly. One that cannot be connected to gets no calls until
/// it can be, whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    failures: u32,
}

impl OutlierDetection {
    /// Failures in a row after which an endpoint is left out, at least 1. Default 5. Too low, and
    /// a moment's trouble takes a server out; too high, and calls fail meanwhile.
    #[must_use]
    pub const fn failures(failures: u32) -> Self {
        Self { failures: if failures == 0 { 1 } else { failures } }
    }

    /// No endpoint is left out for failing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { failures: u32::MAX }
    }

    pub(crate) const fn limit(self) -> u32 {
        self.failures
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self::failures(5)
    }
}
