//! [`Place`]: the right to one of the calls that a server runs at once on a connection.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::handle::Handle;
use super::open_stream::OpenStream;
use super::pending::Pending;
use super::request::{EncodedRequest, NoStreams, SendError};
use super::response::Response;
use super::streams::Directions;
use crate::error::Phase;

/// The kinds of calls, each of which has its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceKind {
    /// A call that is not answered: it needs no place.
    OneWay,
    /// A call with one answer.
    Call,
    /// A streaming call.
    Stream,
}

/// The right to one call over a connection. Dropped before the call is sent, it gives the place back; afterwards, the
/// response does.
pub(crate) struct Place {
    handle: Arc<Handle>,
    kind: PlaceKind,
    is_used: bool,
}

impl PlaceKind {
    /// Returns the number of calls that can be made over a connection without waiting for a place.
    pub(super) fn free(self, handle: &Handle) -> usize {
        let shared = handle.shared();
        match self {
            Self::OneWay => usize::MAX,
            Self::Call => shared.slots.available_permits(),
            Self::Stream => match shared.streams.get() {
                Some(streams) => streams.places.available_permits(),
                None => self.max(handle),
            },
        }
    }

    /// Returns the number of calls that the server runs at once on a connection.
    pub(super) fn max(self, handle: &Handle) -> usize {
        let negotiated = handle.negotiated();
        match self {
            Self::OneWay => usize::MAX,
            Self::Call => negotiated.max_in_flight.get(),
            Self::Stream => negotiated.streams.as_ref().map_or(0, |terms| terms.max_streams.get()),
        }
    }

    /// Takes a place, if that is possible without waiting.
    ///
    /// # Errors
    ///
    /// [`SendError::TooManyInFlight`] if all are taken; any other error if there will be none.
    pub(super) fn try_take(self, handle: &Arc<Handle>) -> Result<Place, SendError> {
        if !handle.shared().is_open() {
            return Err(SendError::Closed);
        }
        if let Some(places) = self.places(handle)? {
            places.try_acquire().map_err(|_none| SendError::TooManyInFlight)?.forget();
        }
        Ok(Place::new(Arc::clone(handle), self))
    }

    /// Waits for a place, behind the calls that wait already.
    pub(super) async fn take(self, handle: &Arc<Handle>) -> Result<Place, SendError> {
        if let Some(places) = self.places(handle)? {
            places.acquire().await.map_err(|_closed| SendError::Closed)?.forget();
        }
        Ok(Place::new(Arc::clone(handle), self))
    }

    /// Returns the places of this kind; `None` if it needs none.
    fn places(self, handle: &Handle) -> Result<Option<&Semaphore>, SendError> {
        match self {
            Self::OneWay => Ok(None),
            Self::Call => Ok(Some(&handle.shared().slots)),
            Self::Stream if handle.negotiated().streams.is_none() => {
                let is_offered = handle.shared().offers_streams;
                let reason = if is_offered { NoStreams::NotAgreed } else { NoStreams::NotOffered };
                Err(SendError::NoStreams(reason))
            }
            Self::Stream if self.max(handle) == 0 => Err(SendError::NoStreams(NoStreams::NoPlaces)),
            Self::Stream => Ok(handle.streams().map(|streams| &streams.places)),
        }
    }
}

impl Place {
    const fn new(handle: Arc<Handle>, kind: PlaceKind) -> Self {
        Self { handle, kind, is_used: false }
    }

    /// Returns the handle of its connection.
    pub(super) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Sends a request as soon as there is room for it; `phase` is set to what it waits for. If the future is dropped
    /// before it is ready, nothing was sent and the place is free.
    pub(crate) async fn send(
        mut self,
        request: &EncodedRequest<'_>,
        phase: &mut Phase,
    ) -> Result<Pending, SendError> {
        let shared = self.handle.shared();
        let (seq, limit) = shared.when_room(phase, || shared.enqueue(request, None)).await?;
        self.is_used = true;
        Ok(Pending::new(Arc::clone(&self.handle), seq, limit))
    }

    /// Sends a streaming request as soon as there is room for it, as [`Place::send`] does. If the call receives no
    /// items, a `stop` follows the request at once; if it sends none, an `end`.
    pub(crate) async fn open_stream(
        mut self,
        request: &EncodedRequest<'_>,
        directions: Directions,
        phase: &mut Phase,
    ) -> Result<OpenStream, SendError> {
        let Some(streams) = self.handle.streams() else {
            return Err(SendError::NoStreams(NoStreams::NotAgreed));
        };
        let shared = self.handle.shared();
        let opened = shared.when_room(phase, || shared.enqueue_stream(streams, request, directions));
        let seq = opened.await?;
        self.is_used = true;
        Ok(OpenStream::new(Arc::clone(&self.handle), seq))
    }

    /// Sends a request that is not answered, as soon as there is room for it, and waits until it is handed to the
    /// operating system: nothing else would tell that it was lost. If the future is dropped meanwhile, it is sent or
    /// not.
    pub(crate) async fn send_one_way(
        self,
        request: &EncodedRequest<'_>,
        phase: &mut Phase,
    ) -> Result<Response, SendError> {
        let shared = self.handle.shared();
        let (begin, end) = shared.when_room(phase, || shared.enqueue_one_way(request)).await?;
        *phase = Phase::Wait;
        if shared.until_flushed(end).await {
            Ok(Response::empty(Arc::clone(&self.handle)))
        } else if shared.progress.written() <= begin {
            Err(SendError::Closed)
        } else {
            Err(SendError::Lost)
        }
    }
}

impl Drop for Place {
    /// Gives the place back to the call that has waited longest, unless a response will.
    fn drop(&mut self) {
        if !self.is_used
            && let Ok(Some(places)) = self.kind.places(&self.handle)
        {
            places.add_permits(1);
        }
    }
}
