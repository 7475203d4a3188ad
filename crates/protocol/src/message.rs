//! Decoding of messages from the bytes of a connection.
//!
//! The frames equal those of tokio-util's `LengthDelimitedCodec`, which a test verifies. They are decoded here
//! by hand, header and body at once, because this is on the path of every message.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::codec::Codec;
#[cfg(feature = "msgpack")]
use crate::header::UsualHeader;
use crate::header::{self, Flags, Header, HeaderError, HeaderRef, Kind};
use crate::limits::{LENGTH_BYTES, MAX_OPTION_BYTES, MaxFrameBytes, Seq};

/// A message: a header and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The header.
    pub header: Header,
    /// Arguments, a result or the details of an error; a slice of the receive buffer.
    pub body: Bytes,
}

impl Message {
    /// Creates a message.
    #[must_use]
    pub const fn new(header: Header, body: Bytes) -> Self {
        Self { header, body }
    }
}

impl Default for Message {
    /// Returns a message that says nothing, which others can be [read into](crate::Inbox::read): a pong without a number.
    fn default() -> Self {
        Self::new(Header::new(Kind::Pong, Seq::default()), Bytes::new())
    }
}

/// A decoder that takes messages from a stream of bytes, independent of the boundaries of reads.
#[derive(Clone, Debug)]
pub struct MessageDecoder {
    codec: Codec,
    limit: MaxFrameBytes,
}

impl MessageDecoder {
    /// Creates a decoder of messages with headers in `codec`, which refuses frames over `limit`.
    #[must_use]
    pub const fn new(codec: Codec, limit: MaxFrameBytes) -> Self {
        Self { codec, limit }
    }

    /// Takes the next message from the front of `buffer`; `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// A length exceeds its limit, which is detected as soon as its four bytes have arrived, or the header
    /// does not decode. The connection is unusable after either error.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        let Some(whole) = self.whole(buffer)? else { return Ok(None) };
        let mut message = Message::default();
        self.take(&whole, buffer, &mut message)?;
        Ok(Some(message))
    }

    /// Returns the positions of the message at the front of `buffer`, if it is complete.
    ///
    /// # Errors
    ///
    /// A length exceeds its limit.
    #[inline]
    pub(crate) fn whole(&self, buffer: &[u8]) -> Result<Option<Whole>, FrameError> {
        let Cut { header_end, body: Some(body) } = self.cut(buffer)? else { return Ok(None) };
        let end = header_end + LENGTH_BYTES + body;
        Ok((end <= buffer.len()).then_some(Whole { header_end, end }))
    }

    /// Returns the positions and the header of the message at the front of `buffer`, if it is complete, the header is of the
    /// usual form, and the message is shorter than `limit` bytes.
    #[cfg(feature = "msgpack")]
    #[inline]
    pub(crate) fn front<'a>(&self, buffer: &'a [u8], limit: usize) -> Option<(Whole, UsualHeader<'a>)> {
        #[cfg(feature = "json")]
        if matches!(self.codec, Codec::Json) {
            return None;
        }
        // What is wrong with its lengths is told when it is taken.
        let whole = self.whole(buffer).ok()??;
        if whole.end >= limit {
            return None;
        }
        Some((whole, UsualHeader::read(&buffer[LENGTH_BYTES..whole.header_end])?))
    }

    /// Takes the complete message at these positions from the front of `buffer`, into one that is there, since a message is
    /// large to be moved.
    ///
    /// # Errors
    ///
    /// The header does not decode; `message` is one or the other then, or a part of both.
    #[inline]
    pub(crate) fn take(
        &self,
        whole: &Whole,
        buffer: &mut BytesMut,
        message: &mut Message,
    ) -> Result<(), FrameError> {
        message.body = buffer.split_to(whole.end).freeze();
        header::decode_into(&self.codec, &message.body, LENGTH_BYTES..whole.header_end, &mut message.header)?;
        message.body.advance(whole.header_end + LENGTH_BYTES);
        Ok(())
    }

    /// Takes the header of the message at the front of `buffer`, with the size of its body; `None` if the length of
    /// the body has not arrived.
    #[cold]
    pub(crate) fn next_header(&self, buffer: &mut BytesMut) -> Result<Option<(Header, usize)>, FrameError> {
        let Cut { header_end, body: Some(body_len) } = self.cut(buffer)? else { return Ok(None) };
        let frames = buffer.split_to(header_end + LENGTH_BYTES).freeze();
        Ok(Some((header::decode(&self.codec, &frames, LENGTH_BYTES..header_end)?, body_len)))
    }

    /// Returns the number of bytes missing of the message at the start of `buffer`, as far as the received
    /// bytes tell it; 0 if `buffer` is empty or starts with a complete message.
    ///
    /// # Errors
    ///
    /// As for [`MessageDecoder::next`].
    pub fn missing(&self, buffer: &[u8]) -> Result<usize, FrameError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let cut = self.cut(buffer)?;
        let end = cut.header_end + LENGTH_BYTES + cut.body.unwrap_or(0);
        Ok(end.saturating_sub(buffer.len()))
    }

    /// Returns the bytes that an item begins with: the length of its header, and that.
    pub(crate) fn item_head(&self, seq: Seq, flags: Flags) -> BytesMut {
        let mut head = BytesMut::with_capacity(64);
        header::encode_frame(&HeaderRef { flags, ..HeaderRef::new(Kind::Item, seq) }, &self.codec, &mut head);
        head
    }

    /// Returns the largest body that is accepted, in bytes.
    pub(crate) const fn limit(&self) -> usize {
        self.limit.get()
    }

    #[inline]
    fn cut(&self, buffer: &[u8]) -> Result<Cut, FrameError> {
        let Some(header) = length(buffer) else {
            return Ok(Cut { header_end: LENGTH_BYTES, body: None });
        };
        check(Part::Header, header, self.limit.for_header())?;
        let end = LENGTH_BYTES + header;
        let body = buffer.get(end..).and_then(length);
        if let Some(body) = body {
            check(Part::Body, body, self.limit.get())?;
        }
        Ok(Cut { header_end: end, body })
    }
}

