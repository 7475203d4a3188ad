//! Bodies: values in both codecs, and compressed ones.

use std::collections::BTreeMap;

use farcall_protocol::{Bytes, Codec, Compression, MaxFrameBytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::input::Input;

/// The largest decompressed body, in bytes.
const MAX_BODY: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: u64,
    #[serde(default)]
    name: Option<String>,
    small: i8,
    ratio: f32,
    letter: char,
    raw: Bytes,
    kind: Kind,
    parts: Vec<(u16, f64)>,
    labels: BTreeMap<String, i64>,
    nested: Option<Box<Record>>,
    unit: (),
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    Plain,
    Number(i64),
    Pair(u8, String),
    Named { a: bool, b: Option<u32> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    One { x: u8 },
    Two(BTreeMap<String, Value>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
    Map(BTreeMap<String, Untagged>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    a: u8,
    b: (i32, String),
}

/// A body, read as values of many types: each is a value or an error, and what was read is written so that it is read as
/// the same.
pub(crate) fn values(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = if input.byte().is_multiple_of(2) { Codec::MessagePack } else { Codec::Json };
    let body = input.rest();
    check::<Value>(&codec, body);
    check::<Record>(&codec, body);
    check::<Vec<Kind>>(&codec, body);
    check::<Tagged>(&codec, body);
    check::<Untagged>(&codec, body);
    check::<Strict>(&codec, body);
    check::<(u8, i16, Option<u128>, i128)>(&codec, body);
    check::<BTreeMap<u64, Option<bool>>>(&codec, body);
    check::<Bytes>(&codec, body);
    check::<Vec<u8>>(&codec, body);
    check::<String>(&codec, body);
    check::<f64>(&codec, body);
}

fn check<T: DeserializeOwned + Serialize>(codec: &Codec, body: &[u8]) {
    if let Err(error) = codec.decode_arguments::<T>(body) {
        assert!(error.to_string().len() < 2_000, "the text of an error has a bound");
    }
    let _ = codec.decode_whole::<T>(body);
    let Ok(value) = codec.decode::<T>(body) else { return };
    // A number that JSON does not have is an error.
    let Ok(encoded) = codec.encode(&value) else { return };
    let again: T =
        codec.decode(&encoded).unwrap_or_else(|error| panic!("what was written is not read: {error}"));
    assert_eq!(codec.encode(&again).unwrap(), encoded);
}

/// A compressed body, and any body that is compressed.
pub(crate) fn compressed(data: &[u8]) {
    let limit = MaxFrameBytes::new(MAX_BODY);
    for compression in Compression::built_in() {
        let len = compression.decompressed_len(data, limit);
        match compression.decompress(data, limit) {
            Ok(body) => assert_eq!(Ok(body.len()), len),
            Err(error) => drop(error.to_string()),
        }
        if let Some(compressed) = compression.compress(data) {
            assert!(compressed.len() < data.len());
            assert_eq!(&compression.decompress(&compressed, limit).unwrap()[..], data);
        }
    }
}

pub(crate) fn value_seeds() -> Vec<Vec<u8>> {
    let record = Record {
        id: 1 << 60,
        name: Some("\u{e9}".to_owned()),
        small: -1,
        ratio: 0.5,
        letter: '\u{1F600}',
        raw: Bytes::from(vec![0, 255]),
        kind: Kind::Named { a: true, b: None },
        parts: vec![(1, 1e300)],
        labels: [("k".to_owned(), -70_000)].into(),
        nested: None,
        unit: (),
    };
    let kinds = [Kind::Plain, Kind::Number(-1), Kind::Pair(1, "x".to_owned())];
    let loose = [
        json!({"type": "One", "x": 1}),
        json!([1, "a", [], {"b": [1, 2]}]),
        json!({"a": 1, "b": [2, "c"]}),
        json!([1, 2, null, 4]),
        json!({"1": true, "2": null}),
        json!([0, 1, 255]),
        json!("AP8="),
        json!("text"),
        json!(1.5),
    ];
    let mut seeds = Vec::new();
    for codec in Codec::built_in() {
        let first = [u8::from(codec == Codec::Json)];
        let mut add = |body: farcall_protocol::Body| seeds.push([&first[..], &body.into_bytes()].concat());
        add(codec.encode_body(&record).unwrap());
        add(codec.encode_body(&kinds).unwrap());
        loose.iter().for_each(|value| add(codec.encode_body(value).unwrap()));
    }
    // Depth, and counts that lie.
    seeds.push([&[1][..], &[b'['; 300]].concat());
    seeds.push([&[0][..], &[0x91; 300]].concat());
    seeds.push(vec![0, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    seeds.push(vec![0, 0xC6, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    seeds
}

pub(crate) fn compressed_seeds() -> Vec<Vec<u8>> {
    let text: Vec<u8> = b"the same, and ".iter().copied().cycle().take(2000).collect();
    let compressed = Compression::Lz4.compress(&text).unwrap().to_vec();
    vec![text[..1100].to_vec(), compressed, vec![1, 0, 0, 0, 16, 7], vec![255, 255, 255, 255, 0]]
}
