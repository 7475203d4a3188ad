//! [`BodyBuffer`]: the bytes of a request's body as they come. Limits of size and time are for its reader.

use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;

use crate::byte_shares::HeldBytes;

/// The bytes that are copied before other tasks run, when a buffer grows.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// A buffer that counts in [`ByteShares`](crate::ByteShares) as it lies in memory, and grows without a long turn: it
/// is of a power of two, or of the size of the whole body, and what it holds is copied part by part. The smaller buffer does
/// not count while it is copied.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_transport::PeerAddress;
/// use farcall_web::{BodyBuffer, ByteShares};
///
/// let shares = ByteShares::new(1 << 20);
/// let mut body = BodyBuffer::new(shares.hold(PeerAddress::Memory.key()), 64 * 1024);
/// assert!(body.push(b"hello").await);
/// let (bytes, held) = body.finish();
/// assert_eq!((&bytes[..], held.bytes()), (&b"hello"[..], 4096));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BodyBuffer {
    bytes: BytesMut,
    held: HeldBytes,
    max: usize,
}

impl BodyBuffer {
    /// The size of the smallest buffer, in bytes.
    pub const MIN_BYTES: usize = 4 * 1024;

    /// Creates an empty buffer for a body of at most `max` bytes, of which no more are reserved.
    #[must_use]
    pub fn new(held: HeldBytes, max: usize) -> Self {
        Self { bytes: BytesMut::new(), held, max: max.max(Self::MIN_BYTES) }
    }

    /// Returns the number of bytes that have come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns `true` if none has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes that all buffers share, as [`ByteShares::limit`](crate::ByteShares::limit) does.
    #[must_use]
    pub const fn shared_limit(&self) -> usize {
        self.held.limit()
    }

    /// Adds a part. Returns `false`, and adds nothing, if there is no memory for it.
    pub async fn push(&mut self, part: &[u8]) -> bool {
        let size = self.bytes.len() + part.len();
        if size > self.bytes.capacity() && !self.grow(size).await {
            return false;
        }
        self.bytes.extend_from_slice(part);
        true
    }

    /// Returns the bytes, and what counts for them.
    #[must_use]
    pub fn finish(self) -> (Bytes, HeldBytes) {
        (self.bytes.freeze(), self.held)
    }

    async fn grow(&mut self, size: usize) -> bool {
        let room =
            size.checked_next_power_of_two().unwrap_or(size).clamp(Self::MIN_BYTES, self.max.max(size));
        if !self.held.resize(room) {
            return false;
        }
        let mut larger = BytesMut::with_capacity(room);
        for part in self.bytes.chunks(COPIED_AT_ONCE) {
            if !larger.is_empty() {
                yield_now().await;
            }
            larger.extend_from_slice(part);
        }
        self.bytes = larger;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use farcall_transport::PeerAddress;

    use super::*;
    use crate::byte_shares::ByteShares;

    const KIB: usize = 1024;

    fn buffer(shares: &ByteShares, max: usize) -> BodyBuffer {
        BodyBuffer::new(shares.hold(PeerAddress::Memory.key()), max)
    }

    #[tokio::test]
    async fn bytes_are_kept_and_counted_as_powers_of_two() {
        let shares = ByteShares::new(usize::MAX);
        for (parts, max, held) in [
            (&[][..], 100, 0),
            (&[1], 100, 4 * KIB),
            (&[5 * KIB], 100 * KIB, 8 * KIB),
            (&[60 * KIB, 5 * KIB], 100 * KIB, 100 * KIB),
            (&[1, 70 * KIB, 1, 600 * KIB, 3], 4096 * KIB, 1024 * KIB),
        ] {
            let (mut body, mut expected) = (buffer(&shares, max), Vec::new());
            for (number, size) in (0..).zip(parts) {
                let part = vec![number; *size];
                assert!(body.push(&part).await);
                expected.extend(part);
                assert_eq!((body.len(), body.is_empty()), (expected.len(), false));
            }
            let (bytes, counted) = body.finish();
            assert!(bytes == expected && counted.bytes() == held, "{parts:?}: {}", counted.bytes());
        }
    }

    #[tokio::test]
    async fn buffer_is_filled_to_its_end_without_being_copied() {
        let shares = ByteShares::new(usize::MAX);
        let mut body = buffer(&shares, 100 * KIB);
        assert!(body.push(&[1; KIB]).await);
        let place = body.bytes.as_ptr();
        for part in [&[2; KIB][..], &[3; 2 * KIB], &[]] {
            assert!(body.push(part).await);
            assert_eq!(body.bytes.as_ptr(), place);
        }
        assert_eq!((body.len(), body.held.bytes()), (4 * KIB, 4 * KIB));
        assert!(body.push(&[4]).await);
        assert_eq!((body.len(), body.held.bytes()), (4 * KIB + 1, 8 * KIB));
    }

    #[tokio::test]
    async fn growth_of_a_large_body_lets_others_run() {
        let shares = ByteShares::new(usize::MAX);
        let mut body = buffer(&shares, 4096 * KIB);
        assert!(body.push(&vec![1; 2048 * KIB]).await);
        let mut polls = 0;
        let mut push = pin!(body.push(&[2]));
        let pushed = poll_fn(|cx| {
            polls += 1;
            push.as_mut().poll(cx)
        });
        assert!(pushed.await);
        assert_eq!(polls, 2048 * KIB / COPIED_AT_ONCE);
    }

    #[tokio::test]
    async fn part_without_room_is_not_added() {
        // One holder has half.
        let shares = ByteShares::new(1024 * KIB);
        let mut body = buffer(&shares, 4096 * KIB);
        assert!(body.push(&[1; 4]).await && body.push(&vec![1; 200 * KIB]).await);
        assert_eq!((body.len(), body.held.bytes()), (200 * KIB + 4, 256 * KIB));
        assert!(!body.push(&vec![1; 400 * KIB]).await);
        assert_eq!((body.len(), body.held.bytes()), (200 * KIB + 4, 256 * KIB));
        drop(body);
        // As much as is there for a body whose size is known.
        let mut body = buffer(&shares, 512 * KIB);
        for _ in 0..512 {
            assert!(body.push(&[1; KIB]).await);
        }
        drop(body);
        assert!(shares.hold(PeerAddress::Memory.key()).resize(512 * KIB));
    }
}
