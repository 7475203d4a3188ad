//! A call as it is asked for, and what is made of it to be sent.

use std::borrow::Cow;
use std::time::Duration;

use farcall_context::Inherited;
use farcall_context::trace::{TRACESTATE, TraceContext};
use farcall_discovery::KeySource;
use farcall_protocol::metadata::{ATTEMPT, RESERVED_PREFIX, TRACEPARENT};
use farcall_protocol::{
    Body, Code, Codec, Compression, EncodeError, Execution, Flags, Metadata, MetadataError, Part, TooLarge,
};
use farcall_transport::HumanDuration;
use tokio::time::Instant;

use crate::call::retry_policy::RetryPolicy;
use crate::call::routing_key;
use crate::call::span::counted;
use crate::connection::{Connection, NotSent, Outgoing};
use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// A call as it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// What is sent; without its deadline, and without what is inherited, before [`Request::prepare`].
    ready: Ready,
    pub(crate) timeout: Option<Duration>,
    pub(crate) inherited: Inherited,
    /// Why the arguments did not encode.
    unencoded: Option<Box<EncodeError>>,
    /// Why a key was refused, the first of them.
    mistake: Option<Box<MetadataError>>,
}

/// What a call says of where it is to go, beyond what its channel says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    /// What consistent hashing goes by.
    pub(crate) key: Option<Box<[u8]>>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) wait_for_ready: Option<bool>,
}

impl Request {
    // Inlined where calls are made, in the crates of others, so that it is written where it stays.
    #[inline]
    pub(crate) fn new(
        method: Cow<'static, str>,
        body: Result<Body, EncodeError>,
        timeout: Option<Duration>,
        inherited: Inherited,
    ) -> Self {
        let (body, unencoded) = match body {
            Ok(body) => (body, None),
            Err(error) => (Body::default(), Some(Box::new(error))),
        };
        let ready = Ready { method, body, ..Ready::default() };
        Self { ready, timeout, inherited, unencoded, mistake: None }
    }

    pub(crate) fn method(&self) -> &str {
        &self.ready.method
    }

    /// The metadata that the call itself sets.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.ready.metadata.as_deref()
    }

    /// Sets a pair of metadata, or remembers that its key was refused.
    pub(crate) fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let metadata = self.ready.metadata.get_or_insert_default();
        if let Err(mistake) = metadata.insert(key, value) {
            self.mistake.get_or_insert_with(|| Box::new(mistake));
        }
    }

    pub(crate) const fn set_idempotent(&mut self) {
        self.ready.flags = self.ready.flags.with(Flags::IDEMPOTENT);
    }

    pub(crate) fn routing(&mut self) -> &mut Routing {
        self.ready.routing.get_or_insert_default()
    }

    /// Fixes the deadline, and merges what is inherited: to be done once, before anything is sent.
    ///
    /// # Errors
    ///
    /// It cannot be sent to anybody.
    pub(crate) fn prepare(&mut self) -> Result<(), RpcError> {
        let ready = &mut self.ready;
        let wrong = |message| {
            RpcError::new(Code::InvalidArgument, Execution::NotSent, Phase::Prepare, message)
                .of(ready.method.clone())
        };
        if let Some(mistake) = self.mistake.take() {
            return Err(wrong(format!("`{}`: {mistake}", ready.method)).with_source(*mistake));
        }
        if let Some(error) = self.unencoded.take() {
            return Err(wrong(format!("arguments of `{}`: {error}", ready.method)).with_source(*error));
        }
        merge(&self.inherited, &mut ready.metadata);
        if self.timeout.is_some() || self.inherited.deadline.is_some() {
            let now = Instant::now();
            let own = self.timeout.map(|limit| Deadline::after(now, limit));
            ready.deadline = Deadline::first(own, self.inherited.deadline.map(|at| Deadline::at(at, now)));
            if ready.deadline.is_some_and(|deadline| deadline.is_over(now)) {
                return Err(ready.out_of_time(Phase::Prepare).of(ready.method.clone()));
            }
        }
        Ok(())
    }

    /// What is sent, once it was prepared.
    pub(crate) const fn prepared(&mut self) -> &mut Ready {
        &mut self.ready
    }

    /// Prepares it, to be sent.
    ///
    /// # Errors
    ///
    /// It cannot be sent to anybody.
    pub(crate) fn ready(mut self) -> Result<Ready, RpcError> {
        self.prepare()?;
        Ok(self.ready)
    }
}

/// Puts inherited metadata and the call's place in its trace below what the call itself says.
fn merge(inherited: &Inherited, own: &mut Option<Box<Metadata>>) {
    let Inherited { metadata, trace, .. } = inherited;
    if metadata.is_none() && trace.is_none() {
        return;
    }
    let mut merged = metadata.as_deref().cloned().unwrap_or_default();
    merged.retain(|key, _| !key.starts_with(RESERVED_PREFIX));
    let trace = trace.as_deref().copied();
    let named = own.as_deref().and_then(|own| own.get(TRACEPARENT));
    if named.is_some() || trace.is_some() {
        let goes = named.map_or(trace, TraceContext::parse);
        let came = merged.get(TRACEPARENT).and_then(TraceContext::parse);
        if came.is_none() || came.map(|came| came.trace_id()) != goes.map(|goes| goes.trace_id()) {
            // What is said of one trace is not true of another.
            merged.remove(TRACESTATE);
        }
    }
    if let Some(trace) = trace {
        merged.insert(TRACEPARENT, trace.to_string()).expect("the key is well formed");
    }
    for (key, value) in own.take().map(|own| *own).unwrap_or_default() {
        // Checked when it was set.
        let _ = merged.insert(key, value);
    }
    *own = (!merged.is_empty()).then(|| Box::new(merged));
}

