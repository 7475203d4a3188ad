//! Values of all kinds of types in both codecs: each arrives as it was, or is an error where it is encoded, and
//! has one form in both.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "all of it is test code")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU128;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use farcall_protocol::{Bytes, Codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[path = "values/random.rs"]
mod random;
#[path = "values/small.rs"]
mod small;

/// Encodes a value in both codecs, asserts that both have the form, and that it arrives.
#[track_caller]
fn assert_form<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, form: Value) {
    assert_arrives(value);
    for codec in Codec::built_in() {
        let body = codec.encode(value).unwrap();
        assert_eq!(codec.decode::<Value>(&body).unwrap(), form, "{codec}");
        // A client without types sends the form itself.
        let body = codec.encode(&form).unwrap();
        assert_eq!(&codec.decode::<T>(&body).unwrap(), value, "{codec}");
    }
}

#[track_caller]
fn assert_arrives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    for codec in Codec::built_in() {
        let body = codec.encode(value).unwrap();
        assert_eq!(&codec.decode::<T>(&body).unwrap(), value, "{codec}: {body:?}");
    }
}

/// Asserts that a codec refuses to encode the value, with these words.
#[track_caller]
fn assert_refused<T: Serialize>(codec: &Codec, value: &T, words: &str) {
    let error = codec.encode(value).unwrap_err().to_string();
    assert!(error.contains(words), "{codec}: {error}");
}

