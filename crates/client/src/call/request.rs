//! Requests: calls as their callers describe them, and what a channel adds when they start.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farcall_context::Inherited;
use farcall_discovery::KeySource;
use farcall_protocol::metadata::{ATTEMPT, CRITICALITY, IDEMPOTENCY_KEY, ONCE};
use farcall_protocol::{Body, Code, Codec, Criticality, EncodeError, Execution, Flags, Metadata};
use farcall_runtime::time::Instant;

pub(crate) use self::options::BroadcastTarget;
use self::options::Options;
use super::inherited_metadata::merge;
use super::once::{OnceTries, new_key};
use super::request_error::RequestError;
use super::retry::Idempotence;
use super::retry_policy::RetryPolicy;
use super::routing_key;
use super::stream::link::Link;
use crate::connection::Connection;
use crate::connection::request::{EncodedRequest, deadline_exceeded};
use crate::deadline::Deadline;
use crate::endpoints::backend::Backend;
use crate::error::{Phase, RpcError};

/// A call before it is sent: its method, encoded arguments, metadata and options.
///
/// [`Channel::request`](crate::Channel::request) creates one. Layers around a channel's calls receive and change
/// it; see [`ChannelBuilder::layer`](crate::ChannelBuilder::layer).
#[derive(Clone, Default)]
pub struct Request {
    method: Cow<'static, str>,
    body: Body,
    flags: Flags,
    idempotence: Idempotence,
    /// `true` if the server carries out all tries of the call once.
    once: bool,
    metadata: Option<Box<Metadata>>,
    /// The time for the call, until it starts.
    timeout: Option<Duration>,
    /// `true` if the time is that of the call, and not the channel's default.
    has_own_timeout: bool,
    /// The deadline, metadata and trace of the handler that makes the call, until it starts.
    pub(super) inherited: Inherited,
    /// Set when the call starts.
    deadline: Option<Deadline>,
    options: Option<Box<Options>>,
}

impl Request {
    // Inlined into the code that makes calls, also of other crates, so that the request is built in place. A request is
    // large to be moved, and the compiler counts its fields rather than the moves.
    #[inline(always)]
    pub(crate) fn new(
        method: Cow<'static, str>,
        body: Result<Body, EncodeError>,
        timeout: Option<Duration>,
        inherited: Inherited,
    ) -> Self {
        let (body, options) = match body {
            Ok(body) => (body, None),
            Err(error) => (Body::default(), Some(Options::with_error(RequestError::Arguments(error)))),
        };
        Self {
            method,
            body,
            flags: Flags::NONE,
            idempotence: Idempotence::None,
            once: false,
            metadata: None,
            timeout,
            has_own_timeout: false,
            inherited,
            deadline: None,
            options,
        }
    }

