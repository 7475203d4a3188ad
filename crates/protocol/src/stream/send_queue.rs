//! [`SendQueue`]: the items of one stream that wait for their turn on the connection.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::credit::item_cost;
use super::item::EncodedItem;
use super::scheduler::ITEM_QUANTUM;
use crate::body::{Body, Parts};
use crate::codec::Codec;
use crate::header::{self, Flags, HeaderRef, Kind};
use crate::limits::{MaxFrameBytes, Seq};
use crate::outbox::Outbox;

/// The smallest body, in bytes, that is no part of a run.
const MIN_ALONE: usize = 4 * 1024;
/// The most bytes of a run: a turn of its stream.
const MAX_RUN: usize = ITEM_QUANTUM;
/// The memory, in bytes, that a run begins with.
const FIRST_RUN: usize = 64;
/// The most places of an empty queue.
const MAX_KEPT: usize = 4;

/// The items of one stream that wait for their turn. Their credit is spent.
///
/// Small ones are encoded as messages when they are sent, one behind the other: the connection's task, which has all
/// streams to serve, moves them on in one piece.
#[derive(Default)]
pub(super) struct SendQueue {
    queued: VecDeque<Queued>,
    /// The bytes of all that wait.
    bytes: usize,
    /// The size of the last run: the next is likely to be as large.
    expected: usize,
    /// The header, as a frame, of all small items without flags; empty before the first.
    head: Box<[u8]>,
}

enum Queued {
    /// The messages of small items.
    Run(BytesMut),
    Item {
        body: Body,
        flags: Flags,
    },
}

impl Queued {
    fn bytes(&self) -> usize {
        match self {
            Self::Run(messages) => messages.len(),
            Self::Item { body, .. } => item_cost(body.len()) as usize,
        }
    }
}

impl SendQueue {
    /// Returns the bytes of all that waits.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes of the next piece; `None` if nothing waits.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        self.queued.front().map(Queued::bytes)
    }

    /// Appends an item, whose body fits the peer's limit. Returns the bytes that more wait.
    pub(super) fn push(&mut self, codec: &Codec, seq: Seq, item: EncodedItem<'_>, flags: Flags) -> usize {
        let before = self.bytes;
        match item {
            EncodedItem::Small(body) => self.push_small(codec, seq, body, flags),
            EncodedItem::Body(body) => match body.parts() {
                Parts::Small(small) => self.push_small(codec, seq, small.as_slice(), flags),
                Parts::Shared([body]) if body.len() < MIN_ALONE => self.push_small(codec, seq, body, flags),
                _ => {
                    let item = Queued::Item { body, flags };
                    self.bytes += item.bytes();
                    self.queued.push_back(item);
                }
            },
        }
        self.bytes - before
    }

    fn push_small(&mut self, codec: &Codec, seq: Seq, body: &[u8], flags: Flags) {
        let run = match self.queued.back_mut() {
            Some(Queued::Run(run)) if run.len() + body.len() < MAX_RUN => run,
            _ => {
                let room = self.expected.max(FIRST_RUN);
                self.queued.push_back(Queued::Run(BytesMut::with_capacity(room)));
                let Some(Queued::Run(run)) = self.queued.back_mut() else { unreachable!() };
                run
            }
        };
        let start = run.len();
        if flags != Flags::NONE {
            put_head(run, codec, seq, flags);
        } else if self.head.is_empty() {
            put_head(run, codec, seq, flags);
            self.head = run[start..].into();
        } else {
            run.extend_from_slice(&self.head);
        }
        run.extend_from_slice(&(body.len() as u32).to_be_bytes());
        run.extend_from_slice(body);
        self.bytes += run.len() - start;
        self.expected = run.len();
    }

    /// Moves the next piece to an outbox. Returns its bytes; `None` if nothing waits.
    pub(super) fn write_next(
        &mut self,
        codec: &Codec,
        seq: Seq,
        limit: MaxFrameBytes,
        outbox: &mut Outbox,
    ) -> Option<usize> {
        let next = self.queued.pop_front()?;
        let bytes = next.bytes();
        self.bytes -= bytes;
        match next {
            Queued::Run(messages) => outbox.push_messages(messages),
            Queued::Item { body, flags } => {
                let header = HeaderRef { flags, ..HeaderRef::new(Kind::Item, seq) };
                // Such headers fit any limit that a handshake lets through, and the bodies were checked.
                let _ = outbox.push(codec, &header, &body, limit);
            }
        }
        self.release();
        Some(bytes)
    }

    /// Takes the body of the next item, and the bytes that less wait; `None` if nothing waits.
    pub(super) fn take_body(&mut self) -> Option<(Body, usize)> {
        let before = self.bytes;
        let body = match self.queued.front_mut()? {
            Queued::Run(messages) => {
                let len = messages.len();
                let head = messages.get_u32() as usize;
                messages.advance(head);
                let body = messages.get_u32() as usize;
                let body = Bytes::copy_from_slice(&messages.split_to(body));
                self.bytes -= len - messages.len();
                if messages.is_empty() {
                    self.queued.pop_front();
                }
                body.into()
            }
            item @ Queued::Item { .. } => {
                self.bytes -= item.bytes();
                match self.queued.pop_front() {
                    Some(Queued::Item { body, .. }) => body,
                    _ => return None,
                }
            }
        };
        self.release();
        Some((body, before - self.bytes))
    }

    /// Drops all that waits. Returns its bytes.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).bytes
    }

    /// An idle stream keeps little memory.
    fn release(&mut self) {
        if self.queued.is_empty() && self.queued.capacity() > MAX_KEPT {
            self.queued = VecDeque::new();
        }
    }
}

/// Appends the header of an item, as a frame.
fn put_head(out: &mut BytesMut, codec: &Codec, seq: Seq, flags: Flags) {
    header::encode_frame(&HeaderRef { flags, ..HeaderRef::new(Kind::Item, seq) }, codec, out);
}
