//! Streams of messages in reads of any size, with tokio-util's `LengthDelimitedCodec` as the reference for
//! frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use farcall_protocol::limits::{LENGTH_BYTES, MAX_HEADER_BYTES, MAX_OPTION_BYTES};
use farcall_protocol::{
    Code, Codec, Execution, Flags, FrameError, Header, Kind, MaxFrameBytes, Message, MessageDecoder,
    Metadata, Outbox, Part, Seq, Status, TooLarge, next_option,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

const KINDS: [Kind; 6] = [Kind::Request, Kind::Response, Kind::Cancel, Kind::Ping, Kind::Pong, Kind::Goaway];

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::built_in())
}

fn any_header() -> impl Strategy<Value = Header> {
    let executions = prop::sample::select(vec![Execution::Done, Execution::Refused, Execution::Maybe]);
    let status = (prop::sample::select(Code::ALL.to_vec()), executions, ".{0,40}")
        .prop_map(|(code, execution, message)| Box::new(Status::new(code, execution, message)));
    let metadata = btree_map("[a-z-]{1,20}", ".{0,200}", 0..6).prop_map(|pairs| {
        let mut metadata = Metadata::new();
        for (key, value) in pairs {
            metadata.insert(key, value).expect("such keys are legal");
        }
        (!metadata.is_empty()).then(|| Box::new(metadata))
    });
    let flags = vec(prop::sample::select(vec![Flags::COMPRESSED, Flags::ONE_WAY, Flags::IDEMPOTENT]), 0..3)
        .prop_map(|flags| flags.into_iter().fold(Flags::NONE, Flags::with));
    (
        prop::sample::select(KINDS.to_vec()),
        0..Seq::JSON_END,
        prop_oneof![Just(String::new()), ".{0,60}"],
        prop_oneof![Just(0), 1..Seq::JSON_END],
        prop::option::of(status),
        metadata,
        flags,
    )
        .prop_map(|(kind, seq, name, timeout_ms, error, metadata, flags)| Header {
            kind,
            seq: Seq(seq),
            service_method: name.into(),
            timeout_ms,
            error,
            metadata,
            flags,
        })
}

fn any_message() -> impl Strategy<Value = Message> {
    // The outbox does not copy bodies of 8 KiB and above.
    let len = prop_oneof![
        2 => Just(0),
        4 => 1_usize..64,
        2 => 8 * 1024 - 2..8 * 1024 + 3_usize,
        1 => 0..=100 * 1024_usize,
    ];
    // The bodies look like lengths, so that a decoder that starts at the wrong position does not fail by luck.
    (any_header(), len, any::<u8>()).prop_map(|(header, len, seed)| {
        let body: Vec<u8> = [0, 0, 0, seed].into_iter().cycle().take(len).collect();
        Message::new(header, body.into())
    })
}

/// The sizes of reads, repeated cyclically.
fn any_reads() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1_usize..16, 1_usize..3000, 1_usize..200_000], 1..12)
}

fn outbox(codec: &Codec, messages: &[Message]) -> Outbox {
    let mut outbox = Outbox::new();
    for Message { header, body, .. } in messages {
        outbox
            .push(codec, &header.as_ref(), &body.clone().into(), MaxFrameBytes::DEFAULT)
            .expect("it is within the limits");
    }
    outbox
}

fn wire(codec: &Codec, messages: &[Message]) -> Bytes {
    let mut outbox = outbox(codec, messages);
    outbox.copy_to_bytes(outbox.remaining())
}

