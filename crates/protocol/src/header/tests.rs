use proptest::prelude::*;

use super::*;
use crate::code::{Code, Execution};
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::status::Status;

fn encoded(codec: &Codec, header: &HeaderRef<'_>) -> Bytes {
    let mut out = BytesMut::new();
    encode(header, codec, &mut out);
    out.freeze()
}

fn decode(codec: &Codec, frame: &Bytes) -> Result<Header, HeaderError> {
    super::decode(codec, frame, 0..frame.len())
}

fn msgpack(bytes: &'static [u8]) -> Result<Header, HeaderError> {
    decode(&Codec::MessagePack, &Bytes::from_static(bytes))
}

fn json(text: &'static str) -> Result<Header, HeaderError> {
    decode(&Codec::Json, &Bytes::from_static(text.as_bytes()))
}

#[test]
fn encoded_headers_are_the_vectors_of_the_specification() {
    let codec = Codec::MessagePack;
    let request = HeaderRef {
        service_method: "Arith.multiply",
        timeout_ms: 500,
        ..HeaderRef::new(Kind::Request, Seq(1))
    };
    assert_eq!(encoded(&codec, &request)[..], *b"\x94\x01\x01\xaeArith.multiply\xcd\x01\xf4");
    assert_eq!(encoded(&codec, &HeaderRef::new(Kind::Response, Seq(1)))[..], [0x92, 2, 1]);
    let status = Status::refused(Code::Unimplemented, "no method `divide` in service `Arith`");
    let response = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, Seq(2)) };
    assert_eq!(
        encoded(&codec, &response)[..],
        *b"\x95\x02\x02\xa0\x00\x93\x05\xd9\x25no method `divide` in service `Arith`\x01"
    );
    assert_eq!(encoded(&codec, &HeaderRef::new(Kind::Cancel, Seq(3)))[..], [0x92, 3, 3]);
    assert_eq!(encoded(&codec, &HeaderRef::new(Kind::Ping, Seq(9)))[..], [0x92, 4, 9]);
}

