//! The memory that messages are read into and bodies are encoded into. Pooling is left to implementations of
//! [`BufferSource`]: this crate has no global state.

use bytes::BytesMut;

/// The smallest buffer, in bytes, that is worth pooling. Smaller ones are left to the allocator, and messages
/// of this size and above are read into separate memory.
pub const MIN_POOLED_BUFFER: usize = 16 * 1024;

/// The memory of a connection's [`Inbox`](crate::Inbox) and of encoded bodies.
///
/// [`Unpooled`] allocates each time. A pool reuses buffers whose bytes have all been dropped, which is faster
/// for large messages.
pub trait BufferSource {
    /// Returns an empty buffer with room for at least `capacity` bytes.
    fn take(&self, capacity: usize) -> BytesMut;

    /// Takes back a block of `size` bytes. `rest` is the part that was not split off; it can reclaim the whole
    /// block when all other parts have been dropped.
    fn recycle(&self, rest: BytesMut, size: usize);

    /// Releases memory that was unused for some time.
    fn release_idle(&self);

    /// Calls `encode` with a buffer to encode a body in: empty, with room for a small body, and not moved. What `encode` leaves
    /// of it is for the next one, so that consecutive small bodies share one block.
    fn with_scratch<T>(&self, encode: impl FnOnce(&mut BytesMut) -> T) -> T;
}

/// A source that takes every buffer from the allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpooled;

impl BufferSource for Unpooled {
    fn take(&self, capacity: usize) -> BytesMut {
        BytesMut::with_capacity(capacity)
    }

    fn recycle(&self, _rest: BytesMut, _size: usize) {}

    fn release_idle(&self) {}

    fn with_scratch<T>(&self, encode: impl FnOnce(&mut BytesMut) -> T) -> T {
        encode(&mut BytesMut::new())
    }
}
