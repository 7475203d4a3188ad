//! The table of a connection's streams, between a peer that sends anything and an application that does.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use farcall_protocol::stream::{StreamSettings, StreamTable, TakenItems, WindowLimits};
use farcall_protocol::{
    Body, Codec, Flags, HeaderRef, Kind, MaxFrameBytes, MessageDecoder, Outbox, Seq, StreamWindow,
};
use farcall_test_support::frames::encode;

use crate::input::Input;

/// The most steps of an input.
const MAX_STEPS: usize = 200;
/// The window that streams begin with, in bytes: small, so that credit runs out.
const WINDOW: usize = 600;
/// The bytes that all windows may grow by.
const MAX_GROWTH: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = if input.byte().is_multiple_of(2) { Codec::MessagePack } else { Codec::Json };
    let mut driven = Driven::new(codec);
    for _ in 0..MAX_STEPS {
        if input.is_empty() || !driven.step(&mut input) {
            break;
        }
        driven.check();
    }
    driven.end();
}

struct Driven {
    codec: Codec,
    table: StreamTable,
    outbox: Outbox,
    now: Instant,
    /// Batches that the application has taken and not yet finished.
    taken: Vec<(Seq, TakenItems)>,
    /// The calls that steps are about.
    numbers: [u64; 4],
    /// The number of the last call.
    last: u64,
}

impl Driven {
    fn new(codec: Codec) -> Self {
        let window = StreamWindow::new(WINDOW);
        let limit = MaxFrameBytes::new(1 << 16);
        let mut settings = StreamSettings::new(codec.clone(), limit, window, window);
        settings.receive_window = WindowLimits { initial: window, max: StreamWindow::new(4 * WINDOW) };
        settings.max_growth = MAX_GROWTH;
        Self {
            codec,
            table: StreamTable::new(settings),
            outbox: Outbox::new(),
            now: Instant::now(),
            taken: Vec::new(),
            numbers: [0; 4],
            last: 0,
        }
    }

    /// Takes a step. `false` if the peer broke the protocol, which ends the connection.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let step = input.byte();
        let slot = usize::from(input.byte() % 4);
        let seq = Seq(self.numbers[slot]);
        let (table, now) = (&mut self.table, self.now);
        match step % 16 {
            0 => {
                if table.snapshot_of(seq).is_none() {
                    // A number is that of one call only.
                    self.last += 1;
                    self.numbers[slot] = self.last;
                    table.open(Seq(self.last), step & 0x80 == 0);
                }
            }
            1..=3 => return self.receive(seq, input),
            4 => {
                if let Poll::Ready(Ok(Some(items))) = table.poll_items(seq, &mut cx) {
                    self.taken.push((seq, items));
                }
            }
            5 => self.take(),
            6 | 7 => {
                if table.poll_ready(seq, &mut cx, || now) == Poll::Ready(Ok(())) {
                    let _ = table.send(seq, Body::from(Bytes::copy_from_slice(input.piece())).into(), false);
                }
            }
            8 => table.end(seq),
            9 => table.stop(seq),
            10 => table.finish(seq, &mut self.outbox),
            11 => table.complete(seq),
            12 => table.remove(seq),
            13 => {
                table.write_control(&mut self.outbox, |seq| seq.0 % 4 != u64::from(step >> 4));
                table.write(&mut self.outbox);
                self.outbox.advance(self.outbox.remaining());
            }
            14 => {
                self.now += Duration::from_secs(u64::from(step >> 4) * 7);
                for seq in table.expire(self.now) {
                    table.remove(seq);
                }
            }
            _ => table.stop_waiting(seq),
        }
        true
    }

    /// Gives the table a message as it would come over the connection.
    fn receive(&mut self, seq: Seq, input: &mut Input<'_>) -> bool {
        let kind = input.choose(&[Kind::Item, Kind::Item, Kind::Credit, Kind::End, Kind::Stop]);
        let flags = input.choose(&[Flags::NONE, Flags::STARVED, Flags::COMPRESSED]);
        let room = input.byte().is_multiple_of(2);
        let header = HeaderRef { flags, ..HeaderRef::new(kind, seq) };
        let bytes = encode(&self.codec, &header, Bytes::copy_from_slice(input.piece()));
        let decoder = MessageDecoder::new(self.codec.clone(), MaxFrameBytes::new(1 << 16));
        let message = decoder.next(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
        self.table.receive(&message.header, message.body, self.now, |_| room).is_ok()
    }

    /// Has the application take an item of the oldest batch.
    fn take(&mut self) {
        let Some((seq, items)) = self.taken.first_mut() else { return };
        let is_empty = items.take_next().is_none();
        if let Some(cost) = items.due() {
            items.set_credit_at(self.table.consume(*seq, cost, || self.now));
        }
        if is_empty {
            self.taken.remove(0);
        }
    }

    fn check(&self) {
        let table = &self.table;
        assert!(table.len() <= 4 && table.growth() <= MAX_GROWTH, "{:?}", table.snapshot());
        assert!(table.memory_bytes() >= table.queued_bytes(), "{:?}", table.snapshot());
        let streams = table.snapshot();
        assert_eq!(streams.len(), table.len());
        let queued: usize = streams.iter().map(|stream| stream.queued).sum();
        assert!(queued <= table.queued_bytes(), "{:?}", table.snapshot());
        if table.is_empty() {
            assert_eq!(
                (table.queued_bytes(), table.memory_bytes(), table.growth()),
                (0, 0, 0),
                "{:?}",
                table.snapshot()
            );
        }
    }

    fn end(mut self) {
        self.table.remove_all();
        self.check();
        self.table.write_control(&mut self.outbox, |_| true);
        self.table.write(&mut self.outbox);
        assert!(!self.table.has_output() && self.table.is_empty());
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let item = [1, 0, 0, 0, 0, 3, b'a', b'b', b'c'];
    let mut streamed = vec![0, 0, 0];
    for _ in 0..8 {
        streamed.extend(item);
    }
    streamed.extend([4, 0, 5, 0, 5, 0, 5, 0, 6, 0, 2, 1, 1, 13, 0, 8, 0, 13, 0, 10, 0]);
    let stopped = [1, 0, 1, 1, 1, 1, 0, 0, 2, b'1', b'2', 9, 1, 13, 0, 12, 1].to_vec();
    let starved =
        [&[0, 0, 0][..], &[6, 0, 255][..], &[7; 255], &[6, 0, 255], &[7; 255], &[6, 0, 9], &[7; 9]].concat();
    let expired = [starved.clone(), vec![0xFE, 0, 0xFE, 0]].concat();
    vec![streamed, stopped, starved, expired]
}
