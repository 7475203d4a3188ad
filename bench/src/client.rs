//! The interface of a peer's client.

use std::time::Duration;

use bytes::Bytes;

/// A client of a peer: one connection, on which many calls are in flight at once.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// Multiplies two numbers.
    fn multiply(&self, a: i64, b: i64) -> impl Future<Output = anyhow::Result<i64>> + Send;

    /// Sends the bytes and returns the answer. They are ASCII, so that a protocol without bytes may send
    /// them as text.
    fn echo(&self, data: Bytes) -> impl Future<Output = anyhow::Result<Bytes>> + Send;

    /// Sends a record of 50 strings, which it makes for the call, and returns the number of bytes that the server has
    /// counted in them.
    fn count_record(&self) -> impl Future<Output = anyhow::Result<u64>> + Send {
        std::future::ready(Err(anyhow::anyhow!("its server has no method that takes a record")))
    }

    /// Lets the server burn this much CPU time.
    fn burn(&self, _: Duration) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Err(anyhow::anyhow!("its server has no method that burns CPU")))
    }
}

/// An operation on a peer's clients, generic over their type.
pub(crate) trait WithClients {
    type Output;

    fn run<C: Client>(self, clients: Vec<C>) -> Self::Output;
}
