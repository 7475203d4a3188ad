//! [`FrameReader`]: the frames of a peer ([RFC 6455, section 5](https://www.rfc-editor.org/rfc/rfc6455#section-5)) and
//! the rules that they must follow. Reading and writing them is for [`super`].
//!
//! Payloads are unmasked where they lie and never collected: of an unfinished frame or message, nothing is held but
//! its numbers.

use std::time::Duration;

use tokio::time::Instant;

/// The longest payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;
/// The longest head of a frame, in bytes.
pub(super) const MAX_HEAD: usize = 14;
/// Frames without data, such as pings and empty continuations, that a peer may send within
/// [`EMPTY_FRAMES_WINDOW`]. They cost time and never complete a message.
const MAX_EMPTY_FRAMES: u32 = 1024;
/// The time over which frames without data are counted.
const EMPTY_FRAMES_WINDOW: Duration = Duration::from_secs(10);

/// The side of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A violation of the rules by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A text message.
    Text,
    /// A message, or the claim of one, over the limit.
    TooLarge,
    /// More than [`MAX_EMPTY_FRAMES`] frames without data in a short time.
    EmptyFrames,
    /// A frame that RFC 6455 does not allow.
    Protocol(&'static str),
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// The bytes of the payload that are still to come.
    pub(super) left: u64,
    /// The key for the next byte and those after it. All zero without a mask.
    mask: [u8; 4],
}

/// The position in the peer's frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    role: Role,
    max_message: u64,
    /// The part of a frame's head that has come.
    head: [u8; MAX_HEAD],
    head_len: usize,
    /// The data of the message so far, if its last frame has not begun; else `None`.
    message: Option<u64>,
    /// Frames without data since `empty_since`.
    empty: u32,
    empty_since: Option<Instant>,
}

impl FrameReader {
    /// Creates the reader of `role`, which takes messages of at most `max_message` bytes.
    pub(super) const fn new(role: Role, max_message: u64) -> Self {
        Self {
            role,
            max_message,
            head: [0; MAX_HEAD],
            head_len: 0,
            message: None,
            empty: 0,
            empty_since: None,
        }
    }

    /// Takes bytes of a frame's head from the front of `bytes`. Returns the number of bytes taken, and the frame if its
    /// head is complete.
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Result<Option<Frame>, Violation>) {
        let mut taken = 0;
        loop {
            let missing = head_len(&self.head[..self.head_len]) - self.head_len;
            if missing == 0 {
                self.head_len = 0;
                return (taken, self.begin().map(Some));
            }
            let some = missing.min(bytes.len() - taken);
            if some == 0 {
                return (taken, Ok(None));
            }
            self.head[self.head_len..self.head_len + some].copy_from_slice(&bytes[taken..taken + some]);
            self.head_len += some;
            taken += some;
        }
    }

    /// Begins the frame whose head is complete.
    fn begin(&mut self) -> Result<Frame, Violation> {
        let [first, second] = [self.head[0], self.head[1]];
        let (is_final, is_masked) = (first & 0x80 != 0, second & 0x80 != 0);
        let (left, end) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([self.head[2], self.head[3]])), 4),
            127 => (self.head[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)), 10),
            length => (u64::from(length), 2),
        };
        let mut mask = [0; 4];
        if is_masked {
            mask.copy_from_slice(&self.head[end..end + 4]);
        }
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("a frame uses an extension that was not agreed on"));
        }
        if is_masked != (self.role == Role::Server) {
            return Err(Violation::Protocol("frames of clients are masked, those of servers are not"));
        }
        let opcode = match (first & 0x0f, self.message.is_some()) {
            (0, true) => Opcode::Continuation,
            (0, false) => return Err(Violation::Protocol("a continuation follows no message")),
            (1 | 2, true) => return Err(Violation::Protocol("a message begins within another")),
            (1, false) => return Err(Violation::Text),
            (2, false) => Opcode::Binary,
            (8, _) => Opcode::Close,
            (9, _) => Opcode::Ping,
            (10, _) => Opcode::Pong,
            _ => return Err(Violation::Protocol("a frame has an unknown opcode")),
        };
        if matches!(opcode, Opcode::Continuation | Opcode::Binary) {
            let size = self.message.unwrap_or(0).saturating_add(left);
            if size > self.max_message {
                return Err(Violation::TooLarge);
            }
            self.message = (!is_final).then_some(size);
        } else if !is_final || left > MAX_CONTROL as u64 {
            return Err(Violation::Protocol("a control frame is fragmented or over 125 bytes"));
        }
        if left == 0 || matches!(opcode, Opcode::Ping | Opcode::Pong) {
            self.count_empty()?;
        }
        Ok(Frame { opcode, left, mask })
    }

    /// Counts a frame without data. The clock is read once for [`MAX_EMPTY_FRAMES`] of them.
    fn count_empty(&mut self) -> Result<(), Violation> {
        self.empty += 1;
        if self.empty >= MAX_EMPTY_FRAMES {
            let now = Instant::now();
            if self.empty_since.is_some_and(|since| now - since < EMPTY_FRAMES_WINDOW) {
                return Err(Violation::EmptyFrames);
            }
            (self.empty, self.empty_since) = (0, Some(now));
        }
        Ok(())
    }
}

impl Frame {
    /// Unmasks the next bytes of the payload, and counts them as read.
    pub(super) fn unmask(&mut self, bytes: &mut [u8]) {
        self.left -= bytes.len() as u64;
        if self.mask != [0; 4] {
            apply_mask(self.mask, bytes);
            self.mask.rotate_left(bytes.len() % 4);
        }
    }
}

