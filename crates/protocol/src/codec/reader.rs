//! [`Reader`]: the bytes of a MessagePack value, marker by marker. Bytes that it cannot read make the value
//! doubtful, and are named by the walk. How the types of serde are read from it is left to the module `deserializer`.

use std::fmt;

use rmp::Marker;
use serde::de::{self, Error as _, Unexpected, Visitor};

use super::error::{DecodeError, ValueError};

/// Reads values from a slice.
pub(super) struct Reader<'de> {
    pub(super) bytes: &'de [u8],
    pub(super) at: usize,
    /// `true` while the key of a map is read: there, text stands for a number, as in JSON, and the reverse.
    pub(super) is_key: bool,
    /// The key that is likely to be the next one: the name of a struct's field.
    pub(super) likely_key: &'static str,
    /// The number of levels that the value may still have.
    levels_left: usize,
    /// The reason not to trust the value, whatever a type's `Deserialize` makes of errors.
    doubt: Doubt,
}

/// Reasons not to trust the value that was read, in the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    None,
    /// An error, which may be one of the bytes.
    Error,
    /// More levels than the value may have.
    Depth,
}

impl<'de> Reader<'de> {
    /// Creates a reader of a value with any number of levels.
    #[inline]
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self::within(bytes, usize::MAX)
    }

    /// Creates a reader of a value with at most this number of levels.
    #[inline]
    pub(super) const fn within(bytes: &'de [u8], levels: usize) -> Self {
        Self { bytes, at: 0, is_key: false, likely_key: "", levels_left: levels, doubt: Doubt::None }
    }

    /// Returns the reason not to trust what was read, `None` included.
    #[inline]
    pub(super) const fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// Notes that an error is returned to a type's `Deserialize`, which may not pass it on.
    #[cold]
    pub(super) fn failed(&mut self) {
        self.doubt = self.doubt.max(Doubt::Error);
    }

    /// Begins a container of `count` values, which [`Reader::leave`] ends.
    #[inline]
    pub(super) fn enter(&mut self, count: usize) -> Result<(), ValueError> {
        // Each value has at least one byte, so this also bounds the memory that a type reserves.
        if count > self.bytes.len() - self.at {
            return Err(self.truncated());
        }
        if self.levels_left == 0 {
            return Err(self.too_deep());
        }
        self.levels_left -= 1;
        Ok(())
    }

    /// Ends a container.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.levels_left += 1;
    }

    /// Takes a number below 128, the most frequent ones.
    #[inline]
    pub(super) fn small_number(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        if byte >= 0x80 {
            return None;
        }
        self.at += 1;
        Some(byte)
    }

    /// Takes a number from 128 on that at least as many bytes follow as the largest has: it is read in one piece, whatever
    /// its size.
    #[inline]
    pub(super) fn large_number(&mut self) -> Option<u64> {
        let [marker, number @ ..] = self.bytes.get(self.at..)?.first_chunk::<{ 1 + size_of::<u64>() }>()?;
        // The markers of 1, 2, 4 and 8 bytes follow one another.
        let exponent = marker.wrapping_sub(Marker::U8.to_u8());
        if exponent > 3 {
            return None;
        }
        let len = 1 << exponent;
        self.at += 1 + len;
        Some(u64::from_be_bytes(*number) >> (u64::BITS as usize - 8 * len))
    }

    /// Takes a number from 128 on that nothing follows, as it is the whole value of many results.
    #[inline]
    pub(super) fn last_number(&mut self) -> Option<u64> {
        const U8: u8 = Marker::U8.to_u8();
        const U16: u8 = Marker::U16.to_u8();
        const U32: u8 = Marker::U32.to_u8();
        let number = match *self.bytes.get(self.at..)? {
            [U8, number] => number.into(),
            [U16, a, b] => u16::from_be_bytes([a, b]).into(),
            [U32, a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
            _ => return None,
        };
        self.at = self.bytes.len();
        Some(number)
    }

    /// Takes a string of less than 32 bytes.
    #[inline]
    pub(super) fn short_text(&mut self) -> Option<&'de [u8]> {
        let (marker, rest) = self.bytes.get(self.at..)?.split_first()?;
        let text = rest.get(..small_len(*marker, 0xa0, 32)?)?;
        self.at += 1 + text.len();
        Some(text)
    }

    /// Takes a key of a few bytes, if it is the likely one, whose text need not be checked to be UTF-8.
    #[inline]
    pub(super) fn likely_key(&mut self) -> Option<&'static str> {
        let key = self.likely_key;
        let (marker, rest) = self.bytes.get(self.at..)?.split_first()?;
        if usize::from(*marker ^ 0xa0) != key.len() || !is_same_short(rest.get(..key.len())?, key.as_bytes())
        {
            return None;
        }
        self.at += 1 + key.len();
        Some(key)
    }

    /// Takes the marker of a map with less than 16 entries, and returns their number.
    #[inline]
    pub(super) fn small_map(&mut self) -> Option<usize> {
        let len = small_len(*self.bytes.get(self.at)?, 0x80, 16)?;
        self.at += 1;
        Some(len)
    }

    /// Takes the marker of a list with less than 16 elements, and returns their number.
    #[inline]
    pub(super) fn small_list(&mut self) -> Option<usize> {
        let len = small_len(*self.bytes.get(self.at)?, 0x90, 16)?;
        self.at += 1;
        Some(len)
    }

    /// Reads a key as text for an error.
    pub(super) fn key_text(&mut self) -> String {
        self.is_key = true;
        <String as de::Deserialize<'_>>::deserialize(self).unwrap_or_default()
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Result<Marker, ValueError> {
        match self.bytes.get(self.at) {
            Some(byte) => Ok(Marker::from_u8(*byte)),
            None => Err(self.truncated()),
        }
    }

    #[inline]
    pub(super) fn marker(&mut self) -> Result<Marker, ValueError> {
        let marker = self.peek()?;
        self.at += 1;
        Ok(marker)
    }

    #[inline]
    pub(super) fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], ValueError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let Some(taken) = taken else { return Err(self.truncated()) };
        self.at += LEN;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn slice(&mut self, len: usize) -> Result<&'de [u8], ValueError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        let Some(taken) = taken else { return Err(self.truncated()) };
        self.at += len;
        Ok(taken)
    }

    #[cold]
    fn truncated(&mut self) -> ValueError {
        self.failed();
        DecodeError::Truncated { at: self.at }.into()
    }

    #[cold]
    fn too_deep(&mut self) -> ValueError {
        self.doubt = Doubt::Depth;
        ValueError::new("the value nests too deep")
    }

    /// Reads the length behind a marker of a string, a byte string, a list or a map.
    #[inline]
    pub(super) fn len(&mut self, marker: Marker) -> Result<usize, ValueError> {
        Ok(match marker {
            Marker::FixStr(len) | Marker::FixArray(len) | Marker::FixMap(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => self.take::<1>()?[0].into(),
            Marker::Str16 | Marker::Bin16 | Marker::Array16 | Marker::Map16 => {
                u16::from_be_bytes(self.take()?).into()
            }
            _ => u32::from_be_bytes(self.take()?) as usize,
        })
    }

    /// Reads nil, a bool or a number, whose marker was read.
    #[inline(never)]
    pub(super) fn scalar<V: Visitor<'de>>(
        &mut self,
        marker: Marker,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match marker {
            Marker::Null => visitor.visit_unit(),
            Marker::True => visitor.visit_bool(true),
            Marker::False => visitor.visit_bool(false),
            Marker::FixPos(value) => visitor.visit_u8(value),
            Marker::FixNeg(value) => visitor.visit_i8(value),
            Marker::U8 => visitor.visit_u8(u8::from_be_bytes(self.take()?)),
            Marker::U16 => visitor.visit_u16(u16::from_be_bytes(self.take()?)),
            Marker::U32 => visitor.visit_u32(u32::from_be_bytes(self.take()?)),
            Marker::U64 => visitor.visit_u64(u64::from_be_bytes(self.take()?)),
            Marker::I8 => visitor.visit_i8(i8::from_be_bytes(self.take()?)),
            Marker::I16 => visitor.visit_i16(i16::from_be_bytes(self.take()?)),
            Marker::I32 => visitor.visit_i32(i32::from_be_bytes(self.take()?)),
            Marker::I64 => visitor.visit_i64(i64::from_be_bytes(self.take()?)),
            Marker::F32 => visitor.visit_f32(f32::from_be_bytes(self.take()?)),
            Marker::F64 => visitor.visit_f64(f64::from_be_bytes(self.take()?)),
            Marker::Reserved => {
                self.failed();
                Err(DecodeError::Reserved { at: self.at - 1 }.into())
            }
            _ => {
                self.failed();
                Err(ValueError::invalid_type(Unexpected::Other("extension of MessagePack"), &visitor))
            }
        }
    }

    /// Reads an integer of 128 bits: an integer, its decimal text, or the 16 bytes of rmp-serde.
    pub(super) fn wide<T, E>(
        &mut self,
        expected: &'static str,
        from_bytes: impl FnOnce([u8; 16]) -> T,
    ) -> Result<T, ValueError>
    where
        T: std::str::FromStr<Err = E> + TryFrom<u64> + TryFrom<i64>,
        E: fmt::Display,
    {
        let marker = self.peek()?;
        let wrong = |found: Unexpected<'_>| ValueError::invalid_type(found, &expected);
        match marker {
            marker if is_string(marker) => {
                let text = self.text()?;
                text.parse().map_err(|_| ValueError::invalid_value(Unexpected::Str(text), &expected))
            }
            Marker::Bin8 => {
                self.at += 1;
                let len = self.len(marker)?;
                let bytes = self.slice(len)?;
                bytes.try_into().map(from_bytes).map_err(|_| wrong(Unexpected::Bytes(bytes)))
            }
            _ => {
                self.at += 1;
                let number = self.scalar(marker, Integer(expected))?;
                match number {
                    Ok(value) => T::try_from(value).map_err(|_| wrong(Unexpected::Unsigned(value))),
                    Err(value) => T::try_from(value).map_err(|_| wrong(Unexpected::Signed(value))),
                }
            }
        }
    }

    /// Reads a string for which another value is expected.
    pub(super) fn text(&mut self) -> Result<&'de str, ValueError> {
        let marker = self.marker()?;
        if !is_string(marker) {
            return Err(ValueError::new("a number is expected"));
        }
        let len = self.len(marker)?;
        self.utf8(len)
    }

    #[inline]
    pub(super) fn utf8(&mut self, len: usize) -> Result<&'de str, ValueError> {
        let text = self.slice(len)?;
        self.checked(text)
    }

    /// Returns the bytes of a string that was just read as text.
    #[inline]
    pub(super) fn checked(&self, text: &'de [u8]) -> Result<&'de str, ValueError> {
        std::str::from_utf8(text).map_err(|error| {
            ValueError::new(format_args!("the string before byte {} is no UTF-8: {error}", self.at))
        })
    }
}

