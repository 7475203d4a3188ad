use proptest::prelude::*;

use super::*;
use crate::{Codec, HeaderRef, Kind, MaxFrameBytes, Outbox, Seq};

fn decoder() -> MessageDecoder {
    MessageDecoder::new(Codec::default(), MaxFrameBytes::DEFAULT)
}

fn messages(bodies: &[usize]) -> Vec<u8> {
    let mut outbox = Outbox::new();
    for (n, body) in bodies.iter().enumerate() {
        let header = HeaderRef::new(Kind::Response, Seq(n as u64 + 1));
        outbox
            .push(
                &Codec::default(),
                &header,
                &bytes::Bytes::from(vec![n as u8; *body]).into(),
                MaxFrameBytes::DEFAULT,
            )
            .unwrap();
    }
    outbox.copy_to_bytes(outbox.remaining()).to_vec()
}

/// Performs one read of at most `most` bytes.
fn read<B: BufferSource>(inbox: &mut Inbox<B>, stream: &mut &[u8], most: usize) -> usize {
    let mut room = inbox.room();
    let count = stream.len().min(most).min(room.remaining_mut()).min(room.chunk_mut().len());
    assert!(count > 0 || stream.is_empty() || most == 0, "there is room for something");
    room.put_slice(&stream[..count]);
    stream.advance(count);
    inbox.advance(count);
    count
}

#[test]
fn large_messages_are_read_into_separate_memory() {
    const BODY: usize = MAX_READ;
    let stream = messages(&[BODY; 4]);
    let mut stream = &stream[..];
    let mut inbox = Inbox::new(BytesMut::new());
    let mut taken = Vec::new();
    let mut reads = 0;
    while taken.len() < 4 {
        read(&mut inbox, &mut stream, usize::MAX);
        reads += 1;
        while let Some(message) = inbox.next(&decoder()).unwrap() {
            taken.push(message);
            assert!(inbox.bytes.len() <= LEEWAY, "only a few bytes of the next message have to be moved");
        }
    }
    assert_eq!(reads, 2 + 3, "one read for each, once the size is known");
    assert!(taken.iter().all(|message| message.body.len() == BODY));
}

#[test]
fn one_read_receives_many_small_messages() {
    let stream = messages(&[100; 10_000]);
    let mut stream = &stream[..];
    let mut inbox = Inbox::new(BytesMut::new());
    let (mut reads, mut taken) = (0, 0);
    while taken < 10_000 {
        reads += 1;
        assert!(read(&mut inbox, &mut stream, usize::MAX) <= MAX_READ);
        while inbox.next(&decoder()).unwrap().is_some() {
            taken += 1;
        }
    }
    assert!(reads < 40, "{reads} reads for a megabyte");
    inbox.shrink();
    assert_eq!(inbox.held_bytes(), 0);
}

#[test]
fn rest_of_a_small_message_is_received_by_one_read() {
    let stream = messages(&[6000]);
    let mut stream = &stream[..];
    let mut inbox = Inbox::new(BytesMut::new());
    // More than a quarter of the first read is left then, and less than the rest.
    read(&mut inbox, &mut stream, FIRST_READ - FIRST_READ / 4 - 1);
    assert!(inbox.next(&decoder()).unwrap().is_none());
    assert!(read(&mut inbox, &mut stream, usize::MAX) > FIRST_READ / 4 + 1);
    assert!(inbox.next(&decoder()).unwrap().is_some());
}

#[test]
fn memory_of_a_claimed_size_grows_with_what_is_received() {
    const SIZE: usize = 4 * 1024 * 1024 - 100;
    let stream = messages(&[SIZE, SIZE]);
    let mut stream = &stream[..];
    let mut inbox = Inbox::new(BytesMut::new());
    let (mut received, mut moved) = (read(&mut inbox, &mut stream, 100), 0);
    while inbox.next(&decoder()).unwrap().is_none() {
        let (held, most) = (inbox.held_bytes(), MAX_READ.max(GROWTH * received));
        assert!(held <= most + most / 3, "{received}: {held}");
        let least = if received < FIRST_READ { FIRST_READ } else { MAX_READ };
        assert!(inbox.wanted() <= least.max((GROWTH - 1) * received));
        if inbox.wanted() > 0 {
            moved += received;
        }
        received += read(&mut inbox, &mut stream, 50_000);
        let capacity = inbox.bytes.capacity();
        assert!(capacity <= MAX_READ + GROWTH * received, "{capacity} bytes for {received}");
    }
    assert!(moved < SIZE * 4 / 3, "{moved} bytes moved");
    assert!(!inbox.has_outgrown);
    // A size that has come once is believed, but memory for it is not held before it is used.
    read(&mut inbox, &mut stream, 100);
    assert!(inbox.next(&decoder()).unwrap().is_none());
    read(&mut inbox, &mut stream, 50_000);
    assert!(inbox.bytes.capacity() > SIZE && inbox.held_bytes() < 300_000, "{}", inbox.held_bytes());
}

