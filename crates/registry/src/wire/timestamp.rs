//! [`Timestamp`]: a moment of the wall clock, for display.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of the registry's wall clock, to the millisecond. In JSON it is RFC 3339 in UTC,
/// `2031-04-05T06:07:08.009Z`. For display only: leases expire by the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

thread_local! {
    static CLOCK: Cell<fn() -> SystemTime> = const { Cell::new(SystemTime::now) };
}

impl Timestamp {
    /// Returns the current time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(CLOCK.get()())
    }

    /// Sets the wall clock of the calling thread, for simulations. Default [`SystemTime::now`].
    #[doc(hidden)]
    pub fn set_clock(clock: fn() -> SystemTime) {
        CLOCK.set(clock);
    }

    /// The milliseconds since 1970.
    #[cfg(feature = "server")]
    pub(crate) fn millis(self) -> u64 {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(MAX_MILLIS)
    }

    /// The moment that [`Timestamp::millis`] tells.
    #[cfg(feature = "server")]
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(UNIX_EPOCH + Duration::from_millis(millis.min(MAX_MILLIS)))
    }

    /// Appends its text, which has 24 bytes.
    #[cfg(feature = "server")]
    pub(crate) fn push_to(self, text: &mut Vec<u8>) {
        // Writing to a `Vec` cannot fail.
        let _ = std::io::Write::write_fmt(text, format_args!("{}", humantime::format_rfc3339_millis(self.0)));
    }
}

/// The last millisecond of the year 9999, which has the last four-digit year of RFC 3339.
const MAX_MILLIS: u64 = 253_402_300_799_999;

/// Times before 1970 become its begin, and fractions of a millisecond are cut off.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = u64::try_from(millis).unwrap_or(MAX_MILLIS).min(MAX_MILLIS);
        Self(UNIX_EPOCH + Duration::from_millis(millis))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self::from).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn timestamp_is_text_with_milliseconds() {
        let text = json!("2031-04-05T06:07:08.009Z");
        let time: Timestamp = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(time).unwrap(), text);
        // A clock that is far off still makes text that can be read back.
        for time in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
            let text = serde_json::to_value(Timestamp::from(time)).unwrap();
            assert_eq!(serde_json::from_value::<Timestamp>(text).unwrap(), Timestamp::from(time));
        }
    }
}
