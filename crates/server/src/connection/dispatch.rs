//! [`Dispatcher`]: takes requests from a connection's messages to their handlers, and the responses
//! that are ready at once into its outbox.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::metadata::{IDEMPOTENCY_KEY, ONCE};
use farcall_protocol::{
    Body, Code, Flags, FrameError, Header, HeaderRef, Inbox, Kind, Message, MessageDecoder, Metadata, Outbox,
    ProtocolError, Seq, ServerAction, ServerSession, Status,
};
use farcall_transport::BufferPool;
use tokio::time::Instant;
use tracing::debug;

use super::io::ConnectionIo;
use crate::call::encoded_response::EncodedResponse;
use crate::call::env::CallEnv;
use crate::call::run::{start, start_compressed};
use crate::call::usual::UsualCall;
use crate::call::{Call, ReplyTo};
use crate::limits::{MIN_OFFLOADED_COMPRESSION, MIN_SHORT_CALLS, MIN_TIMED_HEADER};
use crate::service::handler::{Response, SpareFuture};
use crate::service::method::Method;
use crate::stream::call_stream::{CallStream, Cut};
use crate::stream::connection_streams::ConnectionStreams;

/// The time that each new task takes from the connection's turn beside its own. A runtime with more tasks than fit into the
/// queues of its threads takes the rest now and then only, and those of other connections with them.
const TASK_OVERHEAD: Duration = Duration::from_micros(8);

/// The message side of a connection.
pub(super) struct Dispatcher {
    decoder: MessageDecoder,
    session: ServerSession,
    pub(super) env: CallEnv,
    /// The streams of the connection; `None` before the first streaming call.
    pub(super) streams: Option<Arc<ConnectionStreams>>,
    /// Requests that have come, including refused ones.
    pub(super) requests: u64,
    /// Those whose calls have ended in their first poll on this task.
    ended_at_once: u64,
    /// The index of the method that was called last.
    last_method: usize,
    /// The memory for the next handler's future, once there was one.
    spare: Option<SpareFuture>,
    /// The time at the end of the last step that takes time. Each such step sets it, so that no call is
    /// charged with the time that another took, and the clock is read once for each.
    pub(super) now: Instant,
    /// The end of the connection's turn. Each new task takes some time of it.
    pub(super) turn_end: Instant,
}

/// The consequence of a message for the connection's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dispatched {
    /// None.
    Continue,
    /// The peer sends no further requests, and waits for its responses.
    Finish,
}

impl Dispatcher {
    pub(super) fn new(env: CallEnv, now: Instant) -> Self {
        let negotiated = &env.negotiated;
        let decoder = MessageDecoder::new(negotiated.codec.clone(), negotiated.receive_limit);
        let session = ServerSession::new().with_streams(negotiated.streams.is_some());
        Self {
            decoder,
            session,
            env,
            streams: None,
            requests: 0,
            ended_at_once: 0,
            last_method: 0,
            spare: None,
            now,
            turn_end: now,
        }
    }

    /// Begins to handle messages, at `now`, in a turn with this end.
    #[inline]
    pub(super) const fn begin(&mut self, now: Instant, turn_end: Instant) {
        (self.now, self.turn_end) = (now, turn_end);
    }

    /// Takes the next whole message out of the inbox. Returns `false` if there is none.
    #[inline]
    pub(super) fn next(
        &mut self,
        inbox: &mut Inbox<BufferPool>,
        message: &mut Message,
    ) -> Result<bool, FrameError> {
        let before = inbox.len();
        if !inbox.read(&self.decoder, message)? {
            return Ok(false);
        }
        if before - inbox.len() - message.body.len() >= MIN_TIMED_HEADER {
            // The time of decoding is the connection's: no method gets slow by what precedes its arguments.
            self.now = Instant::now();
        }
        Ok(true)
    }