/// Text for humans, and bytes for machines, as ids of many crates have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Id([u8; 4]);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&u32::from_be_bytes(self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(deserializer.is_human_readable());
        let text = String::deserialize(deserializer)?;
        text.parse::<u32>().map(|id| Self(id.to_be_bytes())).map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Readable {
    ip: IpAddr,
    socket: SocketAddr,
    path: PathBuf,
    id: Id,
    took: Duration,
    at: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    inner: Readable,
    #[serde(flatten)]
    more: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Readable(Readable),
    Nothing,
    Fields { ip: Ipv6Addr, list: Vec<Option<char>>, bytes: Bytes },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Readable(Readable),
    Pair(Id, f32),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Readable(Readable),
    Ip { ip: IpAddr },
    Ids(BTreeMap<Id, Plain>),
    List(Vec<Untagged>),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Plain {
    FirstOne,
    SecondOne,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External {
    Unit,
    One(Box<Tagged>),
    Two(Id, Plain),
    Fields { at: SystemTime, none: Option<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct UnitStruct;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Ipv4Addr);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TupleStruct(u8, Option<Id>, ());

fn readable() -> Readable {
    Readable {
        ip: IpAddr::from([10, 0, 0, 5]),
        socket: "[::1]:80".parse().unwrap(),
        path: "/a/b".into(),
        id: Id([0, 0, 0, 7]),
        took: Duration::new(1, 5),
        at: SystemTime::UNIX_EPOCH + Duration::new(3, 9),
    }
}

fn readable_form() -> Value {
    json!({
        "ip": "10.0.0.5", "socket": "[::1]:80", "path": "/a/b", "id": "7",
        "took": {"secs": 1, "nanos": 5},
        "at": {"secs_since_epoch": 3, "nanos_since_epoch": 9},
    })
}

/// Adds entries to an object.
fn with(mut object: Value, more: Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn human_readable_types_have_their_text_in_both_codecs() {
    assert_form(&readable(), readable_form());
    assert_form(&Newtype(Ipv4Addr::LOCALHOST), json!("127.0.0.1"));
    let ids = BTreeMap::from([(Id([0, 0, 0, 1]), Plain::FirstOne)]);
    assert_form(&ids, json!({"1": "first-one"}));
    assert_eq!(&Codec::MessagePack.encode(&IpAddr::from([10, 0, 0, 5])).unwrap()[..], b"\xa810.0.0.5");
}

#[test]
fn types_that_are_fine_alone_are_fine_within_others() {
    let form = readable_form();
    let flat = Flat { name: "n".into(), inner: readable(), more: BTreeMap::from([("x".into(), -1)]) };
    assert_form(&flat, with(form.clone(), json!({"name": "n", "x": -1})));
    assert_form(&Tagged::Readable(readable()), with(form.clone(), json!({"type": "Readable"})));
    assert_form(&Tagged::Nothing, json!({"type": "Nothing"}));
    assert_form(&Adjacent::Readable(readable()), json!({"t": "Readable", "c": form}));
    assert_form(&Adjacent::Pair(Id([0; 4]), 0.5), json!({"t": "Pair", "c": ["0", 0.5]}));
    assert_form(&Adjacent::Nothing, json!({"t": "Nothing"}));
    assert_form(&Untagged::Readable(readable()), form);
    assert_form(&Untagged::Ip { ip: Ipv6Addr::LOCALHOST.into() }, json!({"ip": "::1"}));
    let ids = Untagged::Ids(BTreeMap::from([(Id([0, 0, 0, 9]), Plain::SecondOne)]));
    assert_form(&Untagged::List(vec![ids, Untagged::Number(3)]), json!([{"9": "second-one"}, 3]));
    let fields =
        Tagged::Fields { ip: Ipv6Addr::LOCALHOST, list: vec![Some('ß'), None], bytes: vec![0, 255].into() };
    assert_arrives(&fields);
    assert_arrives(&External::One(Box::new(fields)));
}

#[test]
fn nothing_is_null_in_both_codecs() {
    assert_form(&(), json!(null));
    assert_form(&UnitStruct, json!(null));
    assert_form(&None::<u8>, json!(null));
    assert_form(&TupleStruct(1, None, ()), json!([1, null, null]));
    assert_form(&External::Unit, json!("Unit"));
    assert_form(&External::Two(Id([0, 0, 0, 1]), Plain::FirstOne), json!({"Two": ["1", "first-one"]}));
    // Clients with rmp-serde send unit structs as empty arrays.
    assert_eq!(Codec::MessagePack.decode::<UnitStruct>(&[0x90]), Ok(UnitStruct));
}

#[test]
fn some_of_nothing_is_refused_with_its_place() {
    #[derive(Serialize)]
    struct Outer {
        list: Vec<Option<Option<u8>>>,
    }
    let twice = Outer { list: vec![None, Some(Some(1)), Some(None)] };
    for codec in Codec::built_in() {
        assert_refused(&codec, &twice, "as which it would arrive at `list[2]`");
        assert_refused(&codec, &Some(()), "`Some` of nothing");
        assert_refused(&codec, &Some(UnitStruct), "`Some` of nothing");
        assert_refused(&codec, &Some(Value::Null), "`Some` of nothing");
    }
    assert_arrives(&vec![Some(Some(3)), None]);
    assert_arrives(&Some(vec![None::<u8>]));
}

#[test]
fn wide_integers_are_numbers_within_64_bits_and_text_beyond() {
    assert_form(&5_u128, json!(5));
    assert_form(&-5_i128, json!(-5));
    assert_form(&u128::from(u64::MAX), json!(u64::MAX));
    assert_form(&i128::from(i64::MIN), json!(i64::MIN));
    assert_form(&u128::MAX, json!("340282366920938463463374607431768211455"));
    assert_form(&i128::MIN, json!("-170141183460469231731687303715884105728"));
    assert_form(&NonZeroU128::MAX, json!(u128::MAX.to_string()));
    assert_form(&BTreeMap::from([(1_u128 << 64, 1)]), json!({"18446744073709551616": 1}));
    assert_form(&External3(vec![Some(u128::MAX), None]), json!({"External": [u128::MAX.to_string(), null]}));
    // What farcall's Rust clients sent before, and numbers in JSON.
    let bin = rmp_serde::to_vec(&u128::MAX).unwrap();
    assert_eq!(Codec::MessagePack.decode::<u128>(&bin), Ok(u128::MAX));
    assert_eq!(Codec::Json.decode::<u128>(u128::MAX.to_string().as_bytes()), Ok(u128::MAX));
    for codec in Codec::built_in() {
        for wrong in [json!(-1), json!("x"), json!("1.5"), json!(1.5), json!("-1"), json!(null)] {
            let body = codec.encode(&wrong).unwrap();
            assert!(codec.decode::<u128>(&body).is_err(), "{codec}: {wrong}");
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct External3(Vec<Option<u128>>);

impl Serialize for External3 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_variant("E", 0, "External", &self.0)
    }
}

impl<'de> Deserialize<'de> for External3 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum E {
            External(Vec<Option<u128>>),
        }
        E::deserialize(deserializer).map(|E::External(list)| Self(list))
    }
}

#[test]
fn wide_integer_within_flatten_says_what_to_use() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Account<T> {
        owner: String,
        #[serde(flatten)]
        balance: T,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bare {
        cents: u128,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Marked {
        #[serde(with = "farcall_protocol::as_int128")]
        cents: i128,
    }
    for cents in [0, -1, i128::MAX, i128::MIN] {
        assert_arrives(&Account { owner: "o".into(), balance: Marked { cents } });
    }
    for codec in Codec::built_in() {
        let body = codec.encode(&Account { owner: "o".into(), balance: Bare { cents: 5 } }).unwrap();
        let error = codec.decode::<Account<Bare>>(&body).unwrap_err().to_string();
        assert!(error.contains("farcall::as_int128"), "{codec}: {error}");
    }
}

#[test]
fn numbers_that_json_lacks_are_refused_with_their_place() {
    #[derive(Serialize)]
    struct Point {
        x: f64,
        y: Option<f32>,
    }
    let points = |x, y| BTreeMap::from([("points", vec![Point { x, y }])]);
    let json = Codec::Json;
    assert_refused(&json, &points(f64::NAN, None), "JSON has no number `NaN` at `points[0].x`");
    assert_refused(&json, &points(1.0, Some(f32::INFINITY)), "`inf` at `points[0].y`");
    assert_refused(&json, &vec![Some(1.5), Some(f64::NEG_INFINITY)], "`-inf` at `[1]`");
    assert_refused(&json, &(f32::NAN, 1), "`NaN` at `[0]`");
    // MessagePack has them.
    let body = Codec::MessagePack.encode(&vec![Some(f64::NAN), None]).unwrap();
    let back = Codec::MessagePack.decode::<Vec<Option<f64>>>(&body).unwrap();
    assert!(back[0].unwrap().is_nan() && back[1].is_none());
}

#[test]
fn keys_of_maps_arrive_in_both_codecs() {
    assert_form(&BTreeMap::from([(7_u32, "a".to_owned())]), json!({"7": "a"}));
    assert_form(&BTreeMap::from([(-7_i64, 1)]), json!({"-7": 1}));
    assert_form(&BTreeMap::from([(true, 1)]), json!({"true": 1}));
    assert_form(&BTreeMap::from([('x', 1)]), json!({"x": 1}));
    assert_form(&BTreeMap::from([(Plain::SecondOne, ())]), json!({"second-one": null}));
    assert_form(&HashMap::from([(IpAddr::from([1, 2, 3, 4]), 1)]), json!({"1.2.3.4": 1}));
    assert_form(&BTreeMap::from([("say \"hi\"\n".to_owned(), 1)]), json!({"say \"hi\"\n": 1}));
    // A number stays a number where the codec has such keys.
    assert_eq!(&Codec::MessagePack.encode(&BTreeMap::from([(7, 1)])).unwrap()[..], [0x81, 7, 1]);
    assert_refused(&Codec::Json, &BTreeMap::from([((1, 2), 1)]), "a key in JSON is a string");
    assert_refused(&Codec::Json, &BTreeMap::from([(None::<u8>, 1)]), "a key in JSON is a string");
    assert_refused(&Codec::Json, &BTreeMap::from([(vec![1], 1)]), "a key in JSON is a string");
}

#[test]
fn key_that_occurs_twice_is_refused() {
    #[derive(Serialize)]
    struct Flat {
        name: u8,
        #[serde(flatten)]
        more: BTreeMap<String, u8>,
    }
    for codec in Codec::built_in() {
        let more = BTreeMap::from([("name".to_owned(), 2)]);
        assert_refused(&codec, &vec![Flat { name: 1, more }], "the key occurs twice at `[0].name`");
    }
}

#[test]
fn flattened_maps_of_any_size_arrive() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        data: Bytes,
        #[serde(flatten)]
        more: BTreeMap<String, BTreeSet<u16>>,
    }
    for len in [0, 13, 14, 15, 16, 300, 70_000] {
        let more = (0..len).map(|n| (n.to_string(), BTreeSet::from([n as u16]))).collect();
        assert_arrives(&vec![Flat { data: vec![7; 20_000].into(), more }]);
    }
    // The same bytes as before, whose lengths are in their shortest form.
    let flat = Flat { data: Bytes::default(), more: BTreeMap::from([("k".to_owned(), BTreeSet::new())]) };
    let expected = b"\x82\xa4data\xc4\x00\xa1k\x90";
    assert_eq!(&Codec::MessagePack.encode(&flat).unwrap()[..], expected);
}

#[test]
fn value_deeper_than_its_receiver_decodes_is_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Deep(Vec<Deep>);
    let nested = |depth: usize| (1..depth).fold(Deep(Vec::new()), |inner, _| Deep(vec![inner]));
    for (codec, deepest) in [(Codec::MessagePack, 128), (Codec::Json, 127)] {
        let body = codec.encode(&nested(deepest)).unwrap();
        assert_eq!(codec.decode::<Deep>(&body).unwrap(), nested(deepest), "{codec}");
        assert_refused(&codec, &nested(deepest + 1), "nests deeper");
    }
}

#[test]
fn extension_types_are_refused() {
    #[derive(Serialize)]
    #[serde(rename = "_ExtStruct")]
    struct Extension((i8, Bytes));
    for codec in Codec::built_in() {
        assert_refused(&codec, &Extension((1, Bytes::default())), "extension types");
    }
    let timestamp = [0xd6, 0xff, 0, 0, 0, 1];
    let error = Codec::MessagePack.decode::<Value>(&timestamp).unwrap_err().to_string();
    assert!(error.contains("extension of MessagePack"), "{error}");
}

#[test]
fn raw_json_stays_json() {
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str("{\"a\": [1]}").unwrap();
    assert_eq!(&Codec::Json.encode(&[&raw]).unwrap()[..], b"[{\"a\": [1]}]");
    assert_refused(&Codec::MessagePack, &[&raw], "a raw value is text in JSON");
}

#[test]
fn wrong_count_of_elements_is_refused() {
    struct Wrong;
    impl Serialize for Wrong {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq as _;
            let mut seq = serializer.serialize_seq(Some(2))?;
            seq.serialize_element(&1)?;
            seq.end()
        }
    }
    assert_refused(&Codec::MessagePack, &Wrong, "announced 2 elements and wrote 1");
}

