//! Bodies in MessagePack: structs as maps, enums tagged externally, and what has a text in serde as that text.

use std::fmt::Display;

use rmp::{Marker, encode as rmp_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::deep::with_stack;
use super::error::{BoxError, DecodeError, ValueError};
use super::format::{Format, Serializer};
use super::reader::Reader;
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

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let Extent { len, levels } = walk::extent(body)?;
    if len < body.len() {
        return Err(DecodeError::Trailing { at: len, extra: body.len() - len });
    }
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

/// Writes a number in its shortest form, in one piece: rmp writes the marker and the bytes behind it on their own.
#[inline]
fn put_unsigned<B: BufferSource>(out: &mut Writer<'_, B>, value: u64) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    match value {
        0..=0x7f => out.put([h]),
        0x80..=0xff => out.put([Marker::U8.to_u8(), h]),
        0x100..=0xffff => out.put([Marker::U16.to_u8(), g, h]),
        0x1_0000..=0xffff_ffff => out.put([Marker::U32.to_u8(), e, f, g, h]),
        _ => out.put([Marker::U64.to_u8(), a, b, c, d, e, f, g, h]),
    }
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
