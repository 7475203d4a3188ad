//! [`Discards`]: reads the rest of refused bodies. Refusing them is left to the caller.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use farcall_transport::PeerKey;
use tokio::time::timeout;

use crate::byte_shares::ByteShares;

/// The time for which one body is read.
const LINGER: Duration = Duration::from_secs(2);
/// The number of bodies of the maximum size that are read at a time: one peer may have one of them.
const MAX_BODIES_AT_ONCE: usize = 2;

/// Reads the rest of refused bodies and discards it, so that a client that sends all of its body before it reads receives the
/// response: a kernel that holds unread input answers a close with a reset.
///
/// To read takes time of all requests, most of it while many are refused. So few are read at a time, shared between peers as
/// [`ByteShares`] are; the clients of others may see a broken connection in place of the response. A clone shares them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum::body::{Body, HttpBody};
/// use farcall_transport::PeerAddress;
/// use farcall_web::Discards;
///
/// let discards = Discards::new(1024 * 1024);
/// let mut refused = Body::from("a body that is not wanted");
/// discards.discard(&mut refused, PeerAddress::Memory.key()).await;
/// assert!(refused.is_end_stream());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Discards {
    max_bytes: usize,
    under_way: ByteShares,
}

impl Discards {
    /// Creates discards of at most `max_bytes` of each body. Twice as much is read of all bodies at a time, and of those of one
    /// peer as much, if it is alone; a body counts with its announced size, or with `max_bytes` if it has announced none.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, under_way: ByteShares::new(max_bytes.saturating_mul(MAX_BODIES_AT_ONCE)) }
    }

    /// Reads the rest of a body of `peer`: for at most 2 s, and not at all if too much is being read already.
    pub async fn discard<B: HttpBody<Data = Bytes> + Unpin>(&self, body: &mut B, peer: PeerKey) {
        let size = body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let mut place = self.under_way.hold(peer);
        if place.resize(size.unwrap_or(self.max_bytes).min(self.max_bytes)) {
            // The response is the same if it times out.
            let _ = timeout(LINGER, self.read(body)).await;
        }
    }

    async fn read<B: HttpBody<Data = Bytes> + Unpin>(&self, body: &mut B) {
        let mut discarded = 0;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > self.max_bytes {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use axum::body::Body;
    use farcall_transport::PeerAddress;
    use futures::stream;
    use hyper::body::{Frame, SizeHint};
    use tokio::time::Instant;

    use super::*;

    type FrameResult = Result<Frame<Bytes>, Infallible>;

    fn peer(number: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, number], 7).into()).key()
    }

    /// Returns a body of parts of 10 bytes without an announced size, and the number of parts that were read.
    fn body(parts: usize) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&read);
        let parts = stream::iter((0..parts).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>("0123456789")
        }));
        (Body::from_stream(parts), read)
    }

    /// A body whose announced bytes never come.
    struct Stuck(u64);

    impl HttpBody for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<FrameResult>> {
            Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_read_up_to_the_limit() {
        let discards = Discards::new(100);
        for (parts, expected) in [(0, 0), (3, 3), (10, 10), (11, 11), (1000, 11)] {
            let (mut body, read) = body(parts);
            discards.discard(&mut body, peer(1)).await;
            assert_eq!(read.load(Ordering::Relaxed), expected, "{parts}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_bodies_are_read_at_a_time() {
        let discards = Discards::new(100);
        let reading = |peer, size| {
            let discards = discards.clone();
            tokio::spawn(async move { discards.discard(&mut Stuck(size), peer).await })
        };
        let under_way = [reading(peer(1), 60), reading(peer(1), 40), reading(peer(2), 20)];
        tokio::task::yield_now().await;
        // The first peer has as much as is left.
        let (mut refused, read) = body(3);
        discards.discard(&mut refused, peer(1)).await;
        assert_eq!(read.load(Ordering::Relaxed), 0);
        let began = Instant::now();
        for reading in under_way {
            reading.await.unwrap();
        }
        assert_eq!(began.elapsed(), LINGER);
        discards.discard(&mut refused, peer(1)).await;
        assert_eq!(read.load(Ordering::Relaxed), 3);
    }
}
