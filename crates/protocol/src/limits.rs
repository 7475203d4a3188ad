//! The sizes that the protocol fixes, and the newtypes of those that are negotiated.

use std::fmt;

/// The largest Option frame, in bytes.
pub const MAX_OPTION_BYTES: usize = 4 * 1024;
/// The largest header frame, in bytes.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How deep a value may nest, in either codec. A stack frame of a typical deserializer is a few
/// hundred bytes, so that this stays far below the smallest stack of a thread.
pub const MAX_DEPTH: usize = 128;
/// The bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// The largest frame that a side accepts, in bytes, without its length. Default 4 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxFrameBytes(u32);

impl MaxFrameBytes {
    /// What holds where a side states nothing.
    pub const DEFAULT: Self = Self(4 * 1024 * 1024);

    /// A limit of `bytes`. What is over 4 GiB - 1 cannot be said in a frame's length and is cut
    /// to that; 0 is taken as 1, since a side that accepts nothing would not have called.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(u32::try_from(bytes).unwrap_or(u32::MAX).max(1))
    }

    /// The limit in bytes.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The limit for a header frame, which is a frame like any other but never over 64 KiB.
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

/// How many calls a server runs at once for one connection. Default 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxInFlight(u32);

impl MaxInFlight {
    /// What a server states unless it is told otherwise.
    pub const DEFAULT: Self = Self(1024);

    /// A limit of `calls`; at least one, at most 2^24 (a table of which still fits in memory).
    #[must_use]
    pub fn new(calls: usize) -> Self {
        Self(u32::try_from(calls).unwrap_or(u32::MAX).clamp(1, 1 << 24))
    }

    /// The limit.
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

/// The number of a request on its connection. Each is greater than all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The first number that JSON can no longer carry exactly.
    pub const JSON_END: u64 = 1 << 53;
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
