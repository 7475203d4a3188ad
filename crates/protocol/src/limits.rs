//! The fixed limits of the protocol, and newtypes for the negotiated ones.

use std::fmt;

/// The largest Option frame, in bytes.
pub const MAX_OPTION_BYTES: usize = 4 * 1024;
/// The longest name of a store of keys in a server's Option, in bytes; more is cut off.
pub const MAX_ONCE_STORE_BYTES: usize = 128;
/// The longest [key](crate::metadata::IDEMPOTENCY_KEY) of a call that is carried out once, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 256;
/// The largest header frame, in bytes.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The largest number of pairs of a message's metadata: a peer chooses how many small ones fill a header, and each
/// costs time and memory.
pub const MAX_METADATA_PAIRS: usize = 1024;
/// The largest nesting depth of a value, in either codec. Values that nest deeper than a few levels are decoded on a
/// stack that is large enough for any type at this depth.
pub const MAX_DEPTH: usize = 128;
/// The size of a frame's length prefix, in bytes.
pub const LENGTH_BYTES: usize = 4;

/// The largest frame that a side accepts, in bytes, without the length prefix. Default: 4 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxFrameBytes(u32);

impl MaxFrameBytes {
    /// The limit of a side that states none.
    pub const DEFAULT: Self = Self(4 * 1024 * 1024);

    /// Creates a limit of `bytes`. Values over 4 GiB - 1 are reduced to it, because a length prefix cannot
    /// express more; 0 becomes 1, because a side must accept at least one byte.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(u32::try_from(bytes).unwrap_or(u32::MAX).max(1))
    }

    /// Returns the limit in bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// Returns the limit for a header frame, which is never over 64 KiB.
    #[must_use]
    pub fn for_header(self) -> usize {
        self.get().min(MAX_HEADER_BYTES)
    }
}

impl Default for MaxFrameBytes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for MaxFrameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// The number of calls that a server runs concurrently for one connection. Default: 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxInFlight(u32);

impl MaxInFlight {
    /// The default limit.
    pub const DEFAULT: Self = Self(1024);

    /// Creates a limit of `calls`; at least 1, at most 2^24, because a table of that size still fits in memory.
    #[must_use]
    pub fn new(calls: usize) -> Self {
        Self(u32::try_from(calls).unwrap_or(u32::MAX).clamp(1, 1 << 24))
    }

    /// Returns the limit.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for MaxInFlight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for MaxInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The credit that a receiver grants to one direction of a streaming call when it begins, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamWindow(u32);

impl StreamWindow {
    /// The window of a side that states none, and the default of servers: 64 KiB.
    pub const DEFAULT: Self = Self(64 * 1024);
    /// The default of clients: 256 KiB.
    pub const CLIENT_DEFAULT: Self = Self(256 * 1024);

    /// Creates a window of `bytes`; at least 1, because without credit nothing could be sent, and at most 1 GiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, 1 << 30))
    }

    /// Creates the window that a peer's Option states. Unlike one of this side, it may be 0: then nothing may be sent before the
    /// peer's first credit.
    pub(crate) fn granted(bytes: u64) -> Self {
        Self(u32::try_from(bytes).unwrap_or(u32::MAX).min(1 << 30))
    }

    /// Returns the window in bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for StreamWindow {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The number of streaming calls that a server runs concurrently for one connection. Default: 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxStreams(u32);

impl MaxStreams {
    /// The default limit.
    pub const DEFAULT: Self = Self(256);

    /// Creates a limit of `calls`, at most 2^24. Zero refuses every streaming call.
    #[must_use]
    pub fn new(calls: usize) -> Self {
        Self(u32::try_from(calls).unwrap_or(u32::MAX).min(1 << 24))
    }

    /// Returns the limit.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for MaxStreams {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The number of a request on its connection. Numbers increase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The first number that JSON cannot represent exactly.
    pub const JSON_END: u64 = 1 << 53;
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_clamped_to_what_the_protocol_allows() {
        for (asked, got) in
            [(0, 1), (1, 1), (2, 2), (1 << 32, u32::MAX as usize), (usize::MAX, u32::MAX as usize)]
        {
            assert_eq!(MaxFrameBytes::new(asked).get(), got, "{asked}");
        }
        for (asked, got) in
            [(0, 1), (1, 1), (1 << 24, 1 << 24), ((1 << 24) + 1, 1 << 24), (usize::MAX, 1 << 24)]
        {
            assert_eq!(MaxInFlight::new(asked).get(), got, "{asked}");
        }
        for (asked, got) in
            [(0, 1), (1, 1), (1 << 30, 1 << 30), ((1 << 30) + 1, 1 << 30), (usize::MAX, 1 << 30)]
        {
            assert_eq!(StreamWindow::new(asked).get(), got, "{asked}");
        }
        for (asked, got) in
            [(0, 0), (1, 1), (1 << 24, 1 << 24), ((1 << 24) + 1, 1 << 24), (usize::MAX, 1 << 24)]
        {
            assert_eq!(MaxStreams::new(asked).get(), got, "{asked}");
        }
    }

    #[test]
    fn header_is_limited_by_the_smaller_of_two_limits() {
        for (frame, header) in [(100, 100), (65_536, 65_536), (65_537, 65_536), (4_194_304, 65_536)] {
            assert_eq!(MaxFrameBytes::new(frame).for_header(), header);
        }
    }

    #[test]
    fn defaults_are_those_of_the_protocol() {
        assert_eq!(MaxFrameBytes::default().get(), 4 * 1024 * 1024);
        assert_eq!(MaxInFlight::default().get(), 1024);
        assert_eq!(StreamWindow::default().get(), 64 * 1024);
        assert_eq!(MaxStreams::default().get(), 256);
    }

    #[test]
    fn limits_are_shown_with_their_unit() {
        assert_eq!(MaxFrameBytes::new(512).to_string(), "512 bytes");
        assert_eq!(MaxInFlight::new(12).to_string(), "12");
        assert_eq!(Seq(7).to_string(), "7");
    }
}
