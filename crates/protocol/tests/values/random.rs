//! Values of a type with all kinds of parts, at random.

use proptest::prelude::*;

use super::*;

fn any_readable() -> impl Strategy<Value = Readable> {
    let time = (0..u64::from(u32::MAX), 0..1_000_000_000_u32);
    (any::<IpAddr>(), any::<(IpAddr, u16)>(), "[a-z/]{0,9}", any::<[u8; 4]>(), time).prop_map(
        |(ip, socket, path, id, (secs, nanos))| Readable {
            ip,
            socket: socket.into(),
            path: path.into(),
            id: Id(id),
            took: Duration::new(secs, nanos),
            at: SystemTime::UNIX_EPOCH + Duration::new(secs, nanos),
        },
    )
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Zoo {
    flat: Flat,
    tagged: Vec<Tagged>,
    untagged: Untagged,
    external: Vec<External>,
    numbers: (i8, u64, i64, f32, f64),
    wide: (i128, u128),
    options: Vec<Option<Option<u8>>>,
    text: String,
    letter: char,
    by_number: BTreeMap<i32, String>,
    unit: UnitStruct,
    bytes: BTreeMap<u8, Bytes>,
}

prop_compose! {
    fn any_zoo()(
        inner in any_readable(),
        text in any::<String>(),
        more in proptest::collection::btree_map("x[a-z]{0,3}", any::<i64>(), 0..20),
        numbers in any::<(i8, u64, i64, f32, f64)>(),
        wide in any::<(i128, u128)>(),
        options in proptest::collection::vec(any::<Option<Option<u8>>>(), 0..3),
        letter in any::<char>(),
        by_number in any::<BTreeMap<i32, String>>(),
        bytes in proptest::collection::btree_map(any::<u8>(), any::<Vec<u8>>().prop_map(Bytes::from), 0..3),
    ) -> Zoo {
        let fields = Tagged::Fields {
            ip: Ipv6Addr::LOCALHOST,
            list: vec![Some(letter), None],
            bytes: bytes.values().next().cloned().unwrap_or_default(),
        };
        Zoo {
            flat: Flat { name: text.clone(), inner: inner.clone(), more },
            tagged: vec![Tagged::Readable(inner.clone()), fields.clone(), Tagged::Nothing],
            untagged: Untagged::List(vec![
                Untagged::Readable(inner.clone()),
                Untagged::Number(numbers.2),
                Untagged::Text(text.clone()),
            ]),
            external: vec![External::One(Box::new(fields)), External::Fields { at: inner.at, none: None }],
            numbers,
            wide,
            options,
            text,
            letter,
            by_number,
            unit: UnitStruct,
            bytes,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_arrives_as_it_was_or_is_refused(zoo in any_zoo()) {
        let is_lossy = zoo.options.contains(&Some(None));
        let (msgpack, json) = (Codec::MessagePack.encode(&zoo), Codec::Json.encode(&zoo));
        prop_assert_eq!(msgpack.is_err(), is_lossy);
        let is_finite = zoo.numbers.3.is_finite() && zoo.numbers.4.is_finite();
        prop_assert_eq!(json.is_err(), is_lossy || !is_finite);
        if let Ok(body) = &msgpack {
            let back = Codec::MessagePack.decode::<Zoo>(body).unwrap();
            // NaN is not equal to itself.
            prop_assert_eq!(format!("{back:?}"), format!("{zoo:?}"));
        }
        if let Ok(body) = &json {
            prop_assert_eq!(&Codec::Json.decode::<Zoo>(body).unwrap(), &zoo);
        }
        let zoo = Zoo { bytes: BTreeMap::new(), tagged: Vec::new(), external: Vec::new(), ..zoo };
        if let (Ok(msgpack), Ok(json)) = (Codec::MessagePack.encode(&zoo), Codec::Json.encode(&zoo)) {
            let mut forms = [Codec::MessagePack.decode::<Value>(&msgpack).unwrap(), Codec::Json.decode(&json).unwrap()];
            // A number of 32 bits is shorter in JSON, and the same one.
            forms.iter_mut().for_each(|form| form["numbers"][3] = (form["numbers"][3].as_f64().unwrap() as f32).into());
            prop_assert_eq!(&forms[0], &forms[1]);
        }
    }

    #[test]
    fn any_bytes_decode_to_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
        for codec in Codec::built_in() {
            let _ = codec.decode::<Zoo>(&bytes);
            let _ = codec.decode::<Value>(&bytes);
            let _ = codec.decode::<Untagged>(&bytes);
            let _ = codec.decode::<External>(&bytes);
            let _ = codec.decode::<(u128, Vec<u8>)>(&bytes);
        }
    }

    #[test]
    fn encoding_is_that_of_the_libraries(zoo in any_zoo()) {
        let parts = (zoo.flat.more, zoo.numbers, zoo.text, zoo.by_number, zoo.letter, zoo.untagged);
        let body = Codec::MessagePack.encode(&parts).unwrap();
        let mut expected = Vec::new();
        let mut serializer = rmp_serde::Serializer::new(&mut expected).with_struct_map().with_human_readable();
        parts.serialize(&mut serializer).unwrap();
        prop_assert_eq!(&body[..], &expected);
        if let Ok(body) = Codec::Json.encode(&parts) {
            prop_assert_eq!(&body[..], serde_json::to_vec(&parts).unwrap());
        }
    }
}
