//! The test vectors of the specification: those for MessagePack from its section 8, repeated here, and those
//! for JSON, compressed bodies and the examples as printed in docs/PROTOCOL.md.
#![cfg(all(feature = "msgpack", feature = "json"))]

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use farcall_protocol::stream::{decode_credit, encode_credit};
use farcall_protocol::{
    ClientOffer, Code, Codec, Flags, HandshakeError, Header, HeaderRef, Kind, MaxFrameBytes, MessageDecoder,
    Metadata, Outbox, Seq, ServerPolicy, Status, next_option,
};

const OPTION: &str = "0000004a 7b226d616769635f6e756d626572223a333430353639313538322c2276657273696f6e223a312c22\
                      636f6465635f74797065223a226170706c69636174696f6e2f6d73677061636b227d";
const REQUEST: &str = "00000015 940101ae41726974682e6d756c7469706c79cd01f4 00000007 82a16106a16207";
const RESPONSE: &str = "00000003 920201 00000001 2a";
const UNIMPLEMENTED: &str = "0000002f 950202a0009305d9256e6f206d6574686f6420606469766964656020696e2073657276696365\
                             206041726974686001 00000000";
const CANCEL: &str = "00000003 920303 00000000";
const PING: &str = "00000003 920409 00000000";

const STREAMING_REQUEST: &str =
    "00000012 970101aa466565642e636f756e7400c0c008 0000000b 82a466726f6d03a2746f05";
const ITEM: &str = "00000003 920801 00000001 03";
const STARVED_ITEM: &str = "00000008 970801a000c0c010 00000001 04";
const CREDIT: &str = "00000003 920a01 00000005 ce00050000";
const END: &str = "00000003 920901 00000000";
const STOP: &str = "00000003 920b01 00000000";

/// Returns the text of docs/PROTOCOL.md, the reference for other implementations.
fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PROTOCOL.md");
    std::fs::read_to_string(path).expect("the document is in the repository")
}

/// Returns the text between the heading `title` and the next heading of any level.
fn section<'a>(document: &'a str, title: &str) -> &'a str {
    let (_, section) = document.split_once(&format!("\n{title}")).expect(title);
    section.split_once("\n#").map_or(section, |(section, _)| section)
}

/// Returns the bytes of each block of lines with hexadecimal digits only: `indented` lines, or those of a
/// fenced block.
fn hex_blocks(section: &str, indented: bool) -> Vec<Vec<u8>> {
    let is_hex = |line: &str| {
        line.starts_with("    ") == indented
            && line.trim().len() >= 8
            && line.trim().bytes().all(|byte| byte == b' ' || byte.is_ascii_hexdigit())
    };
    let lines: Vec<_> = section.lines().collect();
    lines
        .chunk_by(|one, other| is_hex(one) == is_hex(other))
        .filter(|block| is_hex(block[0]))
        .map(|block| bytes(&block.concat()))
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message of the vectors: its header, and its body in `codec`.
type Vector = (Header, fn(&Codec) -> Bytes);

fn header(kind: Kind, seq: u64) -> Header {
    let (service_method, flags) = (String::new().into(), Flags::NONE);
    Header { kind, seq: Seq(seq), service_method, timeout_ms: 0, error: None, metadata: None, flags }
}

fn request() -> Vector {
    let header =
        Header { service_method: "Arith.multiply".into(), timeout_ms: 500, ..header(Kind::Request, 1) };
    (header, |codec| codec.encode(&BTreeMap::from([("a", 6), ("b", 7)])).expect("numbers encode"))
}

fn response() -> Vector {
    (header(Kind::Response, 1), |codec| codec.encode(&42).expect("a number encodes"))
}

fn unimplemented() -> Vector {
    let status = Status::refused(Code::Unimplemented, "no method `divide` in service `Arith`");
    empty(Header { error: Some(Box::new(status)), ..header(Kind::Response, 2) })
}

fn second_try() -> Vector {
    let mut metadata = Metadata::new();
    metadata.insert("farcall-attempt", "2").expect("the key is legal");
    let header = Header {
        service_method: "Arith.multiply".into(),
        metadata: Some(Box::new(metadata)),
        flags: Flags::IDEMPOTENT,
        ..header(Kind::Request, 4)
    };
    (header, |codec| codec.encode(&[6, 7]).expect("numbers encode"))
}

fn empty(header: Header) -> Vector {
    (header, |_| Bytes::new())
}

fn encoded(codec: &Codec, messages: &[Vector]) -> Bytes {
    let mut outbox = Outbox::new();
    for (header, body) in messages {
        outbox
            .push(codec, &header.as_ref(), &body(codec).into(), MaxFrameBytes::DEFAULT)
            .expect("it is small");
    }
    assert_eq!(outbox.appended(), outbox.remaining() as u64);
    outbox.copy_to_bytes(outbox.remaining())
}

/// Asserts that the messages encode to `wire`, and that `wire` decodes to the messages.
#[track_caller]
fn assert_vectors(codec: &Codec, wire: &[u8], messages: &[Vector]) {
    assert_eq!(hex(&encoded(codec, messages)), hex(wire));
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT);
    let mut received = BytesMut::from(wire);
    for (header, body) in messages {
        let message =
            decoder.next(&mut received).expect("the frames are legal").expect("the message is whole");
        assert_eq!(message.header, *header);
        assert_eq!(message.body, body(codec));
    }
    assert_eq!(received, b""[..]);
    assert_eq!(decoder.next(&mut received), Ok(None));
}

