use std::cell::Cell;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Everything {
    unit: (),
    flag: bool,
    small: i8,
    large: u64,
    negative: i64,
    float: f64,
    text: String,
    letter: char,
    some: Option<u32>,
    none: Option<u32>,
    list: Vec<Shape>,
    map: BTreeMap<String, Vec<u8>>,
    tuple: (u8, String),
    bytes: crate::Bytes,
    newtype: Wrapped,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Wrapped(Option<String>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(i32),
    Tuple(i32, i32),
    Struct { width: u32, height: Option<u32> },
}

fn everything() -> Everything {
    Everything {
        unit: (),
        flag: true,
        small: -7,
        large: u64::MAX,
        negative: i64::MIN,
        float: 0.1,
        text: "naïve \u{1F980}".to_owned(),
        letter: 'ß',
        some: Some(0),
        none: None,
        list: vec![
            Shape::Unit,
            Shape::Newtype(-1),
            Shape::Tuple(1, 2),
            Shape::Struct { width: 3, height: None },
        ],
        map: BTreeMap::from([("a".to_owned(), vec![0, 255])]),
        tuple: (9, "nine".to_owned()),
        bytes: vec![0, 1, 2, 255].into(),
        newtype: Wrapped(Some("inside".to_owned())),
    }
}

#[test]
fn values_of_every_type_survive_encoding() {
    for codec in Codec::built_in() {
        let body = codec.encode(&everything()).unwrap();
        assert_eq!(codec.decode::<Everything>(&body).unwrap(), everything(), "{codec}");
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    assert_eq!(
        Codec::MessagePack.decode::<i64>(&[0x2a, 0x2a]),
        Err(DecodeError::Trailing { at: 1, extra: 1 })
    );
    assert!(Codec::Json.decode::<i64>(b"42 43").is_err());
    assert_eq!(Codec::Json.decode::<i64>(b" 42\r\n\t "), Ok(42));
}

#[test]
#[cfg(feature = "json")]
fn list_that_is_too_long_is_told_from_bytes_behind_the_value() {
    let message = |body: &str| Codec::Json.decode::<(u8, [u8; 1])>(body.as_bytes()).unwrap_err().to_string();
    for body in ["[1,[2],3]", "[1,[2,3]]", " [1, [2], \"]\"] "] {
        assert!(
            message(body).starts_with("a list has more elements than expected at line 1 column"),
            "{body}"
        );
    }
    assert!(message("[1,[2]] 3").starts_with("trailing characters at line 1 column 9"));
}

#[test]
fn empty_body_does_not_decode() {
    for codec in Codec::built_in() {
        assert!(codec.decode::<i64>(b"").is_err());
        assert!(codec.decode::<Option<i64>>(b"").is_err());
    }
}

#[test]
fn text_of_a_peer_is_escaped_and_truncated_in_decode_errors() {
    for codec in Codec::built_in() {
        let body = codec.encode("gone\u{202e}\u{9b}").unwrap();
        let error = codec.decode::<Shape>(&body).unwrap_err().to_string();
        assert!(!error.contains(['\u{202e}', '\u{9b}']), "{codec}: {error:?}");
        let body = codec.encode(&"x".repeat(100_000)).unwrap();
        let error = codec.decode::<Shape>(&body).unwrap_err().to_string();
        assert!(error.len() < 1100, "{codec}: {} bytes", error.len());
    }
}

/// A type that recurses through an enum, an option and a newtype.
#[derive(Debug, Serialize, Deserialize)]
enum Nested {
    End,
    More(Option<Box<NestedNewtype>>),
}

#[derive(Debug, Serialize, Deserialize)]
struct NestedNewtype(Nested);

#[test]
fn deeply_nested_enum_is_an_error() {
    // {"More": {"More": ...}}, a hundred thousand deep.
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        bytes.extend_from_slice(b"\x81\xa4More");
    }
    bytes.extend_from_slice(b"\xa3End");
    let error = Codec::MessagePack.decode::<Nested>(&bytes).unwrap_err();
    assert!(matches!(error, DecodeError::TooDeep { limit: 128, .. }), "{error}");

    let json = format!("{}\"End\"{}", "{\"More\":".repeat(100_000), "}".repeat(100_000));
    let error = Codec::Json.decode::<Nested>(json.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("recursion limit"), "{error}");
}

#[test]
fn keys_that_begin_or_end_alike_are_told_apart() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bounds {
        high_a: u8,
        high_b: u8,
        a_low: u8,
        b_low: u8,
        a_longer_key: u8,
        b_longer_key: u8,
    }
    let bounds = Bounds { high_a: 1, high_b: 2, a_low: 3, b_low: 4, a_longer_key: 5, b_longer_key: 6 };
    let codec = Codec::MessagePack;
    assert_eq!(codec.decode(&codec.encode(&bounds).unwrap()).as_ref(), Ok(&bounds));
    // Not in the order that is likely.
    let mut others = b"\x86".to_vec();
    for (key, value) in
        [("high_b", 2), ("high_a", 1), ("b_low", 4), ("a_low", 3), ("b_longer_key", 6), ("a_longer_key", 5)]
    {
        others.push(0xa0 | key.len() as u8);
        others.extend_from_slice(key.as_bytes());
        others.push(value);
    }
    assert_eq!(codec.decode(&others), Ok(bounds));
}

