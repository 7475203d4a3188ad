//! [`TurnedBody`]: a request's body that is read in turns with those of other requests.
//!
//! A turn ends with its poll, but one poll of hyper reads up to 16 times as much as it holds; and of five hundred
//! connections that send large bodies, each would have its turn before a small request that comes meanwhile. So what
//! is beyond a small body is read while few others are.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use farcall_transport::TurnPlace;
use hyper::body::{Frame, SizeHint};

/// The bytes of a body that are read in one turn, beside the rest of a part: that takes some 50 µs. A body that is known to be no
/// longer never waits.
const BYTES_PER_TURN: usize = 64 * 1024;
/// The bytes that are read at once of other bodies, since their length may be unknown. Not a whole turn: many connections
/// may begin together.
const FIRST_BYTES: usize = 16 * 1024;

/// A body whose further turns are those of its place.
#[derive(Debug)]
pub(crate) struct TurnedBody<B> {
    body: B,
    place: TurnPlace,
    /// The bytes that are left of this turn.
    left: usize,
}

impl<B> TurnedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    /// Returns a body that is read in turns, if it may be longer than one.
    pub(crate) fn wrap(body: B, place: impl FnOnce() -> TurnPlace) -> Body {
        if body.size_hint().upper().is_some_and(|most| most <= BYTES_PER_TURN as u64) {
            return Body::new(body);
        }
        Body::new(Self { body, place: place(), left: FIRST_BYTES })
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for TurnedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.left == 0 && !self.body.is_end_stream() {
            ready!(self.place.poll_turn(cx));
            self.left = BYTES_PER_TURN;
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.left = self.left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::pin::pin;

    use farcall_transport::{PeerAddress, TurnQueue};
    use futures::stream;

    use super::*;

    const KIB: usize = 1024;

    /// Reads a body of parts; returns its bytes and how often it was not ready.
    async fn read(parts: usize, bytes: usize) -> (usize, usize) {
        let parts = stream::iter((0..parts).map(move |_| Ok::<_, Infallible>(Bytes::from(vec![7; bytes]))));
        let place = || TurnQueue::new(1).place(PeerAddress::Memory.key());
        let body = TurnedBody::wrap(Body::from_stream(parts), place);
        let (mut reading, mut waits) = (pin!(axum::body::to_bytes(body, usize::MAX)), 0);
        let read = poll_fn(|cx| {
            let polled = reading.as_mut().poll(cx);
            waits += usize::from(polled.is_pending());
            polled
        });
        (read.await.unwrap().len(), waits)
    }

    #[tokio::test]
    async fn body_that_is_known_to_be_small_never_waits() {
        let body = TurnedBody::wrap(Body::from(vec![7; BYTES_PER_TURN]), || unreachable!("it has no turns"));
        assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap().len(), BYTES_PER_TURN);
    }

    #[tokio::test]
    async fn body_is_read_in_turns_of_64_kib_behind_the_first_16() {
        for (parts, bytes, waits) in
            [(3, 4 * KIB, 0), (1, 16 * KIB, 0), (5, 16 * KIB, 1), (100, 16 * KIB, 25), (3, 100 * KIB, 2)]
        {
            let (read, waited) = read(parts, bytes).await;
            assert_eq!(read, parts * bytes);
            // Whether the last part is the end is not known before it is asked for.
            assert!((waits..=waits + 1).contains(&waited), "{parts} of {bytes}: {waited}");
        }
    }
}
