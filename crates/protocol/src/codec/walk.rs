//! A walk over one MessagePack value without recursion, before it is deserialized.
//!
//! Deeply nested bytes can make a recursive deserializer overflow its stack, which aborts the process. The walk
//! checks the bytes first: the depth is bounded, no count exceeds the bytes that follow it, and the end of the
//! value is known, so that trailing bytes are detected.

use rmp::Marker;

use super::error::DecodeError;
use crate::limits::MAX_DEPTH;

/// The depth that most values stay within. Clearing an array of [`MAX_DEPTH`] levels takes longer than the
/// walk over a small value, so a smaller array is tried first.
const SHALLOW: usize = 8;

/// The size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The length in bytes.
    pub(super) len: usize,
    /// The number of levels: of arrays and maps in each other.
    pub(super) levels: usize,
}

/// Returns the length in bytes of the value at the start of `bytes`.
pub(crate) fn value_len(bytes: &[u8]) -> Result<usize, DecodeError> {
    extent(bytes).map(|extent| extent.len)
}

/// Returns the size of the value at the start of `bytes`.
#[inline]
pub(super) fn extent(bytes: &[u8]) -> Result<Extent, DecodeError> {
    flat_extent(bytes).map_or_else(|| any_extent(bytes), Ok)
}

fn any_extent(bytes: &[u8]) -> Result<Extent, DecodeError> {
    match extent_within(bytes, &mut [0; SHALLOW]) {
        Err(DecodeError::TooDeep { .. }) => extent_within(bytes, &mut [0; MAX_DEPTH]),
        found => found,
    }
}

/// The length in bytes of the values that begin with each marker, if that alone tells it; 0 otherwise.
const LENGTHS: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        lengths[byte] = match byte {
            // Small numbers, empty containers, nil and bools.
            0x00..=0x80 | 0x90 | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 1,
            // Strings.
            0xa0..=0xbf => 1 + (byte as u8 - 0xa0),
            0xcc | 0xd0 => 1 + 1,
            0xcd | 0xd1 => 1 + 2,
            0xca | 0xce | 0xd2 => 1 + 4,
            0xcb | 0xcf | 0xd3 => 1 + 8,
            _ => 0,
        };
        byte += 1;
    }
    lengths
};

/// Returns the size of a value that is whole and has at most one level, with fewer than 16 elements, as most arguments and
/// results are: in one look at each. `None` for any other, which is walked.
#[inline]
fn flat_extent(bytes: &[u8]) -> Option<Extent> {
    let elements = match *bytes.first()? {
        marker @ 0x81..=0x8f => 2 * (marker - 0x80),
        marker @ 0x91..=0x9f => marker - 0x90,
        _ => return Some(Extent { len: flat_end(bytes, 0).filter(|end| *end <= bytes.len())?, levels: 0 }),
    };
    let mut len = 1;
    for _ in 0..elements {
        len = flat_end(bytes, len)?;
    }
    (len <= bytes.len()).then_some(Extent { len, levels: 1 })
}

/// Returns where the value at `at` ends, which is no container, or an empty one; it may be cut off.
#[inline]
fn flat_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let marker = *rest.first()?;
    match LENGTHS[usize::from(marker)] {
        0 => long_end(rest).map(|len| at + len),
        len => Some(at + usize::from(len)),
    }
}

/// Returns the length of a string or byte string that has its length behind the marker.
fn long_end(bytes: &[u8]) -> Option<usize> {
    Some(match *bytes {
        [0xc4 | 0xd9, len, ..] => 2 + usize::from(len),
        [0xc5 | 0xda, a, b, ..] => 3 + usize::from(u16::from_be_bytes([a, b])),
        [0xc6 | 0xdb, a, b, c, d, ..] => 5 + u32::from_be_bytes([a, b, c, d]) as usize,
        _ => return None,
    })
}

