//! Bodies in MessagePack: structs as maps, enums tagged externally, and what has a text in serde as that text.

use std::fmt::Display;

use rmp::{Marker, encode as rmp_encode};
use serde::{Deserialize, Serialize};

use super::deep::{SHALLOW, with_stack};
use super::error::{BoxError, DecodeError, ValueError};
use super::format::{Format, Serializer};
use super::reader::{Doubt, Reader};
use super::walk::{self, Extent};
use super::writer::Writer;
use crate::buffer_source::BufferSource;
use crate::limits::MAX_DEPTH;

pub(super) fn encode<T: Serialize + ?Sized, B: BufferSource>(
    value: &T,
    out: Writer<'_, B>,
) -> Result<(), BoxError> {
    value.serialize(&mut Serializer::<MessagePack, B>::new(out)).map_err(BoxError::from)
}

/// Decodes the one value in `body`, in one pass if it is well-formed and has few levels, as most values.
pub(super) fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::within(body, SHALLOW);
    match T::deserialize(&mut reader) {
        Ok(value) if reader.at == body.len() && reader.doubt() == Doubt::None => Ok(value),
        read => checked(body, read, reader.doubt()),
    }
}

/// Walks over `body`, whose value was `read` with a doubt, and returns the value or what is wrong with it. The errors of the
/// bytes come before those of the type. A value of more levels than fit the stack is read again, with more stack.
#[cold]
fn checked<'de, T: Deserialize<'de>>(
    body: &'de [u8],
    read: Result<T, ValueError>,
    doubt: Doubt,
) -> Result<T, DecodeError> {
    let Extent { len, levels } = walk::extent(body)?;
    if len < body.len() {
        return Err(DecodeError::Trailing { at: len, extra: body.len() - len });
    }
    if doubt < Doubt::Depth {
        return read.map_err(DecodeError::value);
    }
    drop(read);
    with_stack(levels, || T::deserialize(&mut Reader::new(body))).map_err(DecodeError::value)
}

/// The length from which a string has more than one byte before it, in bytes.
const MIN_LONG_STR: usize = 32;

/// MessagePack.
struct MessagePack;

impl Format for MessagePack {
    const NULL: u8 = 0xc0;
    const MAX_DEPTH: usize = MAX_DEPTH;
    const IS_COUNTED: bool = true;

    #[inline]
    fn null<B: BufferSource>(out: &mut Writer<'_, B>) -> Result<(), ValueError> {
        out.put([Self::NULL]);
        Ok(())
    }

    #[inline]
    fn bool<B: BufferSource>(out: &mut Writer<'_, B>, value: bool) -> Result<(), ValueError> {
        out.put([if value { Marker::True } else { Marker::False }.to_u8()]);
        Ok(())
    }

    #[inline]
    fn unsigned<B: BufferSource>(out: &mut Writer<'_, B>, value: u64) -> Result<(), ValueError> {
        put_unsigned(out, value);
        Ok(())
    }

    #[inline]
    fn signed<B: BufferSource>(out: &mut Writer<'_, B>, value: i64) -> Result<(), ValueError> {
        match u64::try_from(value) {
            Ok(value) => put_unsigned(out, value),
            Err(_) => put_negative(out, value),
        }
        Ok(())
    }

    #[inline]
    fn f32<B: BufferSource>(out: &mut Writer<'_, B>, value: f32) -> Result<(), ValueError> {
        written(rmp_encode::write_f32(out, value))
    }

    #[inline]
    fn f64<B: BufferSource>(out: &mut Writer<'_, B>, value: f64) -> Result<(), ValueError> {
        written(rmp_encode::write_f64(out, value))
    }

    #[inline]
    fn str<B: BufferSource>(out: &mut Writer<'_, B>, value: &str) -> Result<(), ValueError> {
        if value.len() < MIN_LONG_STR {
            out.put_short(Marker::FixStr(value.len() as u8).to_u8(), value.as_bytes());
            return Ok(());
        }
        len(value.len())?;
        written(rmp_encode::write_str(out, value))
    }

    #[inline]
    fn bytes<B: BufferSource>(out: &mut Writer<'_, B>, value: &[u8]) -> Result<(), ValueError> {
        len(value.len())?;
        written(rmp_encode::write_bin(out, value))
    }