/// Returns the length of the head that begins with these bytes, as far as they tell it.
fn head_len(head: &[u8]) -> usize {
    let [_, second, ..] = *head else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// Masks or unmasks bytes, the first with the first byte of the key.
pub(super) fn apply_mask(key: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = key;
    // Eight at a time: byte by byte, large messages would take several times as long.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the head of a frame that is the last of its message, and of its payload of `len` bytes.
pub(super) fn put_head(out: &mut Vec<u8>, opcode: Opcode, len: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if usize::from(len) <= MAX_CONTROL => out.push(masked | len),
        (_, Ok(len)) => {
            out.push(masked | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::frame::{Frame as OtherFrame, FrameHeader};

    use super::*;

    fn reader() -> FrameReader {
        FrameReader::new(Role::Server, 1000)
    }

    /// Reads one head. All frames here have the mask 0.
    fn begin(reader: &mut FrameReader, first: u8, len: u8) -> Result<Frame, Violation> {
        let (taken, frame) = reader.next(&[first, 0x80 | len, 0, 0, 0, 0]);
        assert_eq!(taken, 6);
        frame.map(|frame| frame.expect("the head is complete"))
    }

    #[test]
    fn fragments_of_a_message_may_enclose_control_frames() {
        let mut reader = reader();
        assert_eq!(begin(&mut reader, 0x02, 5).unwrap().opcode, Opcode::Binary);
        assert_eq!(begin(&mut reader, 0x89, 0).unwrap().opcode, Opcode::Ping);
        assert_eq!(begin(&mut reader, 0x00, 5).unwrap().opcode, Opcode::Continuation);
        assert_eq!(begin(&mut reader, 0x80, 5).unwrap().opcode, Opcode::Continuation);
        assert_eq!(begin(&mut reader, 0x82, 0).unwrap().opcode, Opcode::Binary);
    }

    #[test]
    fn frames_that_the_rfc_forbids_are_violations() {
        let is_protocol =
            |first, len| matches!(begin(&mut reader(), first, len), Err(Violation::Protocol(_)));
        for first in [0xc2, 0xa2, 0x92, 0x83, 0x8b, 0x80, 0x09, 0x08] {
            assert!(is_protocol(first, 1), "{first:x}");
        }
        let long_ping = reader().next(&[0x89, 0xfe, 0, 126, 0, 0, 0, 0]).1;
        assert!(matches!(long_ping, Err(Violation::Protocol(_))));
        let unmasked = reader().next(&[0x82, 0]).1;
        assert!(matches!(unmasked, Err(Violation::Protocol(_))));
        let masked = FrameReader::new(Role::Client, 1000).next(&[0x82, 0x80, 0, 0, 0, 0]).1;
        assert!(matches!(masked, Err(Violation::Protocol(_))));
        let mut reader = reader();
        begin(&mut reader, 0x02, 0).unwrap();
        assert!(matches!(begin(&mut reader, 0x82, 0), Err(Violation::Protocol(_))));
    }

    #[test]
    fn message_is_too_large_as_soon_as_a_head_says_so() {
        let head = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(reader().next(&head), (MAX_HEAD, Err(Violation::TooLarge)));
        let mut reader = reader();
        for _ in 0..10 {
            let first = if reader.message.is_none() { 0x02 } else { 0x00 };
            begin(&mut reader, first, 100).unwrap();
        }
        assert_eq!(begin(&mut reader, 0x00, 1), Err(Violation::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_data_are_limited_in_their_rate() {
        let mut reader = reader();
        // Slowly, for as long as the peer likes.
        for _ in 0..10 {
            for _ in 0..MAX_EMPTY_FRAMES {
                begin(&mut reader, 0x89, 4).unwrap();
            }
            tokio::time::advance(EMPTY_FRAMES_WINDOW).await;
        }
        begin(&mut reader, 0x02, 0).unwrap();
        let refused = (0..2 * MAX_EMPTY_FRAMES).find_map(|_| begin(&mut reader, 0x00, 0).err());
        assert_eq!(refused, Some(Violation::EmptyFrames));
    }

    proptest! {
        #[test]
        fn heads_are_those_of_another_implementation(
            payload in prop_oneof![0_usize..130, 65_530_usize..65_540]
                .prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len)),
            mask in any::<[u8; 4]>(),
            cuts in proptest::collection::vec(1_usize..20, 1..5),
        ) {
            let mut ours = Vec::new();
            put_head(&mut ours, Opcode::Binary, payload.len(), Some(mask));
            let mut header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
            header.mask = Some(mask);
            let mut theirs = Vec::new();
            OtherFrame::from_payload(header, payload.clone().into()).format(&mut theirs).unwrap();
            prop_assert_eq!(&theirs[..ours.len()], &ours[..]);

            // Read in pieces of any size.
            let mut reader = FrameReader::new(Role::Server, u64::MAX);
            let (mut rest, mut frame, mut received) = (&theirs[..], None::<Frame>, Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let some = cuts.next().unwrap().min(rest.len());
                let (piece, behind) = rest.split_at(some);
                if let Some(frame) = &mut frame {
                    let mut piece = piece.to_vec();
                    frame.unmask(&mut piece);
                    received.extend(piece);
                    rest = behind;
                } else {
                    let (taken, begun) = reader.next(piece);
                    frame = begun.unwrap();
                    rest = &rest[taken..];
                }
            }
            prop_assert!(received == payload && frame.unwrap().left == 0);
        }
    }
}
