//! Frames and headers.

use std::time::Instant;

use bytes::{Buf, BufMut, BytesMut};
use farcall_protocol::{
    ClientSession, Codec, FrameError, Header, Inbox, MaxFrameBytes, Message, MessageDecoder, ServerSession,
};
use farcall_test_support::frames::{encode, frame};

use crate::input::Input;
use crate::seeds;

/// The largest frame, in bytes.
const MAX_FRAME: usize = 4096;

/// Messages as they come over a connection: read at once, and in pieces, they are the same. Sessions take or refuse them.
pub(crate) fn message(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = codec(&mut input);
    let piece = 1 + usize::from(input.byte());
    let bytes = input.rest();
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::new(MAX_FRAME));
    let (whole, error) = decode_at_once(&decoder, bytes);
    let (pieces, piecewise_error) = decode_pieces(&decoder, bytes, piece);
    assert_eq!(
        error.as_ref().map(FrameError::to_string),
        piecewise_error.as_ref().map(FrameError::to_string)
    );
    assert_eq!(whole.len(), pieces.len(), "{whole:?} {pieces:?}");
    let (mut server, mut client) =
        (ServerSession::new().with_streams(true), ClientSession::new().with_streams(true));
    let now = Instant::now();
    for (message, same) in whole.iter().zip(&pieces) {
        assert_eq!((&message.header, &message.body), (&same.header, &same.body));
        assert_round_trip(&codec, message);
        let _ = server.receive(&message.header, now);
        let _ = client.receive(&message.header, now);
    }
}

/// A header and a body, without a frame around them.
pub(crate) fn header(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = codec(&mut input);
    let header = input.rest();
    let bytes = [frame(header), frame(b"body")].concat();
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::new(1 << 20));
    let (messages, error) = decode_at_once(&decoder, &bytes);
    assert_eq!(messages.len() + usize::from(error.is_some()), 1, "a message or an error");
    messages.iter().for_each(|message| assert_round_trip(&codec, message));
    let _ = error.map(|error| error.to_string());
}

fn codec(input: &mut Input<'_>) -> Codec {
    if input.byte().is_multiple_of(2) { Codec::MessagePack } else { Codec::Json }
}

fn decode_at_once(decoder: &MessageDecoder, bytes: &[u8]) -> (Vec<Message>, Option<FrameError>) {
    let mut buffer = BytesMut::from(bytes);
    let mut messages = Vec::new();
    loop {
        match decoder.next(&mut buffer) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

/// As the connection's task reads: as much as the inbox has room for.
fn decode_pieces(
    decoder: &MessageDecoder,
    mut bytes: &[u8],
    piece: usize,
) -> (Vec<Message>, Option<FrameError>) {
    let mut inbox = Inbox::new(BytesMut::new());
    let mut messages = Vec::new();
    loop {
        match inbox.next(decoder) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) if bytes.is_empty() => return (messages, None),
            Ok(None) => {
                let mut room = inbox.room();
                assert!(room.remaining_mut() > 0, "there is always room for the next read");
                let count = piece.min(room.remaining_mut()).min(bytes.len());
                room.put_slice(&bytes[..count]);
                inbox.advance(count);
                bytes.advance(count);
            }
            Err(error) => return (messages, Some(error)),
        }
    }
}

/// Checks that a header that was read is written so that it is read as the same.
fn assert_round_trip(codec: &Codec, message: &Message) {
    let bytes = encode(codec, &message.header.as_ref(), message.body.clone());
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::new(1 << 24));
    let again: Header = decoder.next(&mut BytesMut::from(&bytes[..])).unwrap().unwrap().header;
    assert_eq!(again, message.header);
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (first, codec) in Codec::built_in().into_iter().enumerate() {
        let messages = seeds::messages(&codec);
        let first = if codec == Codec::MessagePack { 0 } else { first as u8 | 1 };
        seeds.push([&[first, 7][..], &messages.concat()].concat());
        seeds.extend(messages.iter().map(|message| [&[first, 0][..], message].concat()));
    }
    seeds
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for codec in Codec::built_in() {
        for message in seeds::messages(&codec) {
            let (length, rest) = message.split_first_chunk::<4>().unwrap();
            let header = &rest[..u32::from_be_bytes(*length) as usize];
            seeds.push([&[u8::from(codec == Codec::Json)][..], header].concat());
        }
    }
    seeds
}
