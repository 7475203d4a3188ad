//! The rule that ejects an endpoint that keeps failing.

/// The rule that ejects an endpoint that keeps failing, so that it gets no calls for a while.
///
/// After some failures in a row (calls not answered in time, and answers `unavailable` or
/// `internal`) an endpoint gets no calls for a time that grows from 1 s by 1.6 to 120 s,
/// with jitter. Then it is probed: a connection, and `farcall.health` over it. If that succeeds, it
/// is reinstated, and the first failure afterwards ejects it again. At most half of
/// the endpoints are ejected; if all look bad, all are used.
///
/// This rule is about endpoints that answer badly. An endpoint that cannot be connected to gets no calls until
/// it can be, whatever is set here.
///
/// ```
/// use farcall_client::{Channel, OutlierDetection};
///
/// let channel = Channel::builder()
///     .to("tcp@10.0.0.3:7001")
///     .to("tcp@10.0.0.4:7001")
///     .outlier_detection(OutlierDetection::failures(3))
///     .build()?;
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct OutlierDetection {
    failures: u32,
}

impl OutlierDetection {
    /// Ejects an endpoint after this many failures in a row, at least 1. Default 5. Too low, and
    /// a short disturbance takes a server out; too high, and calls fail meanwhile.
    pub const fn failures(failures: u32) -> Self {
        Self { failures: if failures == 0 { 1 } else { failures } }
    }

    /// Ejects no endpoint.
    pub const fn disabled() -> Self {
        Self { failures: u32::MAX }
    }

    /// Returns the number of failures in a row that eject an endpoint.
    pub(crate) const fn limit(self) -> u32 {
        self.failures
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self::failures(5)
    }
}