#[test]
fn json_omits_fields_with_default_values() {
    let ping = HeaderRef::new(Kind::Ping, Seq(9));
    assert_eq!(encoded(&Codec::Json, &ping)[..], *br#"{"kind":"ping","seq":9}"#);
}

#[test]
fn any_legal_encoding_of_an_integer_is_accepted() {
    let expected = msgpack(b"\x92\x01\x05").unwrap();
    for bytes in [
        &b"\x92\xcc\x01\xcd\x00\x05"[..],
        b"\x92\xd0\x01\xce\x00\x00\x00\x05",
        b"\x92\xd1\x00\x01\xd3\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\xdc\x00\x02\xd2\x00\x00\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\xdd\x00\x00\x00\x02\x01\x05",
    ] {
        assert_eq!(msgpack(bytes).unwrap(), expected);
    }
    assert_eq!(json(r#"{"kind":"request","seq":5.0}"#).unwrap(), expected);
    assert_eq!(json(r#"{"kind":"request","seq":5e0}"#).unwrap(), expected);
}

#[test]
fn nil_stands_for_the_default() {
    let expected = msgpack(b"\x92\x02\x07").unwrap();
    assert_eq!(msgpack(b"\x97\x02\x07\xc0\xc0\xc0\xc0\xc0").unwrap(), expected);
    let text = r#"{"seq":7,"kind":"response","error":null,"metadata":null,"flags":null,"timeout_ms":null,"service_method":null}"#;
    assert_eq!(json(text).unwrap(), expected);
}

#[test]
fn nil_is_no_key_and_no_value_of_metadata() {
    let pairs = |pair: &[u8]| {
        let frame = Bytes::from([&b"\x96\x01\x07\xa1a\0\xc0\x81"[..], pair].concat());
        decode(&Codec::MessagePack, &frame).map(|header| header.metadata.map_or(0, |metadata| metadata.len()))
    };
    assert_eq!(pairs(b"\xa1k\xa0").unwrap(), 1);
    assert_eq!(pairs(b"\xa1k\xc0").unwrap_err().to_string(), "header: metadata value is Null, not a string");
    assert_eq!(pairs(b"\xc0\xa1v").unwrap_err().to_string(), "header: metadata key is Null, not a string");
    json(r#"{"kind":"request","seq":7,"metadata":{"k":""}}"#).unwrap();
    json(r#"{"kind":"request","seq":7,"metadata":{"k":null}}"#).unwrap_err();
}

#[test]
fn unknown_fields_and_flags_are_ignored() {
    let expected = msgpack(b"\x92\x02\x07").unwrap();
    assert_eq!(
        msgpack(b"\x99\x02\x07\xa0\x00\xc0\xc0\x00\x82\xa1a\x93\x01\x02\x03\xc0\xc0\xcb\0\0\0\0\0\0\0\0")
            .unwrap(),
        expected
    );
    assert_eq!(json(r#"{"kind":"response","seq":7,"colour":{"deep":[1]}}"#).unwrap(), expected);
    assert_eq!(msgpack(b"\x97\x02\x07\xa0\x00\xc0\xc0\xcc\xe0").unwrap(), expected);
}

#[test]
fn decode_error_names_the_field() {
    let message = |bytes| msgpack(bytes).unwrap_err().to_string();
    assert_eq!(message(b""), "header: header is cut short");
    assert_eq!(message(b"\x91\x01"), "header: 1 fields, at least kind and seq are required");
    assert_eq!(message(b"\x92\x01\xff"), "header: seq is -1, below zero");
    assert_eq!(message(b"\x92\x01\xc0"), "header: seq is nil");
    assert_eq!(message(b"\x92\x07\x01"), "header: kind 7 is unknown");
    assert_eq!(message(b"\x92\x0c\x01"), "header: kind 12 is unknown");
    assert_eq!(message(b"\x92\x01\x01\x00"), "header: 1 bytes follow it");
    assert_eq!(
        message(b"\x93\x01\x01\xa2\xff\xff"),
        "header: service_method: invalid utf-8 sequence of 1 bytes from index 0"
    );
    assert_eq!(message(b"\x93\x01\x01\x05"), "header: service_method is FixPos(5), not a string");
    assert_eq!(
        json(r#"{"kind":"teapot","seq":1}"#).unwrap_err().to_string(),
        "header: kind teapot is unknown"
    );
    assert!(json(r#"{"kind":"ping"}"#).unwrap_err().to_string().contains("missing field `seq`"));
    assert!(json(r#"{"kind":"ping","seq":9007199254740992}"#).is_err());
    assert!(json(r#"{"kind":"ping","seq":1.5}"#).is_err());
}

#[test]
fn json_header_as_an_array_of_fields_is_refused() {
    let fields = r#"["ping",1,null,null,null,null,null]"#;
    let error = json(fields).unwrap_err().to_string();
    assert_eq!(error, "header: invalid type: sequence, expected an object at line 1 column 0");
    assert!(json(r#"{"kind":"response","seq":1,"error":["internal","",null]}"#).is_err());
}

#[test]
fn long_message_of_a_peer_is_truncated() {
    let status = Status::done(Code::Internal, "é".repeat(4000));
    for codec in Codec::built_in() {
        let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, Seq(1)) };
        let read = decode(&codec, &encoded(&codec, &header)).unwrap();
        assert_eq!(read.error.unwrap().message.len(), 1024);
    }
    let long = [&b"\x95\x02\x02\xa0\x00\x93\x05\xda\x10\x00"[..], &[b'x'; 4096], b"\x01"].concat();
    let read = decode(&Codec::MessagePack, &long.into()).unwrap();
    assert_eq!(read.error.unwrap().message.len(), 1024);
}

#[test]
fn not_sent_is_encoded_as_maybe() {
    let status = Status::new(Code::Unavailable, Execution::NotSent, "");
    for codec in Codec::built_in() {
        let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, Seq(1)) };
        let read = decode(&codec, &encoded(&codec, &header)).unwrap();
        assert_eq!(read.error.unwrap().execution, Execution::Maybe);
    }
}

pub(crate) fn any_header() -> impl Strategy<Value = Header> {
    let status = (0..Code::ALL.len(), ".{0,40}", 0_u64..3).prop_map(|(code, message, execution)| {
        Box::new(Status::new(Code::ALL[code], Execution::from_number(execution), message))
    });
    let metadata = proptest::collection::btree_map("[a-z-]{1,40}", ".{0,40}", 0..20).prop_map(|pairs| {
        let mut metadata = Metadata::new();
        for (key, value) in pairs {
            metadata.insert(key, value).expect("such keys are legal");
        }
        (!metadata.is_empty()).then(|| Box::new(metadata))
    });
    (
        0..Kind::ALL.len(),
        0..Seq::JSON_END,
        ".{0,300}",
        prop_oneof![Just(0), 1..Seq::JSON_END],
        proptest::option::of(status),
        metadata,
        0_u64..8,
    )
        .prop_map(|(kind, seq, name, timeout_ms, error, metadata, flags)| Header {
            kind: Kind::ALL[kind],
            seq: Seq(seq),
            service_method: name.into(),
            timeout_ms,
            error,
            metadata,
            flags: Flags::from_bits(flags),
        })
}

proptest! {
    #[test]
    fn every_header_survives_encoding(header in any_header()) {
        for codec in Codec::built_in() {
            let frame = encoded(&codec, &header.as_ref());
            prop_assert_eq!(&decode(&codec, &frame).unwrap(), &header);
        }
    }

    #[test]
    fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        for codec in Codec::built_in() {
            let _ = decode(&codec, &bytes);
        }
    }

    #[test]
    fn decoding_a_damaged_header_never_panics(header in any_header(), at in any::<prop::sample::Index>(), byte: u8) {
        for codec in Codec::built_in() {
            let mut frame = encoded(&codec, &header.as_ref()).to_vec();
            let at = at.index(frame.len());
            frame[at] = byte;
            let _ = decode(&codec, &frame.into());
        }
    }
}
