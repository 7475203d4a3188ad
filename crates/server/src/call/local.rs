//! [`LocalCalls`]: the calls that came over no farcall connection, from an HTTP gateway or from the
//! process itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::time::{later, millis_rounded_up, sooner};
use farcall_protocol::{
    ByteStr, Code, Codec, Flags, Header, Kind, MaxInFlight, Message, Negotiated, Seq, Status, StreamTerms,
    StreamWindow,
};
use farcall_transport::{PeerAddress, TlsInfo};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::env::CallEnv;
use super::in_flight::{InFlightCalls, LOCAL_CONNECTION_ID};
use super::invocation::Invocation;
use super::invoked_stream::InvokedStream;
use super::local_peer::LocalPeer;
use super::run::start;
use super::{Call, ReplyTo};
use crate::auth::authenticate::{Credential, check};
use crate::error::stopping;
use crate::server::state::ServerState;
use crate::service::handler::Response;
use crate::stream::call_stream::CallStream;
use crate::stream::connection_streams::ConnectionStreams;

/// The bytes of items that a handler may send before its caller has taken any. Less than may wait to be written, so that
/// the time of a handler that waits is counted as a stall.
const LOCAL_WINDOW: usize = 32 * 1024;

/// The calls that came over no connection, which are stopped together.
pub(crate) struct LocalCalls {
    server: Arc<ServerState>,
    pub(crate) calls: Arc<InFlightCalls>,
    last_seq: AtomicU64,
}

impl LocalCalls {
    pub(crate) fn new(server: Arc<ServerState>) -> Self {
        let calls = Arc::new(InFlightCalls::new(server.memory.local_account(), None, None));
        Self { server, calls, last_seq: AtomicU64::new(0) }
    }

    /// Checks the credential of a call. See [`ServerHandle::identify`](crate::ServerHandle::identify).
    ///
    /// # Errors
    ///
    /// The status to answer.
    pub(crate) async fn identify(&self, mut invocation: Invocation) -> Result<Invocation, Status> {
        if invocation.identified.is_some() {
            return Ok(invocation);
        }
        let limit = sooner(self.server.limits.handshake_timeout, invocation.timeout);
        let (token, tls) = (invocation.token.take(), invocation.tls.clone());
        let checking = identity_of(&self.server, token, invocation.peer, tls);
        let checking = async {
            match limit {
                Some(limit) => timeout_at(later(Instant::now(), limit), checking).await,
                None => Ok(checking.await),
            }
        };
        match self.server.drain.run_until_sent(checking).await {
            Some(Ok(identity)) => invocation.identified = Some(identity?),
            Some(Err(_elapsed)) => {
                let message = "its credential was not checked in time";
                return Err(Status::refused(Code::DeadlineExceeded, message));
            }
            None => return Err(stopping()),
        }
        Ok(invocation)
    }

    /// Makes a call. See [`ServerHandle::invoke`](crate::ServerHandle::invoke).
    pub(crate) async fn invoke(&self, invocation: Invocation) -> Response {
        let arrived = Instant::now();
        match self.identify(invocation).await {
            Ok(invocation) => self.invoke_identified(invocation, arrived).await,
            Err(status) => Response::error(status),
        }
    }

    async fn invoke_identified(&self, invocation: Invocation, arrived: Instant) -> Response {
        let server = &self.server;
        let (env, mut message) = self.request(invocation);
        // A server that does not stop yet waits for this token, and then for the call's task.
        let counted = server.tasks.token();
        if server.drain.is_sent() {
            return Response::error(stopping());
        }
        let (caller, response) = oneshot::channel();
        let mut ended = None;
        let started =
            env.admit(&message.header.service_method, message.body.len(), &mut 0).and_then(|method| {
                let limit = env.negotiated.handle_timeout;
                let call =
                    Call::new(method, &mut message.header, ReplyTo::Local(caller), arrived, limit, &env);
                let now = Instant::now();
                call.check_deadline(now).inspect_err(|status| call.record_error(status))?;
                start(call, &mut message, (), &env, now, &mut None, &mut ended);
                Ok(())
            });
        match (started, ended) {
            (Ok(()), Some(response)) => return response,
            (Ok(()), None) => {}
            (Err(status), _) => {
                let recent = &server.recent_calls;
                recent.ended(&message.header.service_method, &env.info, arrived.elapsed(), Some(&status));
                return Response::error(status);
            }
        }
        drop(counted);
        let _cancel = CancelOnDrop { calls: &env.calls, seq: message.header.seq };
        // Its permit sends a response however the call ends.
        response.await.unwrap_or_else(|_| Response::error(stopping()))
    }

    /// Makes a streaming call. See [`ServerHandle::invoke_stream`](crate::ServerHandle::invoke_stream).
    pub(crate) async fn invoke_stream(&self, invocation: Invocation) -> InvokedStream {
        let arrived = Instant::now();
        match self.identify(invocation).await {
            Ok(invocation) => self.start_stream(invocation, arrived),
            Err(status) => InvokedStream::refused(Response::error(status)),
        }
    }

