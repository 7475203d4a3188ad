//! [`Invocation`]: a call that came by another way than a connection of the protocol's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::{
    ByteStr, Code, Codec, Flags, Header, Kind, MaxInFlight, Metadata, Negotiated, Seq, Status,
};
use farcall_transport::{PeerAddress, TlsInfo};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::in_flight::Calls;
use super::{Answer, Home, Started};
use crate::auth::authenticate::{Credential, check};
use crate::connection::handshake::stopping;
use crate::limits::after;
use crate::server::state::Core;
use crate::server::{ServerHandle, Shared};
use crate::service::handler::Response;

/// A call that came by another way than a connection of the protocol's: through an HTTP gateway, or
/// from the process itself. See [`ServerHandle::invoke`].
#[derive(Clone, Debug)]
pub struct Invocation {
    method: String,
    codec: Codec,
    body: Bytes,
    metadata: Option<Metadata>,
    timeout: Option<Duration>,
    idempotent: bool,
    peer: PeerAddress,
    token: Option<String>,
    tls: Option<Arc<TlsInfo>>,
    /// Who made it, once the server was asked.
    identified: Option<Option<Identity>>,
}

impl Invocation {
    /// A call of `method`, such as `Arith.multiply`, with arguments that are encoded already.
    #[must_use]
    pub fn new(method: impl Into<String>, codec: Codec, body: Bytes) -> Self {
        Self {
            method: method.into(),
            codec,
            body,
            metadata: None,
            timeout: None,
            idempotent: false,
            peer: PeerAddress::Memory,
            token: None,
            tls: None,
            identified: None,
        }
    }

    /// Its arguments, encoded already, in place of those that it was made with: for whoever
    /// [asks who calls](ServerHandle::identify) before reading them.
    #[must_use]
    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Metadata for the handler. Default: none.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// How long its caller waits. Default: without end.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Whether it may be made twice with the effect of once, for the handler to know. Default: not.
    #[must_use]
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Where it came from. Default: this process.
    #[must_use]
    pub const fn peer(mut self, peer: PeerAddress) -> Self {
        self.peer = peer;
        self
    }

    /// The credential that came with it, for the server's [`Authenticate`](crate::Authenticate).
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// What TLS tells of the connection that it came over, and of who is on its other side. Default:
    /// it was not encrypted.
    #[must_use]
    pub fn tls(mut self, tls: Arc<TlsInfo>) -> Self {
        self.tls = Some(tls);
        self
    }
}

impl ServerHandle {
    /// Checks the credential of a call that is to be [invoked](ServerHandle::invoke), which is not asked for
    /// again then: so that nothing large is read from who may not call.
    ///
    /// # Errors
    ///
    /// What to answer: what the server's [`Authenticate`](crate::Authenticate) says, that this took longer
    /// than a handshake may or its caller waits, or that the server stops.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn identify(&self, mut invocation: Invocation) -> Result<Invocation, Status> {
        let Shared { core, stop, .. } = &*self.shared;
        if invocation.identified.is_some() {
            return Ok(invocation);
        }
        let limit = core.limits.handshake_timeout.min(invocation.timeout.unwrap_or(Duration::MAX));
        let (token, tls) = (invocation.token.take(), invocation.tls.clone());
        let asking = identity_of(core, token, invocation.peer, tls);
        match stop.run_until_cancelled(timeout_at(after(Instant::now(), limit), asking)).await {
            Some(Ok(identity)) => invocation.identified = Some(identity?),
            Some(Err(_elapsed)) => {
                let message = "its credential was not checked in time";
                return Err(Status::refused(Code::DeadlineExceeded, message));
            }
            None => return Err(stopping()),
        }
        Ok(invocation)
    }

    /// Makes a call of one of this server's methods, through its layers and within its limits, as if it had
    /// come over a connection: it is authenticated, counted, stopped at its deadline, and waited for
    /// when the server stops. Dropping the future stops the handler.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn invoke(&self, invocation: Invocation) -> Response {
        let Shared { core, invoked, stop, .. } = &*self.shared;
        let arrived = Instant::now();
        let invocation = match self.identify(invocation).await {
            Ok(invocation) => invocation,
            Err(status) => return Response::error(status),
        };
        let Invocation { method, codec, body, metadata, timeout, idempotent, peer, tls, identified, .. } =
            invocation;
        let info = ConnectionInfo::new(INVOKED, peer).with_tls(tls).with_identity(identified.flatten());
        let home = Home {
            calls: Arc::clone(&invoked.calls),
            negotiated: Arc::new(negotiated(codec, core)),
            info: Arc::new(info),
            core: Arc::clone(core),
        };
        // A server that does not stop yet waits for this, and then for the task of the call.
        let counted = core.tasks.token();
        if stop.is_cancelled() {
            return Response::error(stopping());
        }
        let mut header = Header {
            kind: Kind::Request,
            seq: Seq(invoked.last.fetch_add(1, Relaxed) + 1),
            service_method: ByteStr::from(method),
            // Rounded up, since zero would be no limit.
            timeout_ms: timeout.map_or(0, |limit| millis_up(limit).max(1)),
            error: None,
            metadata: metadata.map(Box::new),
            flags: if idempotent { Flags::IDEMPOTENT } else { Flags::NONE },
        };
        let (invoker, answer) = oneshot::channel();
        let to = Answer::Invoker(invoker);
        let admitted = home.admit(&mut header, to, arrived, || Ok((body, Instant::now())));
        let (call, body) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                core.recent.ended(&header.service_method, &home.info, arrived.elapsed(), Some(&status));
                return Response::error(status);
            }
        };
        if let Started::Ended(response, _) = call.start(&mut header, body, &home, Instant::now()) {
            return response;
        }
        drop(counted);
        let _stop = StopOnDrop { calls: &home.calls, seq: header.seq };
        // Its place answers however it ends.
        answer.await.unwrap_or_else(|_| Response::error(stopping()))
    }
}

/// The number of the connection of calls that came by none: those of connections begin at 1.
pub(crate) const INVOKED: u64 = 0;

/// The calls that came by no connection, which are stopped together.
#[derive(Debug, Default)]
pub(crate) struct Invoked {
    pub(crate) calls: Arc<Calls>,
    last: AtomicU64,
}

impl Invoked {
    /// Stops them all, and those that are still begun.
    pub(crate) fn cut(&self) {
        self.calls.cut();
    }

    /// Stops them all at once.
    pub(crate) fn close(&self) {
        self.calls.cut();
        self.calls.close();
    }
}

/// Who invokes, where the server asks.
async fn identity_of(
    core: &Core,
    token: Option<String>,
    peer: PeerAddress,
    tls: Option<Arc<TlsInfo>>,
) -> Result<Option<Identity>, Status> {
    let Some(by) = &core.authenticate else { return Ok(None) };
    check(&**by, Credential::new(token, peer.to_string(), tls)).await.map(Some)
}

/// What holds for a call that comes by no connection: the server's own limits alone.
fn negotiated(codec: Codec, core: &Core) -> Negotiated {
    Negotiated {
        codec,
        handle_timeout: core.limits.handle_timeout,
        compression: None,
        send_limit: core.limits.max_frame_bytes,
        receive_limit: core.limits.max_frame_bytes,
        max_in_flight: MaxInFlight::new(core.limits.max_in_flight_in_all),
    }
}

fn millis_up(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Stops the handler of a call whose invoker has gone away; nothing where it has ended.
struct StopOnDrop<'a> {
    calls: &'a Calls,
    seq: Seq,
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.calls.cancel(self.seq);
    }
}