    fn foreign_bytes<B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        value: &[u8],
    ) -> Result<(), ValueError> {
        Self::bytes(&mut serializer.out, value)
    }

    /// Writes a number, the only JSON that has the same form here.
    fn json<B: BufferSource>(out: &mut Writer<'_, B>, text: &str) -> Result<(), ValueError> {
        if let Ok(value) = text.parse() {
            return Self::unsigned(out, value);
        }
        if let Ok(value) = text.parse() {
            return Self::signed(out, value);
        }
        if text.parse::<i128>().is_ok() || text.parse::<u128>().is_ok() {
            return Self::str(out, text);
        }
        let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match text.parse() {
            Ok(value) if is_number => Self::f64(out, value),
            _ => Err(ValueError::new("a raw value is text in JSON, which MessagePack cannot carry")),
        }
    }

    #[inline]
    fn begin_seq<B: BufferSource>(out: &mut Writer<'_, B>, count: Option<usize>) -> Result<(), ValueError> {
        // An unknown length has the place of one that is small.
        match count.unwrap_or(0) {
            count @ 0..=15 => out.put([Marker::FixArray(count as u8).to_u8()]),
            count => return written(rmp_encode::write_array_len(out, len(count)?)),
        }
        Ok(())
    }

    #[inline]
    fn end_seq<B: BufferSource>(
        out: &mut Writer<'_, B>,
        unknown: Option<usize>,
        count: usize,
    ) -> Result<(), ValueError> {
        match unknown {
            None => Ok(()),
            Some(at) => set_len(out, at, count, Marker::FixArray(0), [Marker::Array16, Marker::Array32]),
        }
    }

    #[inline]
    fn begin_map<B: BufferSource>(out: &mut Writer<'_, B>, count: Option<usize>) -> Result<(), ValueError> {
        match count.unwrap_or(0) {
            count @ 0..=15 => out.put([Marker::FixMap(count as u8).to_u8()]),
            count => return written(rmp_encode::write_map_len(out, len(count)?)),
        }
        Ok(())
    }

    #[inline]
    fn end_map<B: BufferSource>(
        out: &mut Writer<'_, B>,
        unknown: Option<usize>,
        count: usize,
    ) -> Result<(), ValueError> {
        match unknown {
            None => Ok(()),
            Some(at) => set_len(out, at, count, Marker::FixMap(0), [Marker::Map16, Marker::Map32]),
        }
    }

    #[inline]
    fn separate<B: BufferSource>(_out: &mut Writer<'_, B>, _index: usize) -> Result<(), ValueError> {
        Ok(())
    }

    #[inline]
    fn colon<B: BufferSource>(_out: &mut Writer<'_, B>) -> Result<(), ValueError> {
        Ok(())
    }

    #[inline]
    fn key<T: Serialize + ?Sized, B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        key: &T,
    ) -> Result<(), ValueError> {
        key.serialize(serializer)
    }

    fn key_text(encoded: &[u8]) -> String {
        Reader::new(encoded).key_text()
    }
}