/// A request that is ready to be sent, as often as need be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    method: Cow<'static, str>,
    body: Body,
    flags: Flags,
    metadata: Option<Box<Metadata>>,
    pub(crate) deadline: Option<Deadline>,
    routing: Option<Box<Routing>>,
}

impl Ready {
    pub(crate) const fn method(&self) -> &Cow<'static, str> {
        &self.method
    }

    pub(crate) fn into_method(self) -> Cow<'static, str> {
        self.method
    }

    /// The method, for the outcome of a call that has ended: what was sent is not needed any more.
    pub(crate) fn take_method(&mut self) -> Cow<'static, str> {
        self.body = Body::default();
        std::mem::take(&mut self.method)
    }

    /// Whether no time is left for a further try after such a pause.
    pub(crate) fn is_over_after(&self, pause: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline.is_over(Instant::now() + pause))
    }

    /// What the balancer goes by, as far as the call has it.
    pub(crate) fn key<'a>(&'a self, source: &KeySource, codec: &Codec) -> Option<Cow<'a, [u8]>> {
        match source {
            KeySource::Call => {
                let routing = self.routing.as_ref()?;
                routing.key.as_deref().map(Cow::Borrowed)
            }
            KeySource::Metadata(key) => {
                let value = self.metadata.as_ref()?.get(key)?;
                Some(Cow::Borrowed(value.as_bytes()))
            }
            KeySource::Argument(name) => {
                routing_key::of_argument(name, &self.body.clone().into_bytes(), codec).map(Cow::Owned)
            }
            // No key is wanted.
            _ => None,
        }
    }

    pub(crate) fn retry(&self) -> Option<RetryPolicy> {
        self.routing.as_ref()?.retry
    }

    pub(crate) fn wait_for_ready(&self) -> Option<bool> {
        self.routing.as_ref()?.wait_for_ready
    }

    /// Whether it may be sent twice.
    pub(crate) const fn is_idempotent(&self) -> bool {
        self.flags.contains(Flags::IDEMPOTENT)
    }

    /// The same request, to which no answer is wanted.
    pub(crate) fn one_way(mut self) -> Self {
        self.flags = self.flags.with(Flags::ONE_WAY);
        self
    }

    /// The body as it goes over `connection`: compressed, where that was agreed on and pays.
    ///
    /// # Errors
    ///
    /// It is larger than the server accepts.
    pub(crate) fn pack(&self, connection: &Connection) -> Result<Packed, RpcError> {
        let negotiated = connection.negotiated();
        let (size, limit) = (self.body.len(), negotiated.send_limit.get());
        if size > limit {
            return Err(self.too_large(&TooLarge { part: Part::Body, size, limit }, connection));
        }
        let compress = |compression: Compression| compression.compress(&self.body.clone().into_bytes());
        Ok(match negotiated.compression.and_then(compress) {
            Some(body) => Packed { compressed: Some(body.into()), flags: self.flags.with(Flags::COMPRESSED) },
            None => Packed { compressed: None, flags: self.flags },
        })
    }

    /// Tells the server which try this is.
    pub(crate) fn mark(&mut self, attempt: u32) {
        let metadata = self.metadata.get_or_insert_default();
        metadata.insert(ATTEMPT, attempt.to_string()).expect("the key is well formed");
        counted(attempt);
    }

    /// The error for a request that did not leave in `phase`.
    pub(crate) fn not_sent(&self, why: &NotSent, phase: Phase, connection: &Connection) -> RpcError {
        match why {
            NotSent::TooLarge(error) => self.too_large(error, connection),
            NotSent::TooLate => self.out_of_time(phase).at(connection.endpoint()),
            NotSent::Closed | NotSent::NoPlace | NotSent::NoRoom => {
                RpcError::new(Code::Unavailable, Execution::NotSent, phase, connection.why_closed())
                    .at(connection.endpoint())
            }
        }
    }

    fn too_large(&self, error: &TooLarge, connection: &Connection) -> RpcError {
        let message = format!("`{}`: the request's {error}", self.method);
        RpcError::new(Code::ResourceExhausted, Execution::NotSent, Phase::Prepare, message)
            .at(connection.endpoint())
    }

    /// The error for a request whose time was up in `phase`.
    pub(crate) fn out_of_time(&self, phase: Phase) -> RpcError {
        let limit = HumanDuration(self.deadline.map_or(Duration::ZERO, |deadline| deadline.limit));
        let message = match phase {
            Phase::Connect => format!("no connection within {limit}"),
            Phase::Queue => format!("no place for the call within {limit}"),
            Phase::Write => format!("no room for the request within {limit}"),
            _ => format!("`{}` was not called: of its time, {limit} was left", self.method),
        };
        RpcError::new(Code::DeadlineExceeded, Execution::NotSent, phase, message)
    }
}

/// What of a request depends on the connection that it goes over.
pub(crate) struct Packed {
    compressed: Option<Body>,
    flags: Flags,
}

impl Packed {
    pub(crate) fn outgoing<'a>(&'a self, ready: &'a Ready) -> Outgoing<'a> {
        Outgoing {
            method: &ready.method,
            body: self.compressed.as_ref().unwrap_or(&ready.body),
            flags: self.flags,
            metadata: ready.metadata.as_deref(),
            deadline: ready.deadline,
        }
    }
}
