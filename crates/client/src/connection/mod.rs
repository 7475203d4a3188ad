//! A connection to one server: many calls at once, over one stream.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use farcall_protocol::{Code, Execution, Negotiated, Seq};
use farcall_transport::{Address, DialPhase, HumanDuration, Stream};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use self::driver::Driver;
use self::handshake::shake;
pub(crate) use self::pending::Pending;
use self::shared::Shared;
pub(crate) use self::shared::{NotSent, Outgoing};
use crate::connection::options::ConnectionOptions;
use crate::deadline::later;
use crate::error::{Phase, RpcError};

pub(crate) mod backoff;
mod driver;
mod handshake;
pub(crate) mod in_flight;
pub(crate) mod options;
mod pending;
pub(crate) mod pool;
pub(crate) mod response;
mod shared;
pub(crate) mod slot;
mod wake_batch;

/// A connection to one server. Cloning is cheap; the connection closes when the last clone, and
/// the last call on it, are gone.
///
/// Most users want a [`Channel`](crate::Channel), which dials, and dials again. This is for who
/// has a stream of their own: `Channel::from(connection)` makes calls on it.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Closes the connection when the last of its users is gone.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    /// Nobody can call any more, and nobody waits: the calls under way hold a handle each.
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Connection {
    /// Opens a connection: resolves, connects, agrees on terms, all within the options'
    /// [`connect_timeout`](Options::connect_timeout).
    ///
    /// # Errors
    ///
    /// In the phase that failed; nothing was called, so the execution is `not_sent`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(address: &Address, options: &ConnectionOptions) -> Result<Self, RpcError> {
        let deadline = later(Instant::now(), options.connect_limit());
        let stream = match timeout_at(deadline, options.limited_dialer().dial(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let phase = match error.phase() {
                    DialPhase::Resolve => Phase::Resolve,
                    _ => Phase::Connect,
                };
                let message = error.reason().to_string();
                return Err(unavailable(phase, message).at(address).with_source(error));
            }
            Err(_elapsed) => {
                let message = format!("no answer within {}", HumanDuration(options.connect_limit()));
                return Err(unavailable(Phase::Connect, message).at(address));
            }
        };
        Self::agree(stream, address, options, deadline).await
    }

    /// Speaks over a stream that was opened elsewhere: in memory, for tests, or by another
    /// protocol's upgrade. `address` is what errors call the other side.
    ///
    /// # Errors
    ///
    /// The handshake failed; nothing was called, so the execution is `not_sent`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn over(
        stream: Stream,
        address: &Address,
        options: &ConnectionOptions,
    ) -> Result<Self, RpcError> {
        Self::agree(stream, address, options, later(Instant::now(), options.connect_limit())).await
    }

    async fn agree(
        mut stream: Stream,
        address: &Address,
        options: &ConnectionOptions,
        deadline: Instant,
    ) -> Result<Self, RpcError> {
        match timeout_at(deadline, shake(&mut stream, options)).await {
            Ok(Ok((negotiated, input))) => {
                debug!(endpoint = %address, codec = %negotiated.codec, "connected");
                let shared = Arc::new(Shared::new(negotiated, address.clone(), options));
                // The task ends when the connection does, which the last handle's drop sees to;
                // what goes wrong in it is told to every caller.
                tokio::spawn(Driver::new(stream, input, Arc::clone(&shared), options));
                Ok(Self { handle: Arc::new(Handle(shared)) })
            }
            Ok(Err(error)) => Err(error.at(address)),
            Err(_elapsed) => {
                let limit = options.connect_limit();
                let message = format!("no answer to the handshake within {}", HumanDuration(limit));
                Err(unavailable(Phase::Handshake, message).at(address))
            }
        }
    }

    /// Whether calls can be made on it: it is open, and neither side has said goaway.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.shared().is_open()
    }

    /// Closes it: no further call is made, those under way are finished, the server is told.
    pub fn close(&self) {
        self.shared().close();
    }

    /// The other side, as errors call it.
    #[must_use]
    pub fn endpoint(&self) -> &Address {
        &self.shared().endpoint
    }

    /// What was agreed on in the handshake.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.shared().negotiated
    }

    /// How many calls are in flight, including those that the server still has to confirm as
    /// cancelled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared().in_flight()
    }

    /// Why it takes no more calls.
    pub(crate) fn why_closed(&self) -> String {
        self.shared().why_closed()
    }

    /// Since when it takes no more calls.
    pub(crate) fn closed_at(&self) -> Option<Instant> {
        self.shared().closed_at()
    }

    /// Sends a request if it can be done at once; `waker` is whom its end wakes, if somebody waits
    /// already.
    ///
    /// # Errors
    ///
    /// Why it was not sent, and the connection again.
    pub(crate) fn try_send(
        self,
        outgoing: &Outgoing<'_>,
        waker: Option<&Waker>,
    ) -> Result<Pending, (NotSent, Self)> {
        match self.send_now(outgoing, waker) {
            Ok((seq, limit)) => Ok(Pending::new(self, seq, limit)),
            Err(why) => Err((why, self)),
        }
    }

    fn send_now(
        &self,
        outgoing: &Outgoing<'_>,
        waker: Option<&Waker>,
    ) -> Result<(Seq, Option<Duration>), NotSent> {
        let place = self.shared().places.try_acquire().map_err(|_| NotSent::NoPlace)?;
        let sent = self.shared().send(outgoing, waker)?;
        // The answer gives it back.
        place.forget();
        Ok(sent)
    }

    /// Sends a request as soon as there is a place and room for it; `phase` tells for which of
    /// them it waits. Dropped before it is ready, it has sent nothing and holds no place.
    pub(crate) async fn send(&self, outgoing: &Outgoing<'_>, phase: &mut Phase) -> Result<Pending, NotSent> {
        let shared = self.shared();
        *phase = Phase::Queue;
        let place = shared.places.acquire().await.map_err(|_closed| NotSent::Closed)?;
        let (seq, limit) = self.when_room(phase, || shared.send(outgoing, None)).await?;
        place.forget();
        Ok(Pending::new(self.clone(), seq, limit))
    }

    /// Sends a request that nobody waits for, as soon as there is room for it.
    pub(crate) async fn send_one_way(
        &self,
        outgoing: &Outgoing<'_>,
        phase: &mut Phase,
    ) -> Result<(), NotSent> {
        self.when_room(phase, || self.shared().send_one_way(outgoing)).await
    }

    async fn when_room<T>(
        &self,
        phase: &mut Phase,
        mut send: impl FnMut() -> Result<T, NotSent>,
    ) -> Result<T, NotSent> {
        loop {
            // Made before it is looked: it hears of room that is made from here on.
            let room = self.shared().room.notified();
            match send() {
                Err(NotSent::NoRoom) => {
                    *phase = Phase::Write;
                    room.await;
                }
                other => return other,
            }
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", self.endpoint())
            .field("available", &self.is_available())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

fn unavailable(phase: Phase, message: String) -> RpcError {
    RpcError::new(Code::Unavailable, Execution::NotSent, phase, message)
}

/// What an error of the stream says of the other side.
fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it broke the connection".to_owned(),
        _ => error.to_string(),
    }
}