/// Returns the length in a marker that begins a value with its length, from `first` on, below `limit`.
#[inline]
const fn small_len(marker: u8, first: u8, limit: u8) -> Option<usize> {
    let len = marker ^ first;
    if len < limit { Some(len as usize) } else { None }
}

/// Returns `true` if two texts of one length are the same, and have at most 16 bytes: in pieces of a length that the compiler
/// knows, which may overlap.
#[inline]
fn is_same_short(one: &[u8], other: &[u8]) -> bool {
    fn in_two<const PIECE: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<PIECE>() == other.first_chunk::<PIECE>()
            && one.last_chunk::<PIECE>() == other.last_chunk::<PIECE>()
    }
    match other.len() {
        0..=3 => one.iter().zip(other).all(|(one, other)| one == other),
        4..=7 => in_two::<4>(one, other),
        8..=16 => in_two::<8>(one, other),
        _ => false,
    }
}

#[inline]
pub(super) const fn is_string(marker: Marker) -> bool {
    matches!(marker, Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32)
}

/// Returns `true` for nil, bools and numbers.
#[inline]
pub(super) const fn is_scalar(marker: Marker) -> bool {
    matches!(
        marker,
        Marker::Null
            | Marker::True
            | Marker::False
            | Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::U8
            | Marker::U16
            | Marker::U32
            | Marker::U64
            | Marker::I8
            | Marker::I16
            | Marker::I32
            | Marker::I64
            | Marker::F32
            | Marker::F64
    )
}

/// Reads an integer of at most 64 bits: an unsigned one, or a negative one as the error.
struct Integer(&'static str);

impl Visitor<'_> for Integer {
    type Value = Result<u64, i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Ok(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_err(|_| value))
    }
}

/// Reads a number or a bool as its text.
pub(super) struct ScalarText;

impl Visitor<'_> for ScalarText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}
