//! Bodies in JSON: a [`Format`] over serde_json's numbers and strings, and serde_json's deserializer. Its
//! recursion limit replaces that of the protocol: it refuses the 128th level, while MessagePack refuses the
//! 129th.

use std::fmt::Display;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter as _};

use super::deep::{json_levels, with_stack};
use super::error::{BoxError, DecodeError, ValueError};
use super::format::{Format, Serializer};
use super::relaxed::Relaxed;
use super::writer::Writer;
use crate::buffer_source::BufferSource;
use crate::limits::MAX_DEPTH;

/// The number of bytes that are converted to base64 at once: a multiple of 3, so that only the end is padded.
const BASE64_CHUNK: usize = 3 * 256;

pub(super) fn encode<T: Serialize + ?Sized, B: BufferSource>(
    value: &T,
    out: Writer<'_, B>,
) -> Result<(), BoxError> {
    value.serialize(&mut Serializer::<Json, B>::new(out)).map_err(BoxError::from)
}

pub(super) fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, DecodeError> {
    with_stack(json_levels(body), || {
        serde_json::from_slice(body)
            .or_else(|error| decode_relaxed(body, error))
            .map_err(|error| DecodeError::value(named(&error, body)))
    })
}

/// Returns the text of an error, with a name for what serde_json calls trailing characters although they stand in a list.
#[cold]
fn named(error: &serde_json::Error, body: &[u8]) -> String {
    let text = error.to_string();
    match text.strip_prefix("trailing characters") {
        Some(place) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => {
            format!("a list has more elements than expected{place}")
        }
        _ => text,
    }
}

