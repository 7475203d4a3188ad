//! [`BusyBody`]: a response's body during which the connection counts as busy.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::connection_table::BusyGuard;
use crate::http_stream::HeadGuard;

/// A body that keeps its connection busy until it was sent, or the connection has ended.
#[derive(Debug)]
pub(crate) struct BusyBody {
    body: Body,
    _busy: (BusyGuard, HeadGuard),
}

impl BusyBody {
    pub(crate) const fn new(body: Body, busy: (BusyGuard, HeadGuard)) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
