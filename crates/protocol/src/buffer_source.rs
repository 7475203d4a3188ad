//! The memory that messages are read into and bodies are encoded into. Keeping it for later use is left to
//! the source's implementation: this crate has no global state.

use bytes::BytesMut;

/// The smallest buffer, in bytes, that is worth keeping for later use: smaller ones are left to the allocator,
/// and messages from here on are read into memory of their own.
pub const MIN_POOLED_BUFFER: usize = 16 * 1024;

/// The memory of a connection's [`Inbox`](crate::Inbox) and of encoded bodies.
///
/// [`Unpooled`] asks the allocator each time. A pool returns buffers again whose bytes have all been dropped,
/// which is quicker for large messages.
pub trait BufferSource {
    /// Returns an empty buffer with room for at least `capacity` bytes.
    fn take(&self, capacity: usize) -> BytesMut;

    /// Takes back a block of `size` bytes. `rest` is the part of it that was not split off; it can reclaim the
    /// whole block when all parts have been dropped.
    fn recycle(&self, rest: BytesMut, size: usize);

    /// Releases memory that was not used for some time.
    fn release_idle(&self);

    /// Returns an empty buffer to encode a body in, with room for a small one. Small bodies stay in it, one
    /// behind the other.
    fn take_scratch(&self) -> BytesMut;

    /// Takes back the buffer of [`BufferSource::take_scratch`].
    fn put_scratch(&self, scratch: BytesMut);
}

/// Buffers straight from the allocator.
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