#[test]
fn arguments_decode_from_a_map_an_array_or_an_empty_body() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Args {
        #[serde(default)]
        limit: Option<u32>,
    }
    let (msgpack, json) = (Codec::MessagePack, Codec::Json);
    let five = Ok(Args { limit: Some(5) });
    assert_eq!(msgpack.decode_arguments(b"\x81\xa5limit\x05"), five);
    assert_eq!(msgpack.decode_arguments(b"\x91\x05"), five);
    assert_eq!(json.decode_arguments(br#"{"limit":5,"unknown":[1]}"#), five);
    assert_eq!(json.decode_arguments(b"[5]"), five);
    for nothing in [&b""[..], b"\xc0", b"\x80", b"\x90"] {
        assert_eq!(msgpack.decode_arguments(nothing), Ok(Args { limit: None }));
    }
    for nothing in [&b""[..], b" null ", b"{}", b"[]", b"\n"] {
        assert_eq!(json.decode_arguments(nothing), Ok(Args { limit: None }));
    }
    assert!(msgpack.decode_arguments::<Args>(b"\x92\x05\x05").is_err());
    assert!(json.decode_arguments::<Args>(b"[5,5]").is_err());
}

#[test]
fn error_names_the_missing_argument() {
    #[derive(Debug, Deserialize)]
    struct Args {
        #[serde(rename = "a")]
        _a: i64,
    }
    for codec in Codec::built_in() {
        let error = codec.decode_arguments::<Args>(b"").unwrap_err();
        assert_eq!(error.to_string().split(" at line").next(), Some("missing field `a`"), "{codec}");
    }
}

#[test]
fn large_and_small_bodies_do_not_disturb_each_other() {
    let small: Vec<_> = (0..10_000_u32).map(|n| Codec::MessagePack.encode(&n).unwrap()).collect();
    let large = Codec::MessagePack.encode(&"x".repeat(100_000)).unwrap();
    for (n, body) in small.iter().enumerate() {
        assert_eq!(Codec::MessagePack.decode::<u32>(body).unwrap(), n as u32);
    }
    assert_eq!(Codec::MessagePack.decode::<String>(&large).unwrap().len(), 100_000);
}

/// A user's codec, which writes JSON in reverse.
struct Reversed;

impl BodyCodec for Reversed {
    fn name(&self) -> &str {
        "application/x-reversed"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut BytesMut) -> Result<(), BoxError> {
        let mut json = serde_json::to_vec(value)?;
        json.reverse();
        out.extend_from_slice(&json);
        Ok(())
    }

    fn decode(
        &self,
        bytes: &[u8],
        build: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<(), BoxError> {
        let json: Vec<u8> = bytes.iter().rev().copied().collect();
        let mut deserializer = serde_json::Deserializer::from_slice(&json);
        build(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut deserializer))?;
        Ok(deserializer.end()?)
    }
}

#[test]
fn custom_codec_encodes_bodies() {
    let codec = Codec::custom(Reversed);
    assert_eq!(codec.name(), "application/x-reversed");
    let body = codec.encode(&(6, "seven")).unwrap();
    assert_eq!(&body[..], br#"]"neves",6["#);
    assert_eq!(codec.decode::<(i64, String)>(&body).unwrap(), (6, "seven".to_owned()));
    assert!(codec.decode::<i64>(b"!").is_err());
}

/// A source that counts the scratch blocks it has allocated, as a thread's source has them.
#[derive(Default)]
struct CountedScratch {
    scratch: Cell<BytesMut>,
    allocated: Cell<usize>,
}

impl BufferSource for CountedScratch {
    fn take(&self, capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn recycle(&self, _rest: BytesMut, _size: usize) {}

    fn release_idle(&self) {}

    fn with_scratch<T>(&self, encode: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut scratch = self.scratch.take();
        if scratch.capacity() == 0 {
            self.allocated.set(self.allocated.get() + 1);
            scratch = BytesMut::with_capacity(MIN_POOLED_BUFFER);
        }
        let encoded = encode(&mut scratch);
        self.scratch.set(scratch);
        encoded
    }
}

#[test]
fn bodies_of_some_kib_share_a_block_and_larger_ones_do_not() {
    for (len, most) in [(100, 1), (4_500, 4), (MIN_POOLED_BUFFER / 2 + 100, 10), (40_000, 10)] {
        let (source, text) = (CountedScratch::default(), "x".repeat(len));
        let bodies: Vec<_> = (0..10)
            .map(|_| Codec::MessagePack.encode_body_in(&source, &text).unwrap().into_bytes())
            .collect();
        assert_eq!(source.allocated.get(), most, "{len}");
        assert!(bodies.iter().all(|body| Codec::MessagePack.decode::<String>(body).unwrap() == text));
    }
}

#[test]
fn large_byte_string_is_sent_without_a_copy() {
    #[derive(Serialize)]
    struct Upload<'a> {
        name: &'a str,
        parts: Vec<crate::Bytes>,
        text: String,
    }

    let part = |len: usize| crate::Bytes::from((0..len).map(|n| n as u8).collect::<Vec<_>>());
    // The last text is long enough that the buffer grows after the segments.
    let upload =
        Upload { name: "n", parts: vec![part(100_000), part(3), part(20_000)], text: "t".repeat(50_000) };
    let body = Codec::MessagePack.encode_body(&upload).unwrap();
    let found = |part: &crate::Bytes| body.pieces().iter().any(|piece| piece.as_ptr() == part.as_ptr());
    assert_eq!(upload.parts.iter().map(found).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(body.pieces().len(), 5);

    let mut copied = Vec::new();
    upload.serialize(&mut rmp_serde::Serializer::new(&mut copied).with_struct_map()).unwrap();
    assert_eq!(body.len(), copied.len());
    assert_eq!(body.into_bytes(), copied);
    assert_eq!(Codec::MessagePack.encode(&upload).unwrap(), copied);

    // A single byte string: the marker with its length, and the segment.
    let alone = Codec::MessagePack.encode_body(&part(16 * 1024)).unwrap();
    assert_eq!(alone.pieces().len(), 2);
    assert_eq!(Codec::Json.encode_body(&upload).unwrap().pieces().len(), 1, "base64 is a different text");
}

#[test]
fn whole_value_is_the_one_that_was_sent() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Query {
        text: String,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Lenient {
        #[serde(default)]
        limit: Option<u32>,
    }
    for (codec, nothing) in [
        (Codec::MessagePack, [&b""[..], b"\xc0", b"\x80", b"\x90"]),
        (Codec::Json, [b"", b" null ", b"{}", b"[]"]),
    ] {
        for nothing in nothing {
            assert_eq!(codec.decode_whole::<()>(nothing), Ok(()), "{codec}: {nothing:?}");
        }
        for nothing in &nothing[..2] {
            assert_eq!(codec.decode_whole::<Option<Query>>(nothing), Ok(None), "{codec}");
            let error = codec.decode_whole::<Query>(nothing).unwrap_err().to_string();
            assert_eq!(error.split(" at line").next(), Some("missing field `text`"), "{codec}");
            let error = codec.decode_whole::<Vec<u8>>(nothing).unwrap_err().to_string();
            assert!(error.contains("expected a sequence"), "{codec}: {error}");
        }
        for nothing in [nothing[0], nothing[1], nothing[2]] {
            assert_eq!(codec.decode_whole::<Lenient>(nothing), Ok(Lenient { limit: None }), "{codec}");
        }
        use serde_json::{Value, json};
        assert_eq!(codec.decode_whole::<Value>(nothing[0]), Ok(json!({})), "{codec}");
        assert_eq!(codec.decode_whole::<Value>(nothing[1]), Ok(Value::Null), "{codec}");
        // Something was sent: no arguments for a query that needs one.
        let error = codec.decode_whole::<Option<Query>>(nothing[2]).unwrap_err().to_string();
        assert!(error.starts_with("missing field `text`"), "{codec}: {error}");
        let body = codec.encode(&(6, "a")).unwrap();
        assert_eq!(codec.decode_whole::<(i64, String)>(&body), Ok((6, "a".to_owned())));
        let body = codec.encode(&7).unwrap();
        assert_eq!(codec.decode_whole::<i64>(&body), Ok(7));
        assert_eq!(codec.decode_whole::<Option<i64>>(&body), Ok(Some(7)));
        assert!(codec.decode_whole::<()>(&body).is_err());
    }
}

/// A type whose recursion takes much stack for each level: it is buffered, and moved, with its arrays.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "that is the point")]
enum Big {
    Leaf(i64),
    One { a: Box<Big>, p: Option<[u64; 32]>, q: Option<[u64; 32]>, r: Option<[u64; 32]> },
    Other { b: Box<Big>, p: Option<[[u64; 32]; 32]>, q: Option<[[u64; 32]; 32]> },
}

/// A type that recurses through `flatten`, which buffers each level too.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Box<Flat>>,
    #[serde(default)]
    p: Option<[[u64; 32]; 32]>,
}

/// Runs it on a thread with the stack that a thread has by default; a stack that overflows aborts the process.
fn on_a_thread(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run);
    thread.expect("there is memory for it").join().expect("it does not panic");
}

#[test]
fn deepest_value_of_any_type_fits_the_stack() {
    on_a_thread(|| {
        for codec in Codec::built_in() {
            // One less for JSON.
            for (key, levels) in [("a", 127), ("b", 127), ("a", 50), ("b", 9)] {
                let mut nested = serde_json::json!(7);
                for _ in 0..levels {
                    nested = serde_json::json!({ key: nested });
                }
                let body = codec.encode(&nested).unwrap();
                let value: Big = codec.decode(&body).unwrap();
                // And what is done with it: it is shown, encoded, decoded as another type, and dropped.
                assert!(format!("{value:?}").contains("Leaf(7)"));
                let body = codec.encode(&value).unwrap();
                assert_eq!(codec.decode::<Big>(&body).unwrap(), value);
                assert!(codec.decode::<Flat>(&body).is_ok());
                assert!(codec.decode::<Vec<Big>>(&body).is_err());
            }
            let mut nested = serde_json::json!({});
            for _ in 0..126 {
                nested = serde_json::json!({ "next": nested });
            }
            let body = codec.encode(&nested).unwrap();
            let value: Flat = codec.decode(&body).unwrap();
            assert!(codec.encode(&value).is_ok());
        }
    });
}

#[test]
fn deep_value_in_a_long_body_fits_the_stack() {
    on_a_thread(|| {
        for codec in Codec::built_in() {
            let mut nested = serde_json::json!(7);
            for _ in 0..126 {
                nested = serde_json::json!({ "a": nested, "b": "x".repeat(1000) });
            }
            let body = codec.encode(&serde_json::json!([nested])).unwrap();
            assert!(codec.decode::<[Big; 1]>(&body).is_ok());
            assert!(codec.decode::<Vec<Vec<Big>>>(&body).is_err());
        }
    });
}

#[test]
fn numbers_and_texts_have_their_shortest_form() {
    let edges = (0..64).flat_map(|bit| [-1, 0, 1].map(|step| (1_i128 << bit) + step));
    for number in edges.flat_map(|number| [number, -number]) {
        let mut expected = Vec::new();
        if let Ok(number) = u64::try_from(number) {
            rmp::encode::write_uint(&mut expected, number).unwrap();
            assert_eq!(Codec::MessagePack.encode(&number).unwrap(), expected);
        }
        if let Ok(number) = i64::try_from(number) {
            expected.clear();
            rmp::encode::write_sint(&mut expected, number).unwrap();
            assert_eq!(Codec::MessagePack.encode(&number).unwrap(), expected);
        }
    }
    for len in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let (text, list) = ("x".repeat(len), vec![7; len]);
        assert_eq!(Codec::MessagePack.encode(&text).unwrap(), rmp_serde::to_vec(&text).unwrap());
        assert_eq!(Codec::MessagePack.encode(&list).unwrap(), rmp_serde::to_vec(&list).unwrap());
    }
}

#[test]
fn texts_are_escaped_at_any_length() {
    for len in [0, 1, 31, 32, 33, 100] {
        for letter in (0..=255).map(char::from) {
            for text in [format!("{}{letter}", "x".repeat(len)), format!("{letter}{}", "x".repeat(len))] {
                assert_eq!(Codec::Json.encode(&text).unwrap(), serde_json::to_vec(&text).unwrap());
            }
        }
    }
}
