//! Walks one MessagePack value without recursion, before anything is built from it.
//!
//! A deserializer that recurses can be driven to overflow its stack, which ends the process, and
//! rmp-serde's own depth limit does not see enums, options and newtypes. So the bytes are walked
//! first: depth is bounded, a count never exceeds what the bytes behind it can hold, and the
//! value's end is known, so that trailing bytes show.

use rmp::Marker;

use super::error::DecodeError;
use crate::limits::MAX_DEPTH;

/// Most values nest no deeper. To clear the places for all that are allowed would take longer than
/// the walk through a small one.
const SHALLOW: usize = 8;

/// The length in bytes of the value that `bytes` begin with.
pub(crate) fn value_len(bytes: &[u8]) -> Result<usize, DecodeError> {
    match value_len_within(bytes, &mut [0; SHALLOW]) {
        Err(DecodeError::TooDeep { .. }) => value_len_within(bytes, &mut [0; MAX_DEPTH]),
        found => found,
    }
}

/// The same where as many levels are allowed as `open` has places: each is for how many values are
/// still to come in the container that is open there.
fn value_len_within(bytes: &[u8], open: &mut [u64]) -> Result<usize, DecodeError> {
    let mut walk = Walk { bytes, at: 0 };
    let mut depth = 0;
    loop {
        let children = walk.step()?;
        if children > 0 {
            if depth == open.len() {
                return Err(DecodeError::TooDeep { at: walk.at, limit: open.len() });
            }
            // Each value has at least one byte, so this also bounds what a reader reserves.
            if children > (bytes.len() - walk.at) as u64 {
                return Err(DecodeError::Truncated { at: walk.at });
            }
            open[depth] = children;
            depth += 1;
            continue;
        }
        loop {
            if depth == 0 {
                return Ok(walk.at);
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
    /// Passes over one marker with its own data; returns how many values it contains.
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
    fn a_value_ends_where_its_bytes_end() {
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
    fn what_is_wrong_below_many_levels_is_told_as_it_is() {
        for depth in [SHALLOW - 1, SHALLOW, MAX_DEPTH - 1] {
            let mut bytes = vec![0x91; depth];
            // The last level promises two values and has one.
            bytes.extend_from_slice(&[0x92, 0xc0]);
            assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: depth + 1 }));
            bytes.push(0xc1);
            assert_eq!(value_len(&bytes), Err(DecodeError::Reserved { at: depth + 2 }));
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_from_the_count_alone() {
        let bytes = [0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0];
        assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: 5 }));
        let bytes = [0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0];
        assert_eq!(value_len(&bytes), Err(DecodeError::Truncated { at: 5 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(len) = value_len(&bytes) {
                prop_assert!(len <= bytes.len() && len > 0);
            }
        }
    }
}
