//! [`Feed`]: the interface of a program's client.

use bytes::Bytes;
use futures::Stream;

/// A connection over which items come.
pub(super) trait Feed: Clone + Send + Sync + 'static {
    /// Opens a stream of items of this size, without an end. Its items are their sizes.
    fn open(
        &self,
        bytes: usize,
    ) -> impl Future<
        Output = anyhow::Result<impl Stream<Item = anyhow::Result<usize>> + Send + Unpin + 'static>,
    > + Send;

    /// Opens a stream that sends one item and waits.
    fn open_idle(&self) -> impl Future<Output = anyhow::Result<Box<dyn Send>>> + Send {
        std::future::ready(Err(anyhow::anyhow!("it has no idle streams")))
    }

    /// Multiplies two numbers.
    fn multiply(&self, a: i64, b: i64) -> impl Future<Output = anyhow::Result<i64>> + Send;
}

/// An item of this size.
pub(super) fn item(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}