#[test]
fn byte_vectors_are_byte_strings_where_they_are_marked() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Marked {
        #[serde(with = "farcall_protocol::as_bytes")]
        data: Vec<u8>,
        #[serde(with = "farcall_protocol::as_bytes", default)]
        more: Option<Vec<Box<[u8]>>>,
        #[serde(with = "farcall_protocol::as_bytes")]
        named: HashMap<u8, std::sync::Arc<[u8]>>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plain {
        data: Vec<u8>,
        more: Option<Vec<Vec<u8>>>,
        named: BTreeMap<u8, Vec<u8>>,
    }
    let marked = Marked {
        data: vec![1, 2, 255],
        more: Some(vec![Box::from([3])]),
        named: HashMap::from([(4, std::sync::Arc::from([5]))]),
    };
    let plain =
        Plain { data: vec![1, 2, 255], more: Some(vec![vec![3]]), named: BTreeMap::from([(4, vec![5])]) };
    assert_arrives(&marked);
    let json = Codec::Json.encode(&marked).unwrap();
    assert_eq!(&json[..], br#"{"data":"AQL/","more":["Aw=="],"named":{"4":"BQ=="}}"#);
    let bin = b"\x83\xa4data\xc4\x03\x01\x02\xff\xa4more\x91\xc4\x01\x03\xa5named\x81\x04\xc4\x01\x05";
    assert_eq!(&Codec::MessagePack.encode(&marked).unwrap()[..], bin);
    // Either side may have marked its type, or not.
    for codec in Codec::built_in() {
        assert_eq!(codec.decode::<Marked>(&codec.encode(&plain).unwrap()).unwrap(), marked, "{codec}");
        assert_eq!(codec.decode::<Plain>(&codec.encode(&marked).unwrap()).unwrap(), plain, "{codec}");
    }
    assert_eq!(Codec::Json.decode::<Vec<u8>>(br#""AQL/""#).unwrap(), [1, 2, 255]);
    assert_eq!(Codec::Json.decode::<[u8; 3]>(br#""AQL/""#).unwrap(), [1, 2, 255]);
    for wrong in [&br#""AQL/""#[..], br#"[]x"#, br#""AQ""#] {
        assert!(Codec::Json.decode::<Vec<u16>>(wrong).is_err());
    }
    assert!(Codec::Json.decode::<[u8; 2]>(br#""AQL/""#).is_err());
}

#[test]
fn decode_error_names_the_place_in_messagepack() {
    let body = Codec::MessagePack.encode(&json!({"Two": ["1", 5]})).unwrap();
    let error = Codec::MessagePack.decode::<External>(&body).unwrap_err().to_string();
    assert_eq!(error, "invalid type: no string, expected the name of a variant at `Two[1]`");
    let body = Codec::MessagePack.encode(&json!([1, {"a": {"b": -1}}])).unwrap();
    let error = Codec::MessagePack.decode::<(u8, BTreeMap<String, BTreeMap<String, u8>>)>(&body);
    assert_eq!(error.unwrap_err().to_string(), "invalid value: integer `-1`, expected u8 at `[1].a.b`");
}

#[test]
fn decode_error_names_the_wrong_value_behind_right_ones_in_json() {
    for (body, expected) in [
        (r#"["AQL/", "5", "x"]"#, "invalid type: string \"x\", expected u8 at line 1 column 17"),
        (r#"["AQL/", "x", 1]"#, "invalid value: string \"x\", expected u128 at line 1 column 14"),
        (r#"["AQL/", true, 1]"#, "invalid value: no integer, expected u128 at line 1 column 15"),
        (r#"["A", "5", "x"]"#, "invalid type: string \"A\", expected a sequence at line 1 column 4"),
        (r#"["AQL/", "5", 1"#, "EOF while parsing a list at line 1 column 15"),
        (r#"["AQL/", "5", 1]x"#, "trailing characters at line 1 column 17"),
    ] {
        let error = Codec::Json.decode::<(Vec<u8>, u128, u8)>(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{body}");
    }
}

#[test]
fn number_is_no_variant() {
    for body in [&[1][..], &[0x81, 1, 0xc0], &[0xc0]] {
        assert!(Codec::MessagePack.decode::<Plain>(body).is_err(), "{body:?}");
    }
    assert_eq!(Codec::MessagePack.decode::<Plain>(b"\x81\xa9first-one\xc0"), Ok(Plain::FirstOne));
}

#[test]
fn number_of_any_size_is_read_before_others_and_at_the_end() {
    let numbers = [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
    for (one, other) in numbers.into_iter().flat_map(|one| numbers.map(|other| (one, other))) {
        let body = Codec::MessagePack.encode(&(one, other)).unwrap();
        assert_eq!(Codec::MessagePack.decode::<(u64, u64)>(&body), Ok((one, other)));
        let small = u16::try_from(one).ok().zip(u16::try_from(other).ok());
        assert_eq!(Codec::MessagePack.decode::<(u16, u16)>(&body).ok(), small);
        for len in 0..body.len() {
            assert!(Codec::MessagePack.decode::<(u64, u64)>(&body[..len]).is_err(), "{one} {other} {len}");
        }
        let more = [&body[..], b"\0"].concat();
        assert!(Codec::MessagePack.decode::<(u64, u64)>(&more).is_err());
    }
}