    /// Handles the message at the front of the inbox where it is, if it is the request of a usual call. Returns `false` if
    /// it is another message, which then stays in the inbox, or if there is none.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    #[inline]
    pub(super) fn dispatch_usual(&mut self, io: &mut ConnectionIo) -> Result<bool, ProtocolError> {
        let ConnectionIo { inbox, outbox, .. } = io;
        let Some((mut front, name)) = inbox.front(&self.decoder) else { return Ok(false) };
        let Some(method) = self.env.admit_usual(&front, name, &mut self.last_method) else {
            return Ok(false);
        };
        if self.session.receive_request(front.seq, front.flags)? == ServerAction::Ignore {
            inbox.skip_front(&mut front);
            return Ok(true);
        }
        self.requests += 1;
        let seq = front.seq;
        let mut response = None;
        let call = UsualCall { method, front, inbox, env: &self.env };
        self.now = call.start(self.now, &mut self.spare, &mut response);
        match &mut response {
            Some(response) => {
                self.ended_at_once += 1;
                self.respond(response, seq, outbox);
            }
            None => self.task_started(),
        }
        Ok(true)
    }

    /// Handles a message. Its body is taken, or was read when this returns.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(super) fn dispatch(
        &mut self,
        message: &mut Message,
        io: &mut ConnectionIo,
    ) -> Result<Dispatched, ProtocolError> {
        match self.session.receive(&message.header, self.now.into_std())? {
            ServerAction::Start { answer } => self.start(message, answer, &mut io.outbox),
            ServerAction::Cancel => self.env.calls.cancel(message.header.seq),
            ServerAction::Pong => self.push(&HeaderRef::new(Kind::Pong, message.header.seq), io.control()),
            ServerAction::Finish => return Ok(Dispatched::Finish),
            ServerAction::StartStream => self.start_stream(message, &mut io.outbox),
            ServerAction::Stream => {
                self.receive(&message.header, std::mem::take(&mut message.body), &mut io.inbox)?;
            }
            ServerAction::Ignore => {}
        }
        Ok(Dispatched::Continue)
    }

    /// Handles a message of a stream, and the small items of the same stream that follow it in the inbox.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    #[cold]
    fn receive(
        &self,
        header: &Header,
        body: Bytes,
        inbox: &mut Inbox<BufferPool>,
    ) -> Result<(), ProtocolError> {
        let Some(streams) = &self.streams else { return Ok(()) };
        streams.receive(header, body, self.now)?;
        if header.kind == Kind::Item {
            let compressed = header.flags.contains(Flags::COMPRESSED);
            while let Some(batch) = inbox.next_items(&self.decoder, header.seq, compressed, &mut Vec::new()) {
                streams.receive_batch(header.seq, batch)?;
            }
        }
        Ok(())
    }

    /// Starts a request's call, and sends the response if it is ready at once.
    fn start(&mut self, message: &mut Message, wants_response: bool, outbox: &mut Outbox) {
        self.requests += 1;
        let seq = message.header.seq;
        let reply_to = if wants_response { ReplyTo::Peer } else { ReplyTo::None };
        // Not a result, since a response is large to be moved.
        let mut response = None;
        match self.try_start(message, reply_to, &mut response) {
            Ok(()) if response.is_some() => self.ended_at_once += 1,
            Ok(()) => return self.task_started(),
            Err(status) => {
                let recent = &self.env.server.recent_calls;
                recent.ended(&message.header.service_method, &self.env.info, Duration::ZERO, Some(&status));
                self.now = Instant::now();
                response = Some(Response::error(status));
            }
        }
        let Some(response) = &mut response else { return };
        if wants_response {
            self.respond(response, seq, outbox);
        } else if let Some(status) = response.status() {
            debug!(%seq, peer = %self.env.info.peer, %status, "one-way call failed");
        }
    }

    /// Sends a response that was ready at once.
    #[inline(always)]
    fn respond(&mut self, response: &mut Response, seq: Seq, outbox: &mut Outbox) {
        self.env.server.keep_within_budget(response, &self.env.calls);
        let encoded = EncodedResponse::new(response, &self.env.negotiated);
        encoded.push_to(outbox, seq, &self.env.negotiated);
        if encoded.took_time() {
            self.now = Instant::now();
        }
    }

    /// Notes that a call goes on in a task.
    fn task_started(&mut self) {
        self.turn_end -= TASK_OVERHEAD;
        if self.ended_at_once >= MIN_SHORT_CALLS {
            self.env.calls.assume_short_polls();
        }
    }

    /// Admits a request, and starts its call. Puts the response into `response` if it is ready at once.
    ///
    /// # Errors
    ///
    /// The status to answer: the request was refused.
    #[inline]
    fn try_start(
        &mut self,
        message: &mut Message,
        reply_to: ReplyTo,
        response: &mut Option<Response>,
    ) -> Result<(), Status> {
        let (env, arrived) = (&self.env, self.now);
        let Message { header, body, .. } = &mut *message;
        let metadata = match &header.metadata {
            Some(metadata) => metadata_bytes(metadata)?,
            None => 0,
        };
        let method = env.admit(&header.service_method, body.len() + metadata, &mut self.last_method)?;
        if let Some(metadata) = &header.metadata {
            check_once(method, metadata)?;
        }
        let mut compressed = None;
        // Behind the admission: a refused request is not worth the time.
        if header.flags.contains(Flags::COMPRESSED) {
            let len = env.decompressed_len(body)?;
            if len < MIN_OFFLOADED_COMPRESSION {
                let plain = env.decompress(body);
                self.now = Instant::now();
                *body = plain?;
            } else {
                compressed = Some(len);
            }
        }
        let call = Call::new(method, header, reply_to, arrived, env.negotiated.handle_timeout, env);
        call.check_deadline(self.now).inspect_err(|status| call.record_error(status))?;
        self.now = match compressed {
            None => start(call, message, (), env, self.now, &mut self.spare, response),
            Some(len) => {
                *response = start_compressed(call, message, len, (), env);
                Instant::now()
            }
        };
        Ok(())
    }

    /// Starts a streaming call. What its handler sends at once goes before the response, if there is one already.
    #[inline(never)]
    fn start_stream(&mut self, message: &mut Message, outbox: &mut Outbox) {
        self.requests += 1;
        let seq = message.header.seq;
        let mut response = match self.try_start_stream(message) {
            Ok((stream, Some(response))) => {
                stream.finish(outbox);
                response
            }
            Ok((_, None)) => {
                self.turn_end -= TASK_OVERHEAD;
                return;
            }
            Err(status) => {
                let recent = &self.env.server.recent_calls;
                recent.ended(&message.header.service_method, &self.env.info, Duration::ZERO, Some(&status));
                Response::error(status)
            }
        };
        self.env.server.keep_within_budget(&mut response, &self.env.calls);
        EncodedResponse::new(&mut response, &self.env.negotiated).push_to(outbox, seq, &self.env.negotiated);
        self.now = Instant::now();
    }

    /// Admits a streaming request, opens its stream, and starts its call. Returns the response if it is ready at once.
    ///
    /// # Errors
    ///
    /// The status to answer: the request was refused.
    fn try_start_stream(
        &mut self,
        message: &mut Message,
    ) -> Result<(Arc<CallStream>, Option<Response>), Status> {
        let (env, arrived) = (&self.env, self.now);
        let Message { header, body, .. } = &mut *message;
        let seq = header.seq;
        let metadata = header.metadata.as_deref().map_or(Ok(0), metadata_bytes)?;
        let terms = env.negotiated.streams.ok_or_else(|| {
            Status::refused(Code::InvalidArgument, "a streaming request, though no streams were agreed on")
        })?;
        let method = env.admit_stream(&header.service_method, body.len() + metadata, terms)?;
        if let Some(metadata) = &header.metadata {
            check_once(method, metadata)?;
        }
        let mut compressed = None;
        if header.flags.contains(Flags::COMPRESSED) {
            let len = env.decompressed_len(body)?;
            if len < MIN_OFFLOADED_COMPRESSION {
                *body = env.decompress(body)?;
            } else {
                compressed = Some(len);
            }
        }
        let streams = self.streams.get_or_insert_with(|| {
            let (negotiated, server) = (&env.negotiated, &env.server);
            let (account, counters) = (env.calls.memory(), &server.stream_counters);
            let streams = ConnectionStreams::new(terms, negotiated, &server.limits, account, counters);
            env.calls.set_streams(&streams);
            streams
        });
        let (takes, sends, items) = (method.takes_items, method.sends_items, method.stats.items.open());
        let stream = CallStream::open(streams, seq, takes, sends, items, arrived);
        let reply_to = ReplyTo::PeerStream(Arc::clone(&stream));
        // The server's limit is for the time until the first item.
        let call = Call::new(method, header, reply_to, arrived, None, env);
        if let Err(status) = call.check_deadline(self.now) {
            call.record_error(&status);
            stream.remove();
            return Err(status);
        }
        let mut response = None;
        self.now = match compressed {
            None => start(call, message, &stream, env, self.now, &mut None, &mut response),
            Some(len) => {
                response = start_compressed(call, message, len, &stream, env);
                Instant::now()
            }
        };
        Ok((stream, response))
    }

    /// Gives up the message that is coming, for which there is no room, and refuses it with `status`.
    /// Returns `false` if even its header is incomplete, so that only closing is left.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(super) fn give_up(
        &mut self,
        status: &Status,
        inbox: &mut Inbox<BufferPool>,
        outbox: &mut Outbox,
    ) -> Result<bool, ProtocolError> {
        let Some(header) = inbox.give_up(&self.decoder)? else { return Ok(false) };
        match self.session.receive(&header, self.now.into_std())? {
            ServerAction::Start { answer } => {
                self.requests += 1;
                let recent = &self.env.server.recent_calls;
                recent.ended(&header.service_method, &self.env.info, Duration::ZERO, Some(status));
                if answer {
                    let mut response = Response::error(status.clone());
                    let encoded = EncodedResponse::new(&mut response, &self.env.negotiated);
                    encoded.push_to(outbox, header.seq, &self.env.negotiated);
                }
                Ok(true)
            }
            ServerAction::StartStream => {
                self.requests += 1;
                let recent = &self.env.server.recent_calls;
                recent.ended(&header.service_method, &self.env.info, Duration::ZERO, Some(status));
                let mut response = Response::error(status.clone());
                let encoded = EncodedResponse::new(&mut response, &self.env.negotiated);
                encoded.push_to(outbox, header.seq, &self.env.negotiated);
                Ok(true)
            }
            ServerAction::Stream if header.kind == Kind::Item => {
                self.env.calls.cut(header.seq, Cut::NoRoom);
                Ok(true)
            }
            // Their bodies are empty, or those of a few bytes, unless the peer wants to be closed.
            _ => Ok(false),
        }
    }

    /// Releases the memory for the next messages, calls, and the next handler's future: an idle connection keeps none.
    pub(super) fn release_memory(&mut self, io: &mut ConnectionIo) {
        io.release_memory();
        self.env.calls.release_memory();
        self.spare = None;
    }

    /// Appends a message without a body.
    pub(super) fn push(&self, header: &HeaderRef<'_>, outbox: &mut Outbox) {
        let negotiated = &self.env.negotiated;
        // A header without text fits any limit that a handshake lets through; a goaway whose message
        // does not fit is sent without it.
        if outbox.push(&negotiated.codec, header, &Body::default(), negotiated.send_limit).is_err() {
            let bare = HeaderRef::new(header.kind, header.seq);
            let _ = outbox.push(&negotiated.codec, &bare, &Body::default(), negotiated.send_limit);
        }
    }

    /// Appends a goaway.
    pub(super) fn goaway(&mut self, status: &Status, outbox: &mut Outbox) {
        let seq = self.session.goaway();
        self.push(&HeaderRef { error: Some(status), ..HeaderRef::new(Kind::Goaway, seq) }, outbox);
    }
}

/// Checks that a call whose caller relies on its being carried out once is.
///
/// # Errors
///
/// `unimplemented`, `refused`, if the method carries out each of its calls; `invalid_argument` if there is no key.
fn check_once(method: &Method, metadata: &Metadata) -> Result<(), Status> {
    if metadata.get(ONCE).is_none() {
        return Ok(());
    }
    let name = &method.name;
    if !method.once {
        let message =
            format!("`{name}` is not declared `once` by this server, and the call is to be carried out once");
        return Err(Status::refused(Code::Unimplemented, message));
    }
    if metadata.get(IDEMPOTENCY_KEY).is_none() {
        let message = format!("`{name}`: the call is to be carried out once, and has no `{IDEMPOTENCY_KEY}`");
        return Err(Status::refused(Code::InvalidArgument, message));
    }
    Ok(())
}

/// Returns the size of a request's metadata, in bytes.
///
/// # Errors
///
/// `invalid_argument`, `refused`, if there are too many pairs.
#[cold]
fn metadata_bytes(metadata: &Metadata) -> Result<usize, Status> {
    match metadata.check_len() {
        Ok(()) => Ok(metadata.memory_bytes()),
        Err(error) => Err(Status::refused(Code::InvalidArgument, error.to_string())),
    }
}