#[track_caller]
fn assert_option(codec: &Codec, wire: &[u8]) {
    let mut outbox = Outbox::new();
    let terms = ClientOffer::default().codec(codec.clone());
    outbox.push_frame(&terms.encode().expect("it is small"));
    assert_eq!(hex(outbox.chunk()), hex(wire));
    let mut received = BytesMut::from(wire);
    let option = next_option(&mut received).expect("it is small").expect("the frame is whole");
    assert_eq!(received, b""[..]);
    let asked = ServerPolicy::default().negotiate(&option).expect("it asks for nothing special");
    assert_eq!(asked.negotiated.codec, *codec);
}

#[test]
fn the_option_of_section_8() {
    assert_option(&Codec::MessagePack, &bytes(OPTION));
}

#[test]
fn the_messages_of_section_8() {
    let codec = Codec::MessagePack;
    assert_vectors(&codec, &bytes(REQUEST), &[request()]);
    assert_vectors(&codec, &bytes(RESPONSE), &[response()]);
    assert_vectors(&codec, &bytes(UNIMPLEMENTED), &[unimplemented()]);
    assert_vectors(&codec, &bytes(CANCEL), &[empty(header(Kind::Cancel, 3))]);
    assert_vectors(&codec, &bytes(PING), &[empty(header(Kind::Ping, 9))]);
}

#[test]
fn the_messages_of_streams() {
    let codec = Codec::MessagePack;
    let request =
        Header { service_method: "Feed.count".into(), flags: Flags::STREAMING, ..header(Kind::Request, 1) };
    let arguments =
        |codec: &Codec| codec.encode(&BTreeMap::from([("from", 3), ("to", 5)])).expect("it encodes");
    assert_vectors(&codec, &bytes(STREAMING_REQUEST), &[(request, arguments)]);
    let item = |codec: &Codec| codec.encode(&3).expect("a number encodes");
    assert_vectors(&codec, &bytes(ITEM), &[(header(Kind::Item, 1), item)]);
    let starved = Header { flags: Flags::STARVED, ..header(Kind::Item, 1) };
    let item = |codec: &Codec| codec.encode(&4).expect("a number encodes");
    assert_vectors(&codec, &bytes(STARVED_ITEM), &[(starved, item)]);
    let credit = |codec: &Codec| encode_credit(codec, 327_680).expect("a number encodes").into_bytes();
    assert_vectors(&codec, &bytes(CREDIT), &[(header(Kind::Credit, 1), credit)]);
    assert_eq!(decode_credit(&codec, &bytes("ce00050000").into()).expect("it is a number"), 327_680);
    assert!(decode_credit(&codec, &bytes("ff").into()).is_err(), "a credit below zero");
    assert_vectors(&codec, &bytes(END), &[empty(header(Kind::End, 1))]);
    assert_vectors(&codec, &bytes(STOP), &[empty(header(Kind::Stop, 1))]);
}

#[test]
fn messagepack_vectors_of_the_document_are_those_of_section_8() {
    let document = document();
    let printed = hex_blocks(section(&document, "### 16.1 MessagePack"), true);
    let specified = [OPTION, REQUEST, RESPONSE, UNIMPLEMENTED, &[CANCEL, PING].concat()].map(bytes);
    assert_eq!(printed, specified);
}

#[test]
fn vectors_of_streams_in_the_document() {
    let document = document();
    let printed = hex_blocks(section(&document, "### 18.8 Vectors"), true);
    let (items, ends) = ([ITEM, STARVED_ITEM].concat(), [CREDIT, END, STOP].concat());
    let specified = [STREAMING_REQUEST, &items, &(ends + "00000003 920201 00000001 02")].map(bytes);
    assert_eq!(printed, specified);
}

#[test]
fn json_vectors_of_the_document() {
    let document = document();
    let printed = hex_blocks(section(&document, "### 16.2 JSON"), true);
    let (option, messages) = printed.split_first().expect("there are some");
    assert_option(&Codec::Json, option);
    let expected = [
        request(),
        response(),
        unimplemented(),
        empty(header(Kind::Cancel, 3)),
        empty(header(Kind::Ping, 9)),
        empty(header(Kind::Pong, 9)),
        second_try(),
        empty(header(Kind::Goaway, 4)),
    ];
    assert_eq!(messages.len(), expected.len());
    for (wire, message) in messages.iter().zip(expected) {
        assert_vectors(&Codec::Json, wire, &[message]);
    }
}