/// Returns a number in its shortest form, with the number of its bytes; those behind them have no meaning. So it is written
/// in one piece, whatever its size: rmp writes the marker and the bytes behind it on their own.
#[inline]
pub(crate) const fn uint(value: u64) -> ([u8; 9], usize) {
    // The function that finds a marker's byte is not inlined.
    const U8: u8 = Marker::U8.to_u8();
    const U16: u8 = Marker::U16.to_u8();
    const U32: u8 = Marker::U32.to_u8();
    const U64: u8 = Marker::U64.to_u8();
    let (marker, unused_bits, len) = match value {
        0..=0x7f => return ([value as u8, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        0x80..=0xff => (U8, 56, 2),
        0x100..=0xffff => (U16, 48, 3),
        0x1_0000..=0xffff_ffff => (U32, 32, 5),
        _ => (U64, 0, 9),
    };
    let [a, b, c, d, e, f, g, h] = (value << unused_bits).to_be_bytes();
    ([marker, a, b, c, d, e, f, g, h], len)
}

/// Writes a number in its shortest form.
#[inline]
fn put_unsigned<B: BufferSource>(out: &mut Writer<'_, B>, value: u64) {
    let (bytes, len) = uint(value);
    out.put_first(bytes, len);
}

/// Writes a number below zero in its shortest form.
fn put_negative<B: BufferSource>(out: &mut Writer<'_, B>, value: i64) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    match value {
        -0x20.. => out.put([h]),
        -0x80.. => out.put([Marker::I8.to_u8(), h]),
        -0x8000.. => out.put([Marker::I16.to_u8(), g, h]),
        -0x8000_0000.. => out.put([Marker::I32.to_u8(), e, f, g, h]),
        _ => out.put([Marker::I64.to_u8(), a, b, c, d, e, f, g, h]),
    }
}

/// Writes the length of a container that began at `at`, where its last byte has the form `small`.
fn set_len<B: BufferSource>(
    out: &mut Writer<'_, B>,
    at: usize,
    count: usize,
    small: Marker,
    [large, larger]: [Marker; 2],
) -> Result<(), ValueError> {
    let count = len(count)?;
    let [a, b, c, d] = count.to_be_bytes();
    match count {
        0..=15 => out.replace(at, &[small.to_u8() | d]),
        16..=0xffff => out.replace(at, &[large.to_u8(), c, d]),
        _ => out.replace(at, &[larger.to_u8(), a, b, c, d]),
    }
    Ok(())
}

#[inline]
fn len(len: usize) -> Result<u32, ValueError> {
    u32::try_from(len).map_err(|_| ValueError::new("MessagePack has no lengths from 4 GiB"))
}

#[inline]
fn written<T, E: Display>(result: Result<T, E>) -> Result<(), ValueError> {
    result.map(|_| ()).map_err(ValueError::new)
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

    use super::*;

    /// Decodes a value that was walked over before, whatever it is.
    fn decode_after_walk<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
        checked(body, Err(ValueError::new("not read yet")), Doubt::Depth)
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Shape {
        A,
        B(Vec<Shape>),
        C { a: u8, b: Option<String> },
    }

    /// A list that makes nothing of elements that are no small numbers, whatever the error.
    #[derive(Debug, PartialEq)]
    struct Lenient(Vec<Option<u8>>);

    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Elements;
            impl<'de> Visitor<'de> for Elements {
                type Value = Lenient;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lenient, A::Error> {
                    let mut read = Vec::new();
                    loop {
                        match list.next_element::<Vec<u8>>() {
                            Ok(Some(bytes)) => read.push(bytes.first().copied()),
                            Ok(None) => return Ok(Lenient(read)),
                            Err(_) => read.push(None),
                        }
                    }
                }
            }
            deserializer.deserialize_seq(Elements)
        }
    }

    fn check<T: DeserializeOwned + fmt::Debug + PartialEq>(body: &[u8]) -> Result<(), TestCaseError> {
        prop_assert_eq!(decode::<T>(body), decode_after_walk::<T>(body));
        Ok(())
    }

    fn check_all(body: &[u8]) -> Result<(), TestCaseError> {
        check::<serde_json::Value>(body)?;
        check::<Shape>(body)?;
        check::<Vec<Option<(u8, String)>>>(body)?;
        check::<BTreeMap<String, crate::Bytes>>(body)?;
        check::<Lenient>(body)?;
        prop_assert_eq!(decode::<IgnoredAny>(body).err(), decode_after_walk::<IgnoredAny>(body).err());
        Ok(())
    }

    /// Markers of all kinds, and small numbers, which are lengths as well.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            4 => 0_u8..3,
            2 => 0x80_u8..0x83,
            2 => 0x90_u8..0x93,
            2 => 0xa0_u8..0xa3,
            2 => Just(b'A'),
            1 => 0xc0_u8..0xe1,
            1 => any::<u8>(),
        ]
    }

    fn shapes() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![Just(vec![0xa1, b'A']), Just(vec![0x81, 0xa1, b'C', 0x81, 0xa1, b'a', 7])];
        leaf.prop_recursive(12, 40, 3, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(|inner| {
                let mut bytes = vec![0x81, 0xa1, b'B', 0x90 | inner.len() as u8];
                bytes.extend(inner.concat());
                bytes
            })
        })
    }

    proptest! {
        #[test]
        fn any_bytes_decode_as_after_a_walk(body in proptest::collection::vec(byte(), 0..24)) {
            check_all(&body)?;
        }

        #[test]
        fn nested_value_decodes_as_after_a_walk(
            mut body in shapes(),
            at in any::<prop::sample::Index>(),
            other in byte(),
            cut in any::<prop::sample::Index>(),
        ) {
            check_all(&body)?;
            prop_assert!(decode::<Shape>(&body).is_ok());
            check_all(&body[..cut.index(body.len())])?;
            let at = at.index(body.len());
            body[at] = other;
            check_all(&body)?;
        }
    }

    #[test]
    fn bytes_that_a_type_makes_nothing_of_are_still_checked() {
        // A string, an extension and a list that are cut short, a reserved byte, and a list that is too deep.
        let mut deep = vec![0x91; MAX_DEPTH + 1];
        deep.push(0xc0);
        for body in [&[0x91, 0xa1][..], &[0x91, 0xd4], &[0x91, 0x91], &[0x91, 0xc1], &deep] {
            assert_eq!(decode::<Lenient>(body).unwrap_err(), walk::extent(body).unwrap_err());
        }
        assert_eq!(decode(&[0x92, 0xa1, b'A', 0x91, 7]), Ok(Lenient(vec![None, Some(7)])));
    }
}
