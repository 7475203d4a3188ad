//! [`FrontMessage`]: the message at the front of an inbox, read where it was received. The inbox itself is left to its file.

use std::ops::Range;

#[cfg(feature = "msgpack")]
use crate::header::UsualHeader;
use crate::header::{Flags, Kind};
#[cfg(feature = "msgpack")]
use crate::limits::LENGTH_BYTES;
use crate::limits::Seq;
#[cfg(feature = "msgpack")]
use crate::message::Whole;

/// A message at the front of an [`Inbox`](crate::Inbox), which has it still: with a header of the usual form, in MessagePack,
/// without an error and metadata, and a body that is not large.
///
/// It costs less than a [`Message`](crate::Message), which is split off the inbox with a checked copy of its method's name.
#[derive(Debug)]
#[non_exhaustive]
pub struct FrontMessage {
    /// The kind of the message.
    pub kind: Kind,
    /// The number of the request that the message is or refers to.
    pub seq: Seq,
    /// The time left until the caller's deadline, in milliseconds; 0 if there is none.
    pub timeout_ms: u64,
    /// The flags of the message.
    pub flags: Flags,
    body: usize,
    end: usize,
}

impl FrontMessage {
    #[cfg(feature = "msgpack")]
    #[inline]
    pub(crate) const fn new(header: &UsualHeader<'_>, whole: Whole) -> Self {
        let body = whole.header_end + LENGTH_BYTES;
        let &UsualHeader { kind, seq, timeout_ms, flags, .. } = header;
        Self { kind, seq, timeout_ms, flags, body, end: whole.end }
    }

    /// Returns the length of the body in bytes.
    #[must_use]
    #[inline]
    pub const fn body_len(&self) -> usize {
        self.end - self.body
    }

    /// Returns the place of the body in the inbox.
    #[inline]
    pub(crate) const fn body(&self) -> Range<usize> {
        self.body..self.end
    }

    /// Notes that the inbox does not have it any more. Returns the length of the whole message.
    #[inline]
    pub(crate) fn taken(&mut self) -> usize {
        self.body = 0;
        std::mem::take(&mut self.end)
    }
}