#[test]
#[cfg(feature = "lz4")]
fn compressed_body_of_the_document() {
    use farcall_protocol::Compression;

    let document = document();
    let printed = hex_blocks(section(&document, "## 7. Flags"), false);
    let [wire] = &printed[..] else { panic!("one example, not {}", printed.len()) };
    let codec = Codec::MessagePack;
    let mut received = BytesMut::from(&wire[..]);
    let message =
        MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT).next(&mut received).unwrap().unwrap();
    assert_eq!(received, b""[..]);
    let (plain, arguments) = request();
    assert_eq!(message.header, Header { flags: Flags::COMPRESSED, ..plain });
    let body = Compression::Lz4.decompress(&message.body, MaxFrameBytes::new(7)).unwrap();
    assert_eq!(body, arguments(&codec));
    assert!(Compression::Lz4.decompress(&message.body, MaxFrameBytes::new(6)).is_err());

    let mut outbox = Outbox::new();
    outbox.push(&codec, &message.header.as_ref(), &message.body.into(), MaxFrameBytes::DEFAULT).unwrap();
    assert_eq!(hex(outbox.chunk()), hex(wire));
}

#[test]
fn examples_of_headers_in_the_document() {
    let document = document();
    let examples = section(&document, "### 4.3 Examples");
    for (header, _) in [request(), second_try(), unimplemented()] {
        let frame = |codec| {
            let wire = encoded(&codec, &[empty(header.clone())]);
            wire[4..wire.len() - 4].to_vec()
        };
        let lines: Vec<_> = examples.lines().collect();
        let msgpack = hex(&frame(Codec::MessagePack));
        assert!(lines.contains(&&msgpack[..]), "{msgpack}");
        let json = String::from_utf8(frame(Codec::Json)).unwrap();
        assert!(lines.contains(&&json[..]), "{json}");
    }
}

#[test]
fn examples_of_options_in_the_document() {
    fn json_blocks(section: &str) -> Vec<&[u8]> {
        let blocks = section.split("```json\n").skip(1);
        blocks.map(|block| block.split_once("```").expect("the fence is closed").0.as_bytes()).collect()
    }

    let document = document();
    let accepted = json_blocks(section(&document, "### 3.3 Example: accepted"));
    let [asked, answered, smallest] = accepted[..] else { panic!("three Options, not {}", accepted.len()) };
    let server = ServerPolicy::default().handle_timeout(Some(std::time::Duration::from_secs(20)));
    let asked = server.negotiate(asked).unwrap();
    assert_eq!(asked.token.as_deref(), Some("a-bearer-credential"));
    assert_eq!(asked.negotiated.send_limit, MaxFrameBytes::new(1_048_576));

    let client = ClientOffer::default()
        .codec(Codec::Json)
        .max_frame_bytes(MaxFrameBytes::new(1_048_576))
        .compression(farcall_protocol::Compression::built_in());
    #[cfg(feature = "lz4")]
    {
        let ours = client.accept_answer(&ServerPolicy::encode_accept(&asked.negotiated)).unwrap();
        assert_eq!(client.accept_answer(answered).unwrap(), ours);
    }
    #[cfg(not(feature = "lz4"))]
    assert!(matches!(
        client.accept_answer(answered),
        Err(HandshakeError::Unasked { field: "compression", .. })
    ));

    let negotiated = server.negotiate(smallest).unwrap().negotiated;
    assert_eq!((negotiated.codec, negotiated.send_limit), (Codec::MessagePack, MaxFrameBytes::DEFAULT));

    let refused = json_blocks(section(&document, "### 3.4 Example: refused"));
    let Err(HandshakeError::Refused { status, codecs }) = client.accept_answer(refused[0]) else {
        panic!("it is a refusal")
    };
    assert_eq!(status.code, Code::InvalidArgument);
    assert_eq!(codecs, ["application/msgpack", "application/json"]);
}

#[test]
fn stream_of_all_vectors_decodes_to_its_messages() {
    let wire = bytes(&[REQUEST, RESPONSE, UNIMPLEMENTED, CANCEL, PING].concat());
    let bare = |kind, seq| empty(header(kind, seq));
    let messages = [request(), response(), unimplemented(), bare(Kind::Cancel, 3), bare(Kind::Ping, 9)];
    assert_vectors(&Codec::MessagePack, &wire, &messages);
    // Senders use the borrowed form.
    let ping = HeaderRef::new(Kind::Ping, Seq(9));
    let mut outbox = Outbox::new();
    outbox.push(&Codec::MessagePack, &ping, &Bytes::new().into(), MaxFrameBytes::DEFAULT).unwrap();
    assert_eq!(hex(outbox.chunk()), hex(&bytes(PING)));
}