/// The positions of a complete message's parts in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    pub(crate) header_end: usize,
    /// The length of the message, in bytes.
    pub(crate) end: usize,
}

/// The positions of a message's parts in a buffer, as far as it has arrived.
struct Cut {
    header_end: usize,
    /// The length of the body, if its four bytes have arrived.
    body: Option<usize>,
}

fn length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
}

/// Takes the Option frame from the front of `buffer`; `None` if it is incomplete.
///
/// # Errors
///
/// The length exceeds 4 KiB.
pub fn next_option(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(len) = length(buffer) else { return Ok(None) };
    check(Part::Option, len, MAX_OPTION_BYTES)?;
    if buffer.len() < LENGTH_BYTES + len {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(len).freeze()))
}

#[inline]
fn check(part: Part, size: usize, limit: usize) -> Result<(), FrameError> {
    if size > limit { Err(too_large(part, size, limit)) } else { Ok(()) }
}

#[cold]
const fn too_large(part: Part, size: usize, limit: usize) -> FrameError {
    FrameError::TooLarge(TooLarge { part, size, limit })
}

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// A side's Option.
    Option,
    /// A message's header.
    Header,
    /// A message's body.
    Body,
}

/// The error of a frame over its limit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{} of {size} bytes: the limit is {limit} bytes{}", match .part {
    Part::Option => "Option",
    Part::Header => "header",
    Part::Body => "body",
}, match .part {
    Part::Body => ", the receiver's `max_frame_bytes`",
    _ => "",
})]
#[non_exhaustive]
pub struct TooLarge {
    /// The part that is too large.
    pub part: Part,
    /// The size in bytes.
    pub size: usize,
    /// The limit in bytes.
    pub limit: usize,
}

impl TooLarge {
    /// Creates the error of `part`, from its size and its limit in bytes.
    #[must_use]
    pub const fn new(part: Part, size: usize, limit: usize) -> Self {
        Self { part, size, limit }
    }
}

/// The error of bytes that are not a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame over the limit in force.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A header that does not decode.
    #[error(transparent)]
    Header(#[from] HeaderError),
}