/// Returns the expected result of `missing` for the received part of a stream.
fn expected_missing(there: &[u8]) -> usize {
    let length =
        |at: usize| there.get(at..)?.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
    let end = match length(0) {
        _ if there.is_empty() => 0,
        None => 2 * LENGTH_BYTES,
        Some(header) => 2 * LENGTH_BYTES + header + length(LENGTH_BYTES + header).unwrap_or(0),
    };
    end - there.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn reads_of_any_size_give_the_messages_that_tokio_util_gives(
        codec in any_codec(),
        messages in vec(any_message(), 0..10),
        reads in any_reads(),
    ) {
        let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT);
        let mut outbox = outbox(&codec, &messages);
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        let (mut oracle, mut frames) = (LengthDelimitedCodec::new(), Vec::new());
        let mut received = Vec::new();
        for read in reads.iter().cycle() {
            if !outbox.has_remaining() {
                break;
            }
            let read = outbox.copy_to_bytes(outbox.remaining().min(*read));
            ours.put_slice(&read);
            theirs.put_slice(&read);
            received.extend(std::iter::from_fn(|| decoder.next(&mut ours).unwrap()));
            frames.extend(std::iter::from_fn(|| oracle.decode(&mut theirs).unwrap()));
            prop_assert_eq!(received.len(), frames.len() / 2);
            prop_assert_eq!(decoder.missing(&ours).unwrap(), expected_missing(&ours));
        }
        prop_assert!(ours.is_empty() && theirs.is_empty());
        let bodies = frames.chunks(2).map(|message| &message[1]);
        for (message, body) in received.iter().zip(bodies) {
            prop_assert_eq!(&message.body, body);
        }
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn encoded_frames_equal_those_of_tokio_util(
        codec in any_codec(),
        messages in vec(any_message(), 0..10),
    ) {
        let wire = wire(&codec, &messages);
        let (mut oracle, mut rest, mut written) =
            (LengthDelimitedCodec::new(), BytesMut::from(&wire[..]), BytesMut::new());
        while let Some(frame) = oracle.decode(&mut rest).unwrap() {
            oracle.encode(frame.freeze(), &mut written).unwrap();
        }
        prop_assert_eq!(written, wire);
    }

    #[test]
    fn reading_only_the_missing_bytes_completes_each_message(
        codec in any_codec(),
        messages in vec(any_message(), 1..6),
    ) {
        let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT);
        let mut stream = wire(&codec, &messages);
        for expected in messages {
            let mut buffer = BytesMut::from(&stream.split_to(1)[..]);
            let mut reads = 0;
            let message = loop {
                let missing = decoder.missing(&buffer).unwrap();
                if missing == 0 {
                    break decoder.next(&mut buffer).unwrap().expect("nothing was missing");
                }
                prop_assert_eq!(decoder.next(&mut buffer), Ok(None));
                // One byte fewer is not enough.
                let mut fewer = buffer.clone();
                fewer.put_slice(&stream[..missing - 1]);
                prop_assert_eq!(decoder.next(&mut fewer), Ok(None));
                buffer.put(stream.split_to(missing));
                reads += 1;
                prop_assert!(reads <= 3, "one read each for the lengths, the header and the body");
            };
            prop_assert_eq!(message, expected);
            prop_assert!(buffer.is_empty());
        }
        prop_assert!(stream.is_empty());
    }

    #[test]
    fn header_over_its_limit_is_refused_by_its_length(
        codec in any_codec(),
        limit in prop_oneof![1_usize..200_000, Just(MAX_HEADER_BYTES), Just(usize::MAX)],
        over in 1_u32..,
    ) {
        let limit = MaxFrameBytes::new(limit);
        let most = limit.get().min(MAX_HEADER_BYTES);
        let size = (most as u32).saturating_add(over);
        let refused = TooLarge::new(Part::Header, size as usize, most);
        assert_refused_by_length(&MessageDecoder::new(codec, limit), &[], size, most, refused)?;
    }

    #[test]
    fn body_over_its_limit_is_refused_by_its_length(
        codec in any_codec(),
        limit in 1_usize..u32::MAX as usize,
        over in 1_u32..,
        header in 0_usize..50,
    ) {
        let limit = MaxFrameBytes::new(limit);
        let size = (limit.get() as u32).saturating_add(over);
        // The header does not need to decode for this.
        let header = header.min(limit.get());
        let mut before = (header as u32).to_be_bytes().to_vec();
        before.resize(LENGTH_BYTES + header, 0xc1);
        let refused = TooLarge::new(Part::Body, size as usize, limit.get());
        assert_refused_by_length(&MessageDecoder::new(codec, limit), &before, size, limit.get(), refused)?;
    }

    #[test]
    fn option_over_its_limit_is_refused_by_its_length(size in MAX_OPTION_BYTES as u32 + 1..) {
        let mut buffer = BytesMut::from(&size.to_be_bytes()[..]);
        let refused = TooLarge::new(Part::Option, size as usize, MAX_OPTION_BYTES);
        prop_assert_eq!(next_option(&mut buffer), Err(FrameError::TooLarge(refused)));
    }

    #[test]
    fn option_is_taken_and_the_bytes_after_it_are_kept(
        len in 0..=MAX_OPTION_BYTES,
        behind in vec(any::<u8>(), 0..20),
    ) {
        let mut outbox = Outbox::new();
        outbox.push_frame(&vec![b' '; len]);
        let frame = outbox.copy_to_bytes(outbox.remaining());
        for there in [0, 3, 4, 4 + len / 2, 3 + len] {
            if there < frame.len() {
                let mut buffer = BytesMut::from(&frame[..there]);
                prop_assert_eq!(next_option(&mut buffer), Ok(None));
                prop_assert_eq!(buffer.len(), there);
            }
        }
        let mut buffer = BytesMut::from(&[&frame[..], &behind].concat()[..]);
        prop_assert_eq!(next_option(&mut buffer).unwrap().map(|option| option.len()), Some(len));
        prop_assert_eq!(&buffer[..], &behind[..]);
    }

    #[test]
    fn decoding_any_bytes_never_panics(
        codec in any_codec(),
        bytes in vec(prop_oneof![3 => Just(0), 2 => 1_u8..16, 1 => any::<u8>()], 0..200),
        limit in 1_usize..300,
    ) {
        let decoder = MessageDecoder::new(codec, MaxFrameBytes::new(limit));
        let mut buffer = BytesMut::from(&bytes[..]);
        loop {
            let missing = decoder.missing(&buffer);
            let whole = missing == Ok(0) && !buffer.is_empty();
            match decoder.next(&mut buffer) {
                Ok(Some(_)) => prop_assert!(whole),
                Ok(None) => {
                    prop_assert!(!whole && missing.is_ok());
                    break;
                }
                Err(error @ FrameError::TooLarge(_)) => {
                    prop_assert_eq!(missing, Err(error));
                    break;
                }
                Err(_) => {
                    prop_assert!(whole);
                    break;
                }
            }
        }
    }
}

/// Asserts that a length of `size` after `before` is refused as soon as its last byte has arrived, that no
/// memory is reserved for it, and that `most` is accepted.
fn assert_refused_by_length(
    decoder: &MessageDecoder,
    before: &[u8],
    size: u32,
    most: usize,
    refused: TooLarge,
) -> Result<(), TestCaseError> {
    let refused = FrameError::TooLarge(refused);
    let mut buffer = BytesMut::from(before);
    buffer.put_slice(&size.to_be_bytes()[..LENGTH_BYTES - 1]);
    prop_assert_eq!(decoder.next(&mut buffer), Ok(None));
    buffer.put_u8(size as u8);
    let capacity = buffer.capacity();
    prop_assert_eq!(decoder.missing(&buffer), Err(refused.clone()));
    prop_assert_eq!(decoder.next(&mut buffer), Err(refused));
    prop_assert_eq!(buffer.capacity(), capacity);

    let mut buffer = BytesMut::from(before);
    buffer.put_u32(most as u32);
    prop_assert_eq!(decoder.next(&mut buffer), Ok(None));
    prop_assert!(decoder.missing(&buffer).is_ok_and(|missing| missing >= most));
    Ok(())
}
