//! Durations as a person writes them, for the texts of errors here and in the crates above.

use std::fmt;
use std::time::Duration;

/// Shows a duration as `10 s`, `1.5 s` or `250 ms`.
///
/// ```
/// use std::time::Duration;
/// use farcall_transport::HumanDuration;
///
/// assert_eq!(HumanDuration(Duration::from_millis(1500)).to_string(), "1.5 s");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HumanDuration(
    /// The duration.
    pub Duration,
);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: Duration = Duration::from_secs(1);
        const MILLISECOND: Duration = Duration::from_millis(1);

        let time = self.0;
        if time.is_zero() {
            f.write_str("0 s")
        } else if time >= SECOND {
            // A float shows 1.5 as 1.5 and 10.0 as 10. Finer than this is noise.
            write!(f, "{} s", (time.as_secs_f64() * 1000.0).round() / 1000.0)
        } else if time >= MILLISECOND {
            write!(f, "{} ms", time.as_micros() as f64 / 1000.0)
        } else {
            write!(f, "{} µs", time.as_nanos() as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_largest_fitting_unit() {
        for (nanos, text) in [
            (0, "0 s"),
            (10_000_000_000, "10 s"),
            (1_500_000_000, "1.5 s"),
            (250_000_000, "250 ms"),
            (1_500_000, "1.5 ms"),
            (20_500, "20.5 µs"),
        ] {
            assert_eq!(HumanDuration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
