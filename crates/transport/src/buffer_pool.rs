//! Memory for large messages and for encoded bodies, used again.
//!
//! An allocator returns large memory to the system as soon as it is free, and the system hands it out again
//! a page at a time, zeroed: for a megabyte there and back, half of a call's time. So the process keeps the
//! last such blocks, in use or not, and takes one that has no reader any more for the next large message. A
//! process without connections may keep some.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use farcall_protocol::{BufferSource, MIN_POOLED_BUFFER};
use web_time::Instant;

/// Larger blocks, in bytes, are left to the allocator.
const MAX_BLOCK: usize = 4 * 1024 * 1024;
/// The most that all kept blocks have together, in bytes; for the process.
const CAPACITY: usize = 16 * 1024 * 1024;
/// A block is not taken for less than this part of it, as a divisor.
const MAX_WASTE: usize = 4;
/// A block that was not used for this long is released.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The block of a thread's scratch buffer, in bytes: room for some dozens of typical bodies.
const SCRATCH_BLOCK: usize = 16 * 1024;
/// With less room than this left, in bytes, the next scratch block is due.
const MIN_SCRATCH: usize = 64;

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { blocks: VecDeque::new(), bytes: 0 });

thread_local! {
    /// Small bodies are cut from one block, which is used again when all that was cut from it has been
    /// dropped, so that most bodies cost no allocation.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// The process's pool of buffers. Every value of this type is a handle to the same pool.
///
/// ```
/// use farcall_protocol::{BufferSource, Codec};
/// use farcall_transport::BufferPool;
///
/// let buffer = BufferPool.take(100_000);
/// assert!(buffer.is_empty() && buffer.capacity() >= 100_000);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct BufferPool;

impl BufferSource for BufferPool {
    fn take(&self, capacity: usize) -> BytesMut {
        if (MIN_POOLED_BUFFER..=MAX_BLOCK).contains(&capacity)
            && let Some(block) = lock().take(capacity)
        {
            return block;
        }
        BytesMut::with_capacity(capacity)
    }

    fn recycle(&self, mut rest: BytesMut, size: usize) {
        if is_kept(size) {
            rest.clear();
            let excess = lock().recycle(Block { rest, size, idle_since: Instant::now() });
            // Memory goes back to the system outside of the lock.
            drop(excess);
        }
    }

    fn release_idle(&self) {
        let idle = lock().take_idle(Instant::now());
        drop(idle);
    }

    #[inline]
    fn with_scratch<T>(&self, encode: impl FnOnce(&mut BytesMut) -> T) -> T {
        SCRATCH.with(|scratch| {
            let (mut shared, mut separate);
            // One call of `encode`, so that the compiler inlines it.
            let scratch: &mut BytesMut = match scratch.try_borrow_mut() {
                Ok(scratch) => {
                    shared = scratch;
                    &mut shared
                }
                // A user's `Serialize` encodes a value itself.
                Err(_) => {
                    separate = BytesMut::new();
                    &mut separate
                }
            };
            // An encoder that panicked may have left some bytes.
            scratch.clear();
            if scratch.capacity() < MIN_SCRATCH {
                scratch.reserve(SCRATCH_BLOCK);
            }
            encode(scratch)
        })
    }
}

/// Returns `true` if blocks of this size are kept. Those of scratch buffers are not: messages and bodies take larger ones, so
/// that they would only fill the pool.
const fn is_kept(size: usize) -> bool {
    size > SCRATCH_BLOCK && size <= MAX_BLOCK
}

fn lock() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kept blocks: at most [`CAPACITY`] bytes.
struct Blocks {
    /// The one that was kept first is first.
    blocks: VecDeque<Block>,
    bytes: usize,
}

struct Block {
    /// Has no bytes; it reclaims the whole block once all that was cut from it has been dropped.
    rest: BytesMut,
    size: usize,
    idle_since: Instant,
}

impl Blocks {
    fn take(&mut self, capacity: usize) -> Option<BytesMut> {
        let fits = |block: &mut Block| {
            // The whole of it, or the rest would be lost.
            block.size >= capacity && block.size / MAX_WASTE <= capacity && block.rest.try_reclaim(block.size)
        };
        let index = self.blocks.iter_mut().position(fits)?;
        let block = self.blocks.remove(index)?;
        self.bytes -= block.size;
        Some(block.rest)
    }

    /// Keeps a block; returns those for which there is no room any more.
    fn recycle(&mut self, block: Block) -> Vec<Block> {
        self.bytes += block.size;
        self.blocks.push_back(block);
        let mut excess = Vec::new();
        while self.bytes > CAPACITY {
            excess.extend(self.remove_oldest());
        }
        excess
    }

    fn take_idle(&mut self, now: Instant) -> Vec<Block> {
        let mut idle = Vec::new();
        while self.blocks.front().is_some_and(|block| now - block.idle_since > IDLE_TIMEOUT) {
            idle.extend(self.remove_oldest());
        }
        idle
    }

    fn remove_oldest(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        self.bytes -= block.size;
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Blocks {
        Blocks { blocks: VecDeque::new(), bytes: 0 }
    }

    /// Returns a block all of which is in the returned message.
    fn used(size: usize) -> (Block, BytesMut) {
        let mut rest = BytesMut::with_capacity(size);
        rest.resize(size, 1);
        let message = rest.split();
        (Block { rest, size, idle_since: Instant::now() }, message)
    }

    #[test]
    fn block_is_reused_after_its_message_is_dropped() {
        let mut blocks = blocks();
        let (block, message) = used(100_000);
        let address = message.as_ptr();
        assert!(blocks.recycle(block).is_empty());
        assert!(blocks.take(100_000).is_none(), "the message is still alive");
        drop(message);
        assert!(blocks.take(100_001).is_none(), "the block is too small");
        assert!(blocks.take(20_000).is_none(), "most of the block would be wasted");
        let again = blocks.take(90_000).unwrap();
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty() && again.capacity() >= 90_000);
        assert_eq!(blocks.bytes, 0);
    }

    #[test]
    fn kept_blocks_are_bounded_and_expire() {
        let mut blocks = blocks();
        for _ in 0..100 {
            for size in [1_000_000, 20_000] {
                blocks.recycle(used(size).0);
                assert!(blocks.bytes <= CAPACITY);
                assert_eq!(blocks.bytes, blocks.blocks.iter().map(|block| block.size).sum::<usize>());
            }
        }
        assert!(blocks.bytes > CAPACITY / 2);
        assert!(blocks.take_idle(Instant::now() + IDLE_TIMEOUT / 2).is_empty());
        assert!(!blocks.take_idle(Instant::now() + 2 * IDLE_TIMEOUT).is_empty());
        assert_eq!((blocks.blocks.len(), blocks.bytes), (0, 0));
    }

    #[test]
    fn blocks_that_no_message_takes_are_not_kept() {
        const { assert!(SCRATCH_BLOCK >= MIN_POOLED_BUFFER) };
        assert!(!is_kept(SCRATCH_BLOCK) && !is_kept(MAX_BLOCK + 1));
        assert!(is_kept(SCRATCH_BLOCK + 1) && is_kept(MAX_BLOCK));
    }

    #[test]
    fn scratch_buffer_is_reused_by_its_thread() {
        let encode = |text: &[u8]| {
            BufferPool.with_scratch(|scratch| {
                assert!(scratch.is_empty() && scratch.capacity() >= MIN_SCRATCH);
                scratch.extend_from_slice(text);
                (scratch.split().freeze(), scratch.as_ptr())
            })
        };
        let (body, next) = encode(b"body");
        let (other, _) = encode(b"other");
        assert_eq!((&body[..], &other[..], other.as_ptr()), (&b"body"[..], &b"other"[..], next));
    }

    #[test]
    fn value_that_is_encoded_within_another_has_a_buffer_of_its_own() {
        let (outer, inner) = BufferPool.with_scratch(|outer| {
            outer.extend_from_slice(b"out");
            let inner = BufferPool.with_scratch(|inner| {
                inner.extend_from_slice(b"inner");
                inner.split().freeze()
            });
            outer.extend_from_slice(b"er");
            (outer.split().freeze(), inner)
        });
        assert_eq!((&outer[..], &inner[..]), (&b"outer"[..], &b"inner"[..]));
    }

    #[test]
    fn bytes_of_an_encoder_that_panicked_are_not_sent() {
        let panicked = std::panic::catch_unwind(|| {
            BufferPool.with_scratch(|scratch| {
                scratch.extend_from_slice(b"half of a");
                panic!("a `Serialize` that panics");
            })
        });
        assert!(panicked.is_err());
        assert!(BufferPool.with_scratch(|scratch| scratch.is_empty()));
    }
}