#[test]
fn rest_of_a_message_that_was_given_up_is_discarded() {
    for received in [20, 100, 150_000, 299_999] {
        let stream = messages(&[300_000, 5]);
        let mut stream = &stream[..];
        let mut inbox = Inbox::new(BytesMut::new());
        let mut count = 0;
        while count < received {
            count += read(&mut inbox, &mut stream, received - count);
            assert!(inbox.next(&decoder()).unwrap().is_none());
        }
        assert_eq!(inbox.give_up(&decoder()).unwrap().unwrap().seq, Seq(1));
        let message = loop {
            assert!(!inbox.is_empty() && inbox.held_bytes() <= MAX_READ);
            read(&mut inbox, &mut stream, usize::MAX);
            if let Some(message) = inbox.next(&decoder()).unwrap() {
                break message;
            }
        };
        assert_eq!((message.header.seq, message.body.len()), (Seq(2), 5));
        assert!(inbox.is_empty());
    }
}

#[test]
fn message_with_an_incomplete_header_is_not_given_up() {
    let stream = messages(&[300_000]);
    let mut inbox = Inbox::new(BytesMut::new());
    read(&mut inbox, &mut &stream[..], 6);
    assert_eq!((inbox.next(&decoder()), inbox.give_up(&decoder())), (Ok(None), Ok(None)));
    assert!(!inbox.is_empty());
}

/// Blocks of which every second one is larger than was asked for, as a pool's may be.
#[derive(Default)]
struct Larger(std::cell::Cell<usize>);

impl BufferSource for Larger {
    fn take(&self, capacity: usize) -> BytesMut {
        self.0.set(self.0.get() + 1);
        BytesMut::with_capacity(if self.0.get().is_multiple_of(2) { 4 * capacity } else { capacity })
    }

    fn recycle(&self, _rest: BytesMut, _size: usize) {}

    fn release_idle(&self) {}

    fn take_scratch(&self) -> BytesMut {
        BytesMut::new()
    }

    fn put_scratch(&self, _scratch: BytesMut) {}
}

proptest! {
    #[test]
    fn sizes_of_blocks_do_not_change_the_reads(
        bodies in proptest::collection::vec(
            prop_oneof![0_usize..200, 2_000_usize..40_000, 100_000_usize..300_000], 1..12,
        ),
        reads in proptest::collection::vec(1_usize..100_000, 1..20),
    ) {
        let stream = messages(&bodies);
        let mut stream = &stream[..];
        let mut exact = Inbox::new(BytesMut::new());
        let mut larger = Inbox::with_source(BytesMut::new(), Larger::default());
        let mut reads = reads.into_iter().cycle();
        while !stream.is_empty() {
            let most = reads.next().unwrap();
            let mut same = stream;
            prop_assert_eq!(read(&mut exact, &mut stream, most), read(&mut larger, &mut same, most));
            loop {
                let next = exact.next(&decoder()).unwrap();
                prop_assert_eq!(&next, &larger.next(&decoder()).unwrap());
                if next.is_none() {
                    break;
                }
            }
        }
    }

    #[test]
    fn sizes_of_reads_do_not_change_the_messages(
        bodies in proptest::collection::vec(
            prop_oneof![0_usize..200, 10_000_usize..40_000, 100_000_usize..300_000], 1..12,
        ),
        reads in proptest::collection::vec(1_usize..100_000, 1..20),
        hold in any::<bool>(),
    ) {
        let stream = messages(&bodies);
        let mut stream = &stream[..];
        let mut inbox = Inbox::new(BytesMut::new());
        let mut reads = reads.into_iter().cycle();
        let (mut held, mut taken) = (Vec::new(), 0);
        while taken < bodies.len() {
            prop_assert!(read(&mut inbox, &mut stream, reads.next().unwrap()) > 0, "all bytes have arrived");
            while let Some(message) = inbox.next(&decoder()).unwrap() {
                prop_assert_eq!(message.header.seq, Seq(taken as u64 + 1));
                prop_assert_eq!(message.body.len(), bodies[taken]);
                prop_assert!(message.body.iter().all(|byte| *byte == taken as u8));
                taken += 1;
                if hold {
                    held.push(message);
                }
            }
            prop_assert_eq!(inbox.missing == 0, inbox.is_empty());
        }
        prop_assert!(stream.is_empty() && inbox.is_empty());
        for (n, message) in held.iter().enumerate() {
            prop_assert!(message.body.iter().all(|byte| *byte == n as u8), "its memory was not reused");
        }
    }
}