    /// Returns the full name of the method, such as `Arith.multiply`.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the encoded arguments.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the metadata that the call itself carries. What it inherits from the handler that makes it is
    /// added when it is sent, below what is set here.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// Sets `value` under `key`, which must be lower case; otherwise the call fails with `invalid_argument`.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let metadata = self.metadata.get_or_insert_default();
        if let Err(error) = metadata.insert(key, value)
            && !matches!(self.options_mut().error, Some(RequestError::Metadata(_)))
        {
            self.options_mut().error = Some(RequestError::Metadata(error));
        }
    }

    /// Sets how much the call matters when a server has more calls than it can serve, in place of what it inherits.
    pub fn set_criticality(&mut self, criticality: Criticality) {
        self.set_metadata(CRITICALITY, criticality.name());
    }

    /// Returns the time that is left for the call; `None` if it has no limit.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
        match (left, self.timeout) {
            (Some(left), Some(timeout)) => Some(left.min(timeout)),
            (left, timeout) => left.or(timeout),
        }
    }

    /// Sets the time for the call, from when it is sent. A layer can only shorten the time that the caller gave.
    pub const fn set_timeout(&mut self, limit: Duration) {
        self.timeout = Some(limit);
        self.has_own_timeout = true;
    }

    /// Takes the time for the call out, if it is the channel's default.
    pub(crate) const fn take_default_timeout(&mut self) -> Option<Duration> {
        if self.has_own_timeout { None } else { self.timeout.take() }
    }

    /// Returns `true` if the call may be made twice with the effect of once, also at two servers.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        matches!(self.idempotence, Idempotence::Anywhere)
    }

    /// Returns `true` if the call may be made twice with the effect of once, but only at the same server.
    #[must_use]
    pub const fn is_idempotent_at_same_server(&self) -> bool {
        matches!(self.idempotence, Idempotence::SameServer)
    }

    /// Declares that the call may be made twice with the effect of once, also at two servers: see
    /// [`Call::idempotent`](crate::Call::idempotent).
    pub const fn set_idempotent(&mut self) {
        self.idempotence = Idempotence::Anywhere;
        self.flags = self.flags.with(Flags::IDEMPOTENT);
    }

    /// Declares that the call may be made twice with the effect of once, but only at the same server: see
    /// [`Call::idempotent_at_same_server`](crate::Call::idempotent_at_same_server). A call that is idempotent at all
    /// servers stays so.
    pub const fn set_idempotent_at_same_server(&mut self) {
        // The flag on the wire allows a proxy to repeat the call at another server.
        if matches!(self.idempotence, Idempotence::None) {
            self.idempotence = Idempotence::SameServer;
        }
    }

    /// Returns `true` if the server carries out all tries of the call once.
    #[must_use]
    pub const fn is_once(&self) -> bool {
        self.once
    }

    /// Has the server carry the call out once, however often it is made: see [`Call::once`](crate::Call::once). Clones of the
    /// request are tries of the same call.
    pub fn set_once(&mut self) {
        self.set_idempotent_at_same_server();
        if self.is_once() {
            return;
        }
        self.once = true;
        self.options_mut().tries = Some(Arc::default());
        let metadata = self.metadata.get_or_insert_default();
        metadata.insert(ONCE, "1").expect("the key is well formed");
        if metadata.get(IDEMPOTENCY_KEY).is_none() {
            metadata.insert(IDEMPOTENCY_KEY, new_key()).expect("the key is well formed");
        }
    }

    /// Has the servers, which share a store, carry the call out once: see
    /// [`Call::once_anywhere`](crate::Call::once_anywhere).
    pub fn set_once_anywhere(&mut self) {
        self.set_once();
        // Not the flag on the wire, which allows a proxy to repeat the call without its key.
        self.idempotence = Idempotence::Anywhere;
    }

    /// Returns the tries of a call that is carried out once.
    fn tries(&self) -> Option<&OnceTries> {
        if !self.is_once() {
            return None;
        }
        self.options.as_ref()?.tries.as_deref()
    }

    /// Notes that the request is sent over this connection.
    #[inline]
    pub(crate) fn sent_over(&self, connection: &Connection) {
        if let Some(tries) = self.tries() {
            tries.sent_over(connection);
        }
    }

    /// Notes that the request was not sent after all.
    #[inline]
    pub(crate) fn unsent(&self) {
        if let Some(tries) = self.tries() {
            tries.unsent();
        }
    }

    /// Notes how a try ended that was in flight: the connection may have ended before anything of it was written.
    pub(crate) fn lost_in_flight(&self, error: &RpcError) {
        if error.execution() == Execution::NotSent {
            self.unsent();
        }
    }

    /// Notes how a try of the request has failed.
    pub(crate) fn failed(&self, error: &RpcError) {
        if let Some(tries) = self.tries() {
            tries.failed(error.execution());
        }
    }

    /// Makes the requests to all endpoints separate calls, none of which is repeated.
    pub(crate) fn forget_tries(&mut self) {
        if self.is_once() {
            self.options_mut().tries = None;
        }
    }

    pub(crate) const fn idempotence(&self) -> Idempotence {
        self.idempotence
    }

    /// Returns `true` if no response is wanted, as for [`Call::notify`](crate::Call::notify).
    #[must_use]
    pub const fn is_one_way(&self) -> bool {
        self.flags.contains(Flags::ONE_WAY)
    }

    pub(crate) const fn set_one_way(&mut self) {
        self.flags = self.flags.with(Flags::ONE_WAY);
    }

    /// Returns `true` if the caller sends or takes items. Layers see one request for the whole call, and its final response.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        self.flags.contains(Flags::STREAMING)
    }

    /// Returns the stream of a streaming call.
    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.options.as_ref()?.link.as_ref()
    }

    /// Makes it the request of a streaming call.
    pub(crate) fn set_link(&mut self, link: Arc<Link>) {
        if self.is_once() {
            self.options_mut().error.get_or_insert(RequestError::OnceStream);
        }
        self.flags = self.flags.with(Flags::STREAMING);
        self.options_mut().link = Some(link);
    }

    /// Returns the endpoint that is called only if there is no other.
    pub(crate) fn avoided(&self) -> Option<Arc<Backend>> {
        self.options.as_ref()?.avoided.clone()
    }

    /// Sets the endpoint that is called only if there is no other.
    pub(crate) fn avoid(&mut self, backend: Option<Arc<Backend>>) {
        self.options_mut().avoided = backend;
    }

    /// Replaces the arguments.
    pub(crate) fn set_body(&mut self, body: Result<Body, EncodeError>) {
        match body {
            Ok(body) => self.body = body,
            Err(error) => self.options_mut().error = Some(RequestError::Arguments(error)),
        }
    }

    /// Creates the error of a streaming call that was to be made at all endpoints.
    pub(crate) fn broadcast_refusal(&self) -> RpcError {
        let message = format!(
            "`{}` streams: `broadcast` is for calls without items, since each endpoint would have a separate stream",
            self.method
        );
        RpcError::not_sent(Code::InvalidArgument, message).of(self.method_name())
    }

    /// Returns the key for balancers that use the call's own, such as `ConsistentHash::by_key()`.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.options.as_ref()?.key.as_deref()
    }

    /// Sets the key for balancers that use the call's own. Calls with the same key go to the same endpoint.
    pub fn set_key(&mut self, key: impl AsRef<[u8]>) {
        self.options_mut().key = Some(key.as_ref().into());
    }

    pub(crate) fn retry(&self) -> Option<RetryPolicy> {
        self.options.as_ref()?.retry
    }

    /// Sets what is done if the call fails, in place of the channel's policy.
    pub fn set_retry(&mut self, policy: RetryPolicy) {
        self.options_mut().retry = Some(policy);
    }

    pub(crate) fn wait_for_ready(&self) -> Option<bool> {
        self.options.as_ref()?.wait_for_ready
    }

    /// Sets whether the call waits while no endpoint can be reached, in place of the channel's setting.
    pub fn set_wait_for_ready(&mut self, wait: bool) {
        self.options_mut().wait_for_ready = Some(wait);
    }

    /// Returns the endpoint that this request of a broadcast goes to; `None` for other calls.
    pub(crate) fn broadcast_target(&self) -> Option<BroadcastTarget> {
        self.options.as_ref()?.broadcast_target.clone()
    }

    pub(crate) fn set_broadcast_target(&mut self, target: BroadcastTarget) {
        self.options_mut().broadcast_target = Some(target);
    }

    /// Returns a flag that [`Request::leave_layers`] sets.
    pub(crate) fn watch_layers(&mut self) -> Arc<AtomicBool> {
        Arc::clone(self.options_mut().left_layers.get_or_insert_default())
    }

    /// Notes that the layers have passed the request on, so that it may be sent from now on.
    pub(crate) fn leave_layers(&self) {
        if let Some(left) = self.options.as_ref().and_then(|options| options.left_layers.as_ref()) {
            left.store(true, Ordering::Relaxed);
        }
    }

    fn options_mut(&mut self) -> &mut Options {
        self.options.get_or_insert_default()
    }

    /// Takes the request out, and leaves its method behind for errors.
    pub(crate) fn take(&mut self) -> Self {
        let method = self.method.clone();
        std::mem::replace(self, Self { method, ..Self::default() })
    }

    /// Drops the arguments, which are not needed any more.
    pub(crate) fn drop_body(&mut self) {
        self.body = Body::default();
    }

    /// Returns the method, for errors.
    pub(crate) fn method_name(&self) -> Cow<'static, str> {
        self.method.clone()
    }

    /// Starts the call: sets its deadline, and merges what it inherits. Repeated, it only applies what was
    /// changed since.
    ///
    /// # Errors
    ///
    /// The request cannot be sent to any endpoint.
    #[inline]
    pub(crate) fn start(&mut self) -> Result<(), RpcError> {
        let is_bare = self.options.is_none() && self.metadata.is_none() && self.inherited.is_empty();
        if is_bare && self.timeout.is_none() && self.deadline.is_none() {
            return Ok(());
        }
        self.start_described()
    }

    /// Does the same for a request with metadata, options or a time limit, or one that cannot be sent.
    fn start_described(&mut self) -> Result<(), RpcError> {
        if let Some(error) = self.options.as_mut().and_then(|options| options.error.take()) {
            return Err(error.into_rpc_error(&self.method));
        }
        merge(&mut self.inherited, &mut self.metadata);
        if let Some(Err(error)) = self.metadata.as_deref().map(Metadata::check_len) {
            return Err(RequestError::Metadata(error).into_rpc_error(&self.method));
        }
        if self.timeout.is_some() || self.inherited.deadline.is_some() || self.deadline.is_some() {
            let now = Instant::now();
            self.set_deadline(now);
            if self.deadline.is_some_and(|deadline| deadline.is_over(now)) {
                return Err(self.deadline_exceeded(Phase::Prepare));
            }
        }
        Ok(())
    }

    /// Sets the deadline: the earliest of the call's own and the inherited one.
    pub(crate) fn set_deadline(&mut self, now: Instant) {
        let own = self.timeout.take().map(|limit| Deadline::after(now, limit));
        let inherited = self.inherited.deadline.take().map(|at| Deadline::at(at, now));
        self.deadline = Deadline::first(self.deadline, Deadline::first(own, inherited));
    }

    /// Returns the deadline, once the call has started.
    pub(crate) const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns `true` if no time is left for another attempt after such a pause.
    pub(crate) fn is_over_after(&self, pause: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline.is_over(Instant::now() + pause))
    }

    /// Creates the error of a call whose deadline passed in `phase`, before it was sent.
    pub(crate) fn deadline_exceeded(&self, phase: Phase) -> RpcError {
        deadline_exceeded(&self.method, self.deadline, phase)
    }

    /// Returns the key that the balancer asks for, as far as the call has it.
    pub(crate) fn routing_key<'a>(&'a self, source: &KeySource, codec: &Codec) -> Option<Cow<'a, [u8]>> {
        match source {
            KeySource::Call => self.key().map(Cow::Borrowed),
            KeySource::Metadata(key) => {
                let value = self.metadata.as_ref()?.get(key)?;
                Some(Cow::Borrowed(value.as_bytes()))
            }
            KeySource::Argument(name) => {
                routing_key::of_argument(name, &self.body.clone().into_bytes(), codec).map(Cow::Owned)
            }
            // The balancer uses no key.
            _ => None,
        }
    }

    /// Encodes it for `connection`.
    ///
    /// # Errors
    ///
    /// The body is larger than the server accepts, or the server would not know that it has carried out the call before.
    #[inline]
    pub(crate) fn encode(&self, connection: &Connection) -> Result<EncodedRequest<'_>, RpcError> {
        if let Some(tries) = self.tries() {
            tries.check(&self.method, connection)?;
        }
        let metadata = self.metadata.as_deref();
        connection.handle().encode(&self.method, &self.body, metadata, self.flags, self.deadline)
    }

    /// Tells the server which attempt this is.
    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        let metadata = self.metadata.get_or_insert_default();
        metadata.insert(ATTEMPT, attempt.to_string()).expect("the key is well formed");
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("bytes", &self.body.len())
            .field("metadata", &self.metadata)
            .field("timeout", &self.timeout())
            .field("idempotent", &self.is_idempotent())
            .finish_non_exhaustive()
    }
}

mod options;
#[cfg(test)]
mod tests;
