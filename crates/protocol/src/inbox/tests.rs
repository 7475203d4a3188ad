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
                &Bytes::from(vec![n as u8; *body]).into(),
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

    fn with_scratch<T>(&self, encode: impl FnOnce(&mut BytesMut) -> T) -> T {
        encode(&mut BytesMut::new())
    }
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

/// Returns the message with this header and body, as it is sent.
#[cfg(all(feature = "msgpack", feature = "json"))]
fn sent(codec: &Codec, header: &Header, body: &'static [u8]) -> Vec<u8> {
    let mut outbox = Outbox::new();
    let body = Bytes::from_static(body).into();
    outbox.push(codec, &header.as_ref(), &body, MaxFrameBytes::DEFAULT).unwrap();
    outbox.copy_to_bytes(outbox.remaining()).to_vec()
}

#[cfg(all(feature = "msgpack", feature = "json"))]
proptest! {
    #[test]
    fn message_at_the_front_is_the_one_that_is_read(
        header in crate::header::tests::any_header(),
        is_short: bool,
        is_taken: bool,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut header = header;
        if is_short {
            (header.error, header.metadata) = (None, None);
            header.service_method = "Arith.multiply".into();
            (header.seq, header.timeout_ms) = (Seq(header.seq.0 >> 32), header.timeout_ms >> 32);
        }
        let next = messages(&[5]);
        let bytes = [&sent(&Codec::MessagePack, &header, b"body")[..], &next].concat();
        let mut inbox = Inbox::new(BytesMut::from(&bytes[..]));
        let read = inbox.next(&decoder()).unwrap().unwrap();
        let mut inbox = Inbox::new(BytesMut::from(&bytes[..]));
        let found = inbox.front(&decoder()).map(|(front, name)| (front, name.to_vec()));
        prop_assert!(found.is_some() || !is_short);
        if let Some((mut front, name)) = found {
            prop_assert_eq!((front.kind, front.seq, front.flags), (read.header.kind, read.header.seq, read.header.flags));
            prop_assert_eq!((front.timeout_ms, &name[..]), (read.header.timeout_ms, read.header.service_method.as_bytes()));
            prop_assert_eq!((inbox.front_body(&front), front.body_len()), (&read.body[..], read.body.len()));
            if is_taken {
                prop_assert_eq!(inbox.take_front(&mut front), read.body);
                prop_assert!(inbox.front_body(&front).is_empty());
            }
            // Of a message that was taken, nothing is left to be skipped.
            inbox.skip_front(&mut front);
            prop_assert_eq!(&inbox.bytes[..], &next[..]);
        }
        // One that is not complete is not there.
        let part = BytesMut::from(&bytes[..cut.index(bytes.len() - next.len())]);
        prop_assert!(Inbox::new(part).front(&decoder()).is_none());
    }
}

#[test]
#[cfg(all(feature = "msgpack", feature = "json"))]
fn message_that_is_large_or_not_allowed_or_json_is_not_looked_at() {
    let header = Header::new(Kind::Response, Seq(1));
    let front =
        |decoder: &MessageDecoder, bytes: &[u8]| Inbox::new(BytesMut::from(bytes)).front(decoder).is_some();
    let small = sent(&Codec::MessagePack, &header, b"body");
    assert!(front(&decoder(), &small));
    assert!(!front(&MessageDecoder::new(Codec::MessagePack, MaxFrameBytes::new(3)), &small));
    let json = MessageDecoder::new(Codec::Json, MaxFrameBytes::DEFAULT);
    assert!(!front(&json, &sent(&Codec::Json, &header, b"1")));
    let overhead = small.len() - 4;
    assert!(front(&decoder(), &messages(&[LARGE - overhead - 1])));
    assert!(!front(&decoder(), &messages(&[LARGE - overhead])));
}
