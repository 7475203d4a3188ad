//! Memory for large messages, used again and again.
//!
//! An allocator hands large memory back to the system as soon as it is free, and the system gives it
//! again a page at a time, zeroed: with a megabyte there and back, half of a call's time. So the last
//! such blocks are remembered here, in use or not, and one that nobody has any more is taken for the
//! next large message. A process without connections may keep some.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// Smaller blocks, in bytes, are left to the allocator.
pub(crate) const LEAST: usize = 16 * 1024;
/// Larger ones, too.
const MOST: usize = 4 * 1024 * 1024;
/// What all blocks may have together, in bytes; of this process.
const ALL: usize = 16 * 1024 * 1024;
/// A block is not taken for less than this part of it.
const LEAST_PART: usize = 4;
/// Blocks that nobody wanted for so long are given back.
const KEPT_FOR: Duration = Duration::from_secs(10);

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks { blocks: VecDeque::new(), bytes: 0 });

/// Room for at least so many bytes.
pub(crate) fn take(least: usize) -> BytesMut {
    if (LEAST..=MOST).contains(&least)
        && let Some(block) = lock().take(least)
    {
        return block;
    }
    BytesMut::with_capacity(least)
}

/// Remembers a block of `size` bytes, of which `rest` is what nobody was given.
pub(crate) fn keep(mut rest: BytesMut, size: usize) {
    if (LEAST..=MOST).contains(&size) {
        rest.clear();
        let too_many = lock().keep(Block { rest, size, since: Instant::now() });
        // Memory goes back to the system outside of the lock.
        drop(too_many);
    }
}

/// Gives back what nobody wanted for some time.
pub(crate) fn give_back_idle() {
    let idle = lock().idle(Instant::now());
    drop(idle);
}

fn lock() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Blocks {
    /// Who was remembered first is first.
    blocks: VecDeque<Block>,
    bytes: usize,
}

struct Block {
    /// Has no bytes; it reclaims the whole block once all that was cut from it has been dropped.
    rest: BytesMut,
    size: usize,
    since: Instant,
}

impl Blocks {
    fn take(&mut self, least: usize) -> Option<BytesMut> {
        let fits = |block: &mut Block| {
            // The whole of it, or the rest would be forgotten.
            block.size >= least && block.size / LEAST_PART <= least && block.rest.try_reclaim(block.size)
        };
        let index = self.blocks.iter_mut().position(fits)?;
        let block = self.blocks.remove(index)?;
        self.bytes -= block.size;
        Some(block.rest)
    }

    /// Returns those for which there is no room any more.
    fn keep(&mut self, block: Block) -> Vec<Block> {
        self.bytes += block.size;
        self.blocks.push_back(block);
        let mut too_many = Vec::new();
        while self.bytes > ALL {
            too_many.extend(self.forget());
        }
        too_many
    }

    fn idle(&mut self, now: Instant) -> Vec<Block> {
        let mut idle = Vec::new();
        while self.blocks.front().is_some_and(|block| now - block.since > KEPT_FOR) {
            idle.extend(self.forget());
        }
        idle
    }

    fn forget(&mut self) -> Option<Block> {
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

    /// A block that was given away whole.
    fn used(size: usize) -> (Block, BytesMut) {
        let mut rest = BytesMut::with_capacity(size);
        rest.resize(size, 1);
        let message = rest.split();
        (Block { rest, size, since: Instant::now() }, message)
    }

    #[test]
    fn a_block_is_taken_again_when_nobody_has_it() {
        let mut blocks = blocks();
        let (block, message) = used(100_000);
        let address = message.as_ptr();
        assert!(blocks.keep(block).is_empty());
        assert!(blocks.take(100_000).is_none(), "somebody reads it");
        drop(message);
        assert!(blocks.take(100_001).is_none(), "it is too small");
        assert!(blocks.take(20_000).is_none(), "it is too good for that");
        let again = blocks.take(90_000).unwrap();
        assert_eq!(again.as_ptr(), address);
        assert!(again.is_empty() && again.capacity() >= 90_000);
        assert_eq!(blocks.bytes, 0);
    }

    #[test]
    fn there_is_a_bound() {
        let mut blocks = blocks();
        for _ in 0..100 {
            for size in [1_000_000, 20_000] {
                blocks.keep(used(size).0);
                assert!(blocks.bytes <= ALL);
                assert_eq!(blocks.bytes, blocks.blocks.iter().map(|block| block.size).sum::<usize>());
            }
        }
        assert!(blocks.bytes > ALL / 2);
        assert!(blocks.idle(Instant::now() + KEPT_FOR / 2).is_empty());
        assert!(!blocks.idle(Instant::now() + 2 * KEPT_FOR).is_empty());
        assert_eq!((blocks.blocks.len(), blocks.bytes), (0, 0));
    }
}
