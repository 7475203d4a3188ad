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

    /// Returns an empty buffer to encode a body in, with room for a small one. Consecutive small bodies share
    /// one block.
    fn take_scratch(&self) -> BytesMut;

    /// Takes back the buffer of [`BufferSource::take_scratch`].
    fn put_scratch(&self, scratch: BytesMut);
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

    fn take_scratch(&self) -> BytesMut {
        BytesMut::new()
    }

    fn put_scratch(&self, _scratch: BytesMut) {}
}