    fn start_stream(&self, invocation: Invocation, arrived: Instant) -> InvokedStream {
        let server = &self.server;
        let (env, mut message) = self.request(invocation);
        // As for a plain call; the watch is counted, too.
        let counted = server.tasks.token();
        if server.drain.is_sent() {
            return InvokedStream::refused(Response::error(stopping()));
        }
        match try_start_stream(&env, &mut message, arrived) {
            Ok((peer, Some(mut response))) => {
                server.keep_within_budget(&mut response, &env.calls);
                peer.finish(response);
                InvokedStream::new(peer, None)
            }
            Ok((peer, None)) => {
                let watch = server.tasks.spawn(Arc::clone(&peer).watch());
                drop(counted);
                InvokedStream::new(peer, Some(watch))
            }
            Err(status) => {
                let recent = &server.recent_calls;
                recent.ended(&message.header.service_method, &env.info, arrived.elapsed(), Some(&status));
                InvokedStream::refused(Response::error(status))
            }
        }
    }

    /// Creates the request of a call.
    fn request(&self, invocation: Invocation) -> (CallEnv, Message) {
        let Invocation { method, codec, body, metadata, timeout, idempotent, peer, tls, identified, .. } =
            invocation;
        let server = &self.server;
        let info = ConnectionInfo::new(LOCAL_CONNECTION_ID, peer)
            .with_peer_key(peer.key())
            .with_tls(tls)
            .with_identity(identified.flatten())
            .with_drain_signal(server.drain.clone());
        let env = CallEnv {
            calls: Arc::clone(&self.calls),
            negotiated: Arc::new(negotiated(codec, server)),
            info: Arc::new(info),
            server: Arc::clone(server),
        };
        let mut message = Message::default();
        message.header = Header {
            kind: Kind::Request,
            seq: Seq(self.last_seq.fetch_add(1, Relaxed) + 1),
            service_method: ByteStr::from(method),
            // Rounded up, since zero would be no limit.
            timeout_ms: timeout.map_or(0, |limit| millis_rounded_up(limit).max(1)),
            error: None,
            metadata: metadata.map(Box::new),
            flags: if idempotent { Flags::IDEMPOTENT } else { Flags::NONE },
        };
        message.body = body;
        (env, message)
    }

    /// Stops all local calls, and those that are still started.
    pub(crate) fn abort_all(&self) {
        self.calls.abort_all();
    }

    /// Stops all local calls at once.
    pub(crate) fn close(&self) {
        self.calls.abort_all();
        self.calls.close();
    }
}

/// Admits a streaming request, opens its stream, and starts its call. Returns the response if it is ready at once.
///
/// # Errors
///
/// The status to answer: the request was refused.
fn try_start_stream(
    env: &CallEnv,
    message: &mut Message,
    arrived: Instant,
) -> Result<(Arc<LocalPeer>, Option<Response>), Status> {
    let Message { header, body, .. } = &mut *message;
    let CallEnv { calls, negotiated, server, .. } = env;
    let terms = StreamTerms::new(
        StreamWindow::new(LOCAL_WINDOW),
        server.limits.stream_window,
        server.limits.max_streams,
    );
    let method = env.admit_stream(&header.service_method, body.len(), terms)?;
    // Each call has streams to itself, as if it had a connection to itself: no call waits for the lock of another.
    let (account, counters) = (calls.memory(), &server.stream_counters);
    let streams = ConnectionStreams::new(terms, negotiated, &server.limits, account, counters);
    let (takes, sends, items) = (method.takes_items, method.sends_items, method.stats.items.open());
    let stream = CallStream::open(&streams, header.seq, takes, sends, items, arrived);
    let peer = LocalPeer::new(Arc::clone(&stream), Arc::clone(calls));
    let reply_to = ReplyTo::LocalStream(Arc::clone(&peer));
    // The server's limit is for the time until the first item.
    let call = Call::new(method, header, reply_to, arrived, None, env);
    let now = Instant::now();
    if let Err(status) = call.check_deadline(now) {
        call.record_error(&status);
        stream.remove();
        return Err(status);
    }
    let mut response = None;
    start(call, message, &stream, env, now, &mut None, &mut response);
    Ok((peer, response))
}

/// Returns the caller's identity, `None` if the server asks for none.
async fn identity_of(
    server: &ServerState,
    token: Option<String>,
    peer: PeerAddress,
    tls: Option<Arc<TlsInfo>>,
) -> Result<Option<Identity>, Status> {
    let Some(authenticate) = &server.authenticate else { return Ok(None) };
    check(&**authenticate, Credential::new(token, peer.to_string(), tls)).await.map(Some)
}

/// Returns the parameters of a local call: the server's own limits.
fn negotiated(codec: Codec, server: &ServerState) -> Negotiated {
    let mut terms = Negotiated::new(codec);
    terms.handle_timeout = server.limits.handle_timeout;
    terms.send_limit = server.limits.max_frame_bytes;
    terms.receive_limit = server.limits.max_frame_bytes;
    terms.max_in_flight = MaxInFlight::new(server.max_in_flight);
    terms
}

/// Stops the handler of a call whose caller has dropped its future; does nothing if it has ended.
struct CancelOnDrop<'a> {
    calls: &'a InFlightCalls,
    seq: Seq,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.calls.cancel(self.seq);
    }
}