/// Returns the size of the value, with at most `open.len()` levels. Each element of `open` counts the values
/// that remain in the open container of that level.
fn extent_within(bytes: &[u8], open: &mut [u64]) -> Result<Extent, DecodeError> {
    let mut walk = Walk { bytes, at: 0 };
    let (mut depth, mut levels) = (0, 0);
    loop {
        let children = walk.step()?;
        if children > 0 {
            if depth == open.len() {
                return Err(DecodeError::TooDeep { at: walk.at, limit: open.len() });
            }
            // Each value has at least one byte, so this also bounds the memory that a reader reserves.
            if children > (bytes.len() - walk.at) as u64 {
                return Err(DecodeError::Truncated { at: walk.at });
            }
            open[depth] = children;
            depth += 1;
            levels = levels.max(depth);
            continue;
        }
        loop {
            if depth == 0 {
                return Ok(Extent { len: walk.at, levels });
            }
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Skips one marker with its data and returns the number of values that it contains.
    fn step(&mut self) -> Result<u64, DecodeError> {
        let marker = Marker::from_u8(self.uint::<1>()? as u8);
        let data = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::U8 | Marker::I8 => 1,
            // An extension has one byte for its type before its data.
            Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(len) => u64::from(len),
            Marker::Str8 | Marker::Bin8 => self.uint::<1>()?,
            Marker::Str16 | Marker::Bin16 => self.uint::<2>()?,
            Marker::Str32 | Marker::Bin32 => self.uint::<4>()?,
            Marker::FixArray(len) => return Ok(u64::from(len)),
            Marker::Array16 => return self.uint::<2>(),
            Marker::Array32 => return self.uint::<4>(),
            Marker::FixMap(len) => return Ok(2 * u64::from(len)),
            Marker::Map16 => return Ok(2 * self.uint::<2>()?),
            Marker::Map32 => return Ok(2 * self.uint::<4>()?),
            Marker::FixExt2 => 1 + 2,
            Marker::FixExt4 => 1 + 4,
            Marker::FixExt8 => 1 + 8,
            Marker::FixExt16 => 1 + 16,
            Marker::Ext8 => 1 + self.uint::<1>()?,
            Marker::Ext16 => 1 + self.uint::<2>()?,
            Marker::Ext32 => 1 + self.uint::<4>()?,
            Marker::Reserved => return Err(DecodeError::Reserved { at: self.at - 1 }),
        };
        if data > (self.bytes.len() - self.at) as u64 {
            return Err(DecodeError::Truncated { at: self.bytes.len() });
        }
        self.at += data as usize;
        Ok(0)
    }

    /// Takes `WIDTH` bytes as a big-endian number.
    fn uint<const WIDTH: usize>(&mut self) -> Result<u64, DecodeError> {
        let taken = self.bytes[self.at..].first_chunk::<WIDTH>();
        let taken = taken.ok_or(DecodeError::Truncated { at: self.bytes.len() })?;
        self.at += WIDTH;
        Ok(taken.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_excludes_the_bytes_after_the_value() {
        for value in [&[0x2a][..], &[0x82, 0xa1, b'a', 6, 0xa1, b'b', 7], &[0xc4, 2, 1, 2], &[0x90]] {
            assert_eq!(value_len(value).unwrap(), value.len());
            let mut longer = value.to_vec();
            longer.push(0xc0);
            assert_eq!(value_len(&longer).unwrap(), value.len());
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x91; depth];
            bytes.push(0xc0);
            bytes
        };
        for depth in [SHALLOW, SHALLOW + 1, MAX_DEPTH] {
            assert_eq!(value_len(&nested(depth)), Ok(depth + 1));
        }
        let too_deep = Err(DecodeError::TooDeep { at: MAX_DEPTH + 1, limit: MAX_DEPTH });
        assert_eq!(value_len(&nested(MAX_DEPTH + 1)), too_deep);
        assert_eq!(value_len(&nested(4_000_000)), too_deep);
    }

    #[test]
    fn error_below_many_levels_is_reported_unchanged() {
        for depth in [SHALLOW - 1, SHALLOW, MAX_DEPTH - 1] {
            let mut bytes = vec![0x91; depth];
            // The last level announces two values and has one.
            bytes.extend_from_slice(&[0x92, 0xc0]);
            assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: depth + 1 }));
            bytes.push(0xc1);
            assert_eq!(value_len(&bytes), Err(DecodeError::Reserved { at: depth + 2 }));
        }
    }

    #[test]
    fn count_beyond_the_bytes_is_refused_when_it_is_read() {
        let bytes = [0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0];
        assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: 5 }));
        let bytes = [0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0];
        assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: 5 }));
    }

    /// Markers of all kinds, and small numbers, which are lengths as well.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![0_u8..8, 0x7f..0x84_u8, 0x90..0x94_u8, 0xa0..0xa4_u8, 0xc0..0xe1_u8, any::<u8>()]
    }

    proptest! {
        #[test]
        fn flat_values_have_the_same_size_in_one_look(bytes in proptest::collection::vec(byte(), 0..40)) {
            if let Some(flat) = flat_extent(&bytes) {
                prop_assert_eq!(any_extent(&bytes), Ok(flat));
            }
        }

        #[test]
        fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(len) = value_len(&bytes) {
                prop_assert!(len <= bytes.len() && len > 0);
            }
        }
    }
}
