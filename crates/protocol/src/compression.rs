//! Compression of bodies: four bytes of length, little-endian, then one LZ4 block.

use bytes::Bytes;
use thiserror::Error;

use crate::limits::MaxFrameBytes;

/// A body compression that both sides may agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// LZ4 blocks: very fast, with a moderate reduction in size.
    #[cfg(feature = "lz4")]
    Lz4,
}

/// The largest ratio of a decompressed LZ4 block to its size. A length above it cannot be true.
#[cfg(feature = "lz4")]
const MAX_EXPANSION: usize = 255;

// Without a compression, the type has no values, and the arguments are unused.
#[cfg_attr(not(feature = "lz4"), allow(unused_variables))]
impl Compression {
    /// The smallest body, in bytes, that is compressed: 1 KiB. Compressing a smaller one costs more than sending it.
    pub const MIN_BYTES: usize = 1024;

    /// Returns the compressions that are built in, in order of preference.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        vec![
            #[cfg(feature = "lz4")]
            Self::Lz4,
        ]
    }

    /// Returns the name in an Option.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => "lz4",
        }
    }

    /// Compresses a body of at least 1 KiB. `None` if it is smaller, or if compression does not shrink it.
    #[must_use]
    pub fn compress(self, body: &[u8]) -> Option<Bytes> {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => {
                if body.len() < Self::MIN_BYTES || u32::try_from(body.len()).is_err() {
                    return None;
                }
                let compressed = lz4_flex::block::compress_prepend_size(body);
                (compressed.len() < body.len()).then(|| compressed.into())
            }
        }
    }

    /// Returns the length of a compressed body once it is decompressed, in bytes, which is written in front of it.
    ///
    /// # Errors
    ///
    /// The length exceeds `limit` or the largest possible expansion of the block.
    pub fn decompressed_len(
        self,
        compressed: &[u8],
        limit: MaxFrameBytes,
    ) -> Result<usize, CompressionError> {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => split(compressed, limit).map(|(length, _)| length),
        }
    }

    /// Decompresses a body.
    ///
    /// # Errors
    ///
    /// As for [`Compression::decompressed_len`], or the block does not decompress to exactly that length. No memory
    /// is reserved for a length that is refused.
    pub fn decompress(self, compressed: &[u8], limit: MaxFrameBytes) -> Result<Bytes, CompressionError> {
        match self {
            #[cfg(feature = "lz4")]
            Self::Lz4 => {
                let (length, block) = split(compressed, limit)?;
                let mut body = vec![0; length];
                match lz4_flex::block::decompress_into(block, &mut body) {
                    Ok(written) if written == length => Ok(body.into()),
                    _ => Err(CompressionError::Malformed { length, block: block.len() }),
                }
            }
        }
    }
}

/// Returns the length that a compressed body states, which is possible, and the block behind it.
#[cfg(feature = "lz4")]
fn split(compressed: &[u8], limit: MaxFrameBytes) -> Result<(usize, &[u8]), CompressionError> {
    let (length, block) =
        compressed.split_first_chunk().ok_or(CompressionError::NoLength { len: compressed.len() })?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit.get() {
        return Err(CompressionError::TooLarge { length, limit });
    }
    if length > block.len().saturating_mul(MAX_EXPANSION) {
        return Err(CompressionError::Malformed { length, block: block.len() });
    }
    Ok((length, block))
}

/// A compressed body that does not decompress.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompressionError {
    /// The body is too short to contain its length.
    #[error("compressed body of {len} bytes: no room for its 4 bytes of length")]
    NoLength {
        /// The length in bytes.
        len: usize,
    },
    /// The decompressed body would exceed the limit of this side.
    #[error("compressed body: {length} bytes decompressed, {limit} are allowed")]
    TooLarge {
        /// The decompressed length that the body states, in bytes.
        length: usize,
        /// The limit in force.
        limit: MaxFrameBytes,
    },
    /// The block is damaged, or does not decompress to the stated length.
    #[error("compressed body: the block of {block} bytes does not decompress to {length} bytes")]
    Malformed {
        /// The decompressed length that the body states, in bytes.
        length: usize,
        /// The size of the block, in bytes.
        block: usize,
    },
}

#[cfg(all(test, feature = "lz4"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LZ4: Compression = Compression::Lz4;

    #[test]
    fn body_survives_compression() {
        let body = b"the same again, ".repeat(1000);
        let compressed = LZ4.compress(&body).unwrap();
        assert!(compressed.len() < body.len() / 10);
        assert_eq!(compressed[..4], (body.len() as u32).to_le_bytes());
        assert_eq!(LZ4.decompress(&compressed, MaxFrameBytes::DEFAULT).unwrap(), body);
    }

    #[test]
    fn small_and_incompressible_bodies_are_not_compressed() {
        assert_eq!(LZ4.compress(&[0; 1023]), None);
        assert!(LZ4.compress(&[0; 1024]).is_some());
        let mut state = 0x9e37_79b9_u32;
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                // Xorshift: Marsaglia, "Xorshift RNGs", 2003.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 24) as u8
            })
            .collect();
        assert_eq!(LZ4.compress(&noise), None);
    }

    #[test]
    fn length_over_the_limit_is_refused_before_decompressing() {
        let bomb = [&0x7fff_ffff_u32.to_le_bytes()[..], &[0; 64]].concat();
        assert_eq!(
            LZ4.decompress(&bomb, MaxFrameBytes::DEFAULT),
            Err(CompressionError::TooLarge { length: 0x7fff_ffff, limit: MaxFrameBytes::DEFAULT })
        );
    }

    #[test]
    fn body_of_the_limit_is_decompressed() {
        let compressed = LZ4.compress(&[7; 2000]).unwrap();
        assert_eq!(LZ4.decompress(&compressed, MaxFrameBytes::new(2000)).unwrap(), vec![7; 2000]);
        assert!(LZ4.decompress(&compressed, MaxFrameBytes::new(1999)).is_err());
        // Shorter than it says: the block is one byte.
        let short = [&2_u32.to_le_bytes()[..], &[0x10, 7]].concat();
        assert_eq!(
            LZ4.decompress(&short, MaxFrameBytes::DEFAULT),
            Err(CompressionError::Malformed { length: 2, block: 2 })
        );
        let error = LZ4.decompress(&[1, 0, 0], MaxFrameBytes::DEFAULT).unwrap_err();
        assert_eq!(error.to_string(), "compressed body of 3 bytes: no room for its 4 bytes of length");
    }

    #[test]
    fn built_in_compressions_have_names() {
        assert_eq!(Compression::built_in(), [LZ4]);
        assert_eq!(LZ4.name(), "lz4");
    }

    #[test]
    fn length_that_the_block_cannot_hold_is_refused() {
        let wrong = [&1_000_000_u32.to_le_bytes()[..], &[0; 64]].concat();
        assert_eq!(
            LZ4.decompress(&wrong, MaxFrameBytes::DEFAULT),
            Err(CompressionError::Malformed { length: 1_000_000, block: 64 })
        );
        // It is known before anything is decompressed.
        assert!(LZ4.decompressed_len(&wrong, MaxFrameBytes::DEFAULT).is_err());
        let possible = [&(64_u32 * 255).to_le_bytes()[..], &[0; 64]].concat();
        assert_eq!(LZ4.decompressed_len(&possible, MaxFrameBytes::DEFAULT), Ok(64 * 255));
    }

    proptest! {
        #[test]
        fn any_bytes_decompress_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = LZ4.decompress(&bytes, MaxFrameBytes::new(4096));
        }
    }
}