/// Reads a body again that did not decode, if the error is that of one of the two forms that serde_json does not read: see
/// `relaxed`. Other errors would only be found again.
#[cold]
fn decode_relaxed<'de, T: Deserialize<'de>>(
    body: &'de [u8],
    first: serde_json::Error,
) -> serde_json::Result<T> {
    let text = first.to_string();
    if !text.starts_with("invalid type: string") && !text.starts_with("invalid number") {
        return Err(first);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = T::deserialize(Relaxed(&mut deserializer)).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    value.map_err(|second| {
        // Behind the place of the first error the mistake is another one: what is there is one of the two forms.
        let place = |error: &serde_json::Error| (error.line(), error.column());
        if place(&second) > place(&first) { second } else { first }
    })
}

/// The largest string, in bytes, that is looked through for what has to be escaped before it is written in one piece.
const MAX_PLAIN: usize = 32;

/// Returns `true` if a string is short, and the same between quotation marks.
#[inline]
pub(crate) fn is_plain(text: &str) -> bool {
    text.len() <= MAX_PLAIN && text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}

/// Writes a string of which [`is_plain`] returns `true`.
#[inline]
pub(crate) fn put_plain<B: BufferSource>(out: &mut Writer<'_, B>, text: &str) {
    out.put_short(b'"', text.as_bytes());
    out.put([b'"']);
}

/// JSON.
struct Json;

impl Format for Json {
    const NULL: u8 = b'n';
    const MAX_DEPTH: usize = MAX_DEPTH - 1;
    const IS_COUNTED: bool = false;

    fn null<B: BufferSource>(out: &mut Writer<'_, B>) -> Result<(), ValueError> {
        out.write_all(b"null").map_err(ValueError::new)
    }

    fn bool<B: BufferSource>(out: &mut Writer<'_, B>, value: bool) -> Result<(), ValueError> {
        CompactFormatter.write_bool(out, value).map_err(ValueError::new)
    }

    fn unsigned<B: BufferSource>(out: &mut Writer<'_, B>, value: u64) -> Result<(), ValueError> {
        CompactFormatter.write_u64(out, value).map_err(ValueError::new)
    }

    fn signed<B: BufferSource>(out: &mut Writer<'_, B>, value: i64) -> Result<(), ValueError> {
        CompactFormatter.write_i64(out, value).map_err(ValueError::new)
    }

    fn f32<B: BufferSource>(out: &mut Writer<'_, B>, value: f32) -> Result<(), ValueError> {
        if !value.is_finite() {
            return Err(no_number(value));
        }
        CompactFormatter.write_f32(out, value).map_err(ValueError::new)
    }

    fn f64<B: BufferSource>(out: &mut Writer<'_, B>, value: f64) -> Result<(), ValueError> {
        if !value.is_finite() {
            return Err(no_number(value));
        }
        CompactFormatter.write_f64(out, value).map_err(ValueError::new)
    }

    #[inline]
    fn str<B: BufferSource>(out: &mut Writer<'_, B>, value: &str) -> Result<(), ValueError> {
        if is_plain(value) {
            put_plain(out, value);
            return Ok(());
        }
        serde_json::to_writer(out, value).map_err(ValueError::new)
    }

    fn bytes<B: BufferSource>(out: &mut Writer<'_, B>, value: &[u8]) -> Result<(), ValueError> {
        let mut text = [0; BASE64_CHUNK / 3 * 4];
        out.write_all(b"\"").map_err(ValueError::new)?;
        for chunk in value.chunks(BASE64_CHUNK) {
            let len = STANDARD.encode_slice(chunk, &mut text).map_err(ValueError::new)?;
            out.write_all(&text[..len]).map_err(ValueError::new)?;
        }
        out.write_all(b"\"").map_err(ValueError::new)
    }

    /// Writes a list of numbers: other types read a string as its own bytes rather than as base64.
    fn foreign_bytes<B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        value: &[u8],
    ) -> Result<(), ValueError> {
        serde::Serializer::collect_seq(serializer, value)
    }

    fn json<B: BufferSource>(out: &mut Writer<'_, B>, text: &str) -> Result<(), ValueError> {
        out.write_all(text.as_bytes()).map_err(ValueError::new)
    }

    #[inline]
    fn begin_seq<B: BufferSource>(out: &mut Writer<'_, B>, _len: Option<usize>) -> Result<(), ValueError> {
        out.put([b'[']);
        Ok(())
    }

    #[inline]
    fn end_seq<B: BufferSource>(
        out: &mut Writer<'_, B>,
        _unknown: Option<usize>,
        _len: usize,
    ) -> Result<(), ValueError> {
        out.put([b']']);
        Ok(())
    }

    #[inline]
    fn begin_map<B: BufferSource>(out: &mut Writer<'_, B>, _len: Option<usize>) -> Result<(), ValueError> {
        out.put([b'{']);
        Ok(())
    }

    #[inline]
    fn end_map<B: BufferSource>(
        out: &mut Writer<'_, B>,
        _unknown: Option<usize>,
        _len: usize,
    ) -> Result<(), ValueError> {
        out.put([b'}']);
        Ok(())
    }

    #[inline]
    fn separate<B: BufferSource>(out: &mut Writer<'_, B>, index: usize) -> Result<(), ValueError> {
        if index > 0 {
            out.put([b',']);
        }
        Ok(())
    }

    #[inline]
    fn colon<B: BufferSource>(out: &mut Writer<'_, B>) -> Result<(), ValueError> {
        out.put([b':']);
        Ok(())
    }

    /// Writes the key, and encloses it in quotes if it is a number or a bool, which serde_json reads again.
    fn key<T: Serialize + ?Sized, B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        key: &T,
    ) -> Result<(), ValueError> {
        let at = serializer.out.position();
        key.serialize(&mut *serializer)?;
        match serializer.out.byte(at) {
            Some(b'"') => Ok(()),
            Some(first @ (b'0'..=b'9' | b'-' | b't' | b'f')) => {
                serializer.out.replace(at, &[b'"', first]);
                serializer.out.write_all(b"\"").map_err(ValueError::new)
            }
            _ => Err(ValueError::new("a key in JSON is a string, a number or a bool")),
        }
    }

    fn key_text(encoded: &[u8]) -> String {
        serde_json::from_slice(encoded).unwrap_or_default()
    }
}

#[cold]
fn no_number(value: impl Display) -> ValueError {
    ValueError::new(format_args!("JSON has no number `{value}`"))
}
