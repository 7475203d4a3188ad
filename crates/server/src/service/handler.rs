//! [`Handler`] with its [`Request`] and [`Response`]: the code that serves calls.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{self, Poll};

use bytes::Bytes;
use farcall_context::{ConnectionInfo, Context, Inherited};
use farcall_protocol::{
    Body, ByteStr, Code, Codec, DecodeError, Flags, FrontMessage, Inbox, IntoMethodError, Message, Metadata,
    MethodError, Status, with_shared_source,
};
use farcall_transport::BufferPool;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::ReusableBoxFuture;

use crate::stream::call_stream::CallStream;
use crate::stream::receiver::Receiver;
use crate::stream::sender::Sender;

/// Handles calls of one method, or of many. Traits and closures become handlers by
/// [`Service`](crate::Service), tower services by [`from_tower`](crate::from_tower); implement it for
/// what they cannot express, such as forwarding calls.
///
/// ```
/// use farcall_protocol::describe::MethodInfo;
/// use farcall_server::{Handler, Request, Response, ResponseFuture, Server, Service};
///
/// /// Answers its arguments as they came.
/// struct Echo;
///
/// impl Handler for Echo {
///     fn call(&self, request: Request) -> ResponseFuture {
///         ResponseFuture::ready(Response::new(request.body().clone()))
///     }
/// }
///
/// let info = MethodInfo::new("echo");
/// let builder = Server::builder().service(Service::new("Text").handler(info, Echo));
/// # let _ = builder;
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Starts to handle a call.
    fn call(&self, request: Request) -> ResponseFuture;

    /// Starts to handle a call on the task that has received it. The handlers of methods do that without a [`Request`].
    #[doc(hidden)]
    fn call_received(&self, received: ReceivedRequest<'_>) -> ResponseFuture {
        self.call(received.into_request())
    }
}

/// The smallest body, in bytes, that is kept in the memory that it was read into while a handler borrows from it: the blocks for
/// messages of that size are not much larger than the message.
const MIN_SHARED_BODY: usize = 32 * 1024;

/// A call as it reaches its handler.
pub struct Request {
    pub(crate) context: Context,
    pub(crate) codec: Codec,
    pub(crate) body: Bytes,
    /// `None` without layers and streams, which is the usual case.
    pub(super) extras: Option<Box<RequestExtras>>,
    /// The memory for the handler's future, if there is some.
    pub(crate) spare: Option<SpareFuture>,
}

/// A request on the task that has received it, whose parts are where they were received. A handler that needs few of them takes
/// those, and no [`Request`] of all parts is built and moved.
pub struct ReceivedRequest<'a> {
    source: Source<'a>,
    inherited: &'a Inherited,
    codec: &'a Codec,
    connection: &'a Arc<ConnectionInfo>,
    /// The memory for the handler's future, if there is some.
    pub(super) spare: &'a mut Option<SpareFuture>,
}

/// The place of a request that was received.
enum Source<'a> {
    /// A message, out of which the name of the method is moved, and the body.
    Message(&'a mut Message),
    /// The front of the inbox.
    Front { inbox: &'a mut Inbox<BufferPool>, front: &'a mut FrontMessage, method: &'a ByteStr },
}

/// The memory of a future that has ended, and that owns nothing any more. The next one of the same size takes it over.
pub(crate) type SpareFuture = ReusableBoxFuture<'static, Response>;

/// The parts of a request that most requests have not.
#[derive(Default)]
pub(super) struct RequestExtras {
    /// The handler behind the layers that the request is passing; `None` without layers.
    pub(super) target: Option<LayerTarget>,
    /// The halves of the stream that were not taken; `None` if it is a plain request.
    stream: Option<RequestStream>,
}

/// The stream of a request, as far as its handler did not take it.
struct RequestStream {
    stream: Arc<CallStream>,
    sender_taken: bool,
    receiver_taken: bool,
}

/// The handler behind the layers that a request is passing. It travels with the request, since a
/// layer is applied once and serves all methods.
pub(super) struct LayerTarget {
    pub(super) handler: Arc<dyn Handler>,
    /// `true` once the handler was called.
    pub(super) started: Arc<AtomicBool>,
}

impl Request {
    /// Creates a request. The server creates those that come to it; this is for unit tests of handlers.
    /// `body` is encoded by `codec`.
    #[must_use]
    pub const fn new(context: Context, codec: Codec, body: Bytes) -> Self {
        Self { context, codec, body, extras: None, spare: None }
    }

    /// Returns everything that is known of the call except for its arguments.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the arguments, encoded by [`Request::codec`].
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the codec of the arguments and of the result.
    #[must_use]
    pub const fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Decodes the arguments: a type with a field for each, by name.
    ///
    /// # Errors
    ///
    /// The status to answer: `invalid_argument`, `refused`, with the mistake and its place.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, Status> {
        with_shared_source(&self.body, || self.codec.decode_arguments(&self.body))
            .map_err(|error| self.invalid(&error))
    }

    /// Decodes the arguments like [`Request::arguments`]; they may borrow from the request.
    ///
    /// # Errors
    ///
    /// As for [`Request::arguments`], and those of [`Codec::borrow_arguments`].
    pub fn borrow_arguments<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Status> {
        with_shared_source(&self.body, || self.codec.borrow_arguments(&self.body))
            .map_err(|error| self.invalid(&error))
    }

    /// Copies a small body: it could keep a whole read buffer alive for as long as the request.
    pub(super) fn detach(&mut self) {
        if self.body.len() < MIN_SHARED_BODY {
            self.body = Bytes::copy_from_slice(&self.body);
        }
    }

    /// Decodes the arguments as the one value that was sent, of any type. Nothing is read as `()`, as `None`, or
    /// as a type with a field for each argument if it needs none.
    ///
    /// # Errors
    ///
    /// As for [`Request::arguments`].
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Status> {
        with_shared_source(&self.body, || self.codec.decode_whole(&self.body))
            .map_err(|error| self.invalid(&error))
    }

    /// Takes the half of the stream by which the handler sends items, once. `None` if the method, as its
    /// [`MethodInfo`](farcall_protocol::describe::MethodInfo) describes it, sends none, or this is a plain request, which is
    /// then to be refused with `invalid_argument`.
    pub fn take_sender<T: Serialize + 'static>(&mut self) -> Option<Sender<T>> {
        let stream = self.extras.as_mut()?.stream.as_mut()?;
        let is_free = stream.stream.sends && !std::mem::replace(&mut stream.sender_taken, true);
        is_free.then(|| Sender::new(Arc::clone(&stream.stream)))
    }

    /// Takes the half of the stream by which the handler receives items, once; `None` as for [`Request::take_sender`]. If it
    /// is not taken, the caller is told to send no items.
    pub fn take_receiver<T: DeserializeOwned + 'static>(&mut self) -> Option<Receiver<T>> {
        let stream = self.extras.as_mut()?.stream.as_mut()?;
        let is_free = stream.stream.takes && !std::mem::replace(&mut stream.receiver_taken, true);
        is_free.then(|| Receiver::new(Arc::clone(&stream.stream)))
    }

    /// Makes it a streaming request.
    pub(crate) fn set_stream(&mut self, stream: Arc<CallStream>) {
        let stream = RequestStream { stream, sender_taken: false, receiver_taken: false };
        self.extras.get_or_insert_default().stream = Some(stream);
    }

    fn invalid(&self, error: &DecodeError) -> Status {
        invalid_arguments(self.context.method(), error)
    }
}

impl<'a> ReceivedRequest<'a> {
    #[inline]
    pub(crate) const fn new(
        message: &'a mut Message,
        inherited: &'a Inherited,
        codec: &'a Codec,
        connection: &'a Arc<ConnectionInfo>,
        spare: &'a mut Option<SpareFuture>,
    ) -> Self {
        Self { source: Source::Message(message), inherited, codec, connection, spare }
    }

    /// Creates a request of `method` that is at the front of the inbox.
    #[inline]
    pub(crate) const fn at_front(
        inbox: &'a mut Inbox<BufferPool>,
        front: &'a mut FrontMessage,
        method: &'a ByteStr,
        inherited: &'a Inherited,
        codec: &'a Codec,
        connection: &'a Arc<ConnectionInfo>,
        spare: &'a mut Option<SpareFuture>,
    ) -> Self {
        Self { source: Source::Front { inbox, front, method }, inherited, codec, connection, spare }
    }

    /// Creates the request of all parts.
    #[inline]
    pub(crate) fn into_request(mut self) -> Request {
        let context = self.take_context();
        let body = match &mut self.source {
            Source::Message(message) => std::mem::take(&mut message.body),
            Source::Front { inbox, front, .. } => inbox.take_front(front),
        };
        let mut request = Request::new(context, self.codec.clone(), body);
        request.spare = self.spare.take();
        request
    }

    /// Takes the context out, once.
    #[inline]
    pub(super) fn take_context(&mut self) -> Context {
        let (name, seq, flags) = match &mut self.source {
            Source::Message(Message { header, .. }) => {
                (std::mem::take(&mut header.service_method), header.seq, header.flags)
            }
            Source::Front { front, method, .. } => ((*method).clone(), front.seq, front.flags),
        };
        let idempotent = flags.contains(Flags::IDEMPOTENT);
        Context::new(name, seq, self.inherited.clone(), idempotent, Arc::clone(self.connection))
    }

    pub(super) const fn codec(&self) -> &Codec {
        self.codec
    }

    /// Decodes the arguments like [`Request::arguments`].
    #[inline]
    pub(super) fn arguments<T: DeserializeOwned>(&self) -> Result<T, Status> {
        self.decoded(|codec, body| codec.decode_arguments(body))
    }

    /// Decodes the arguments like [`Request::value`].
    #[inline]
    pub(super) fn value<T: DeserializeOwned>(&self) -> Result<T, Status> {
        self.decoded(|codec, body| codec.decode_whole(body))
    }

    #[inline]
    fn decoded<T>(&self, decode: fn(&Codec, &[u8]) -> Result<T, DecodeError>) -> Result<T, Status> {
        let decoded = match &self.source {
            // Of those at the front, none is large enough to be shared.
            Source::Front { inbox, front, .. } => decode(self.codec, inbox.front_body(front)),
            Source::Message(Message { body, .. }) => with_shared_source(body, || decode(self.codec, body)),
        };
        decoded.map_err(|error| invalid_arguments(self.method(), &error))
    }

    #[cold]
    fn method(&self) -> &str {
        match &self.source {
            Source::Message(message) => &message.header.service_method,
            Source::Front { method, .. } => method,
        }
    }
}

/// Creates the status of arguments that do not decode.
#[cold]
fn invalid_arguments(method: &str, error: &DecodeError) -> Status {
    Status::refused(Code::InvalidArgument, format!("arguments of `{method}`: {error}"))
}

impl Drop for RequestStream {
    /// Tells the caller that nothing is read, if the handler did not take the half that reads.
    fn drop(&mut self) {
        if self.stream.takes && !self.receiver_taken {
            drop(Receiver::<()>::new(Arc::clone(&self.stream)));
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("context", &self.context)
            .field("codec", &self.codec)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// The response to a call: a result or an error, and metadata.
///
/// ```
/// use farcall_protocol::{Code, Codec, Status};
/// use farcall_server::Response;
///
/// let response = Response::ok(&Codec::Json, &42);
/// assert_eq!((&response.body()[..], response.status()), (&b"42"[..], None));
/// let response = Response::error(Status::refused(Code::InvalidArgument, "negative"));
/// assert_eq!(response.status().map(|status| status.code), Some(Code::InvalidArgument));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Response {
    pub(crate) error: Option<Box<Status>>,
    pub(crate) body: Body,
    pub(crate) metadata: Option<Box<Metadata>>,
    /// `true` if the body is compressed, `false` if that makes it no smaller. `None` until it was tried.
    pub(crate) compressed: Option<bool>,
}

impl Response {
    /// Creates the response of a result that is encoded already.
    pub fn new(body: Bytes) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Creates the response of a result. One that cannot be encoded becomes the error `internal`.
    pub fn ok<T: Serialize + ?Sized>(codec: &Codec, value: &T) -> Self {
        match codec.encode_body_in(&BufferPool, value) {
            Ok(body) => Self { body, ..Self::default() },
            // The work was done; only its result cannot be sent.
            Err(error) => Self::error(Status::done(Code::Internal, format!("the result: {error}"))),
        }
    }

    /// Creates the response of an error with a code.
    pub fn error(status: Status) -> Self {
        Self { error: Some(Box::new(status)), ..Self::default() }
    }

    /// Creates the response of a method's error, under the code `application`: callers that know its
    /// type get `error` itself, others its text.
    pub fn application<E: Serialize + fmt::Display>(codec: &Codec, error: &E) -> Self {
        let status = Status::done(Code::Application, error.to_string());
        match codec.encode_body_in(&BufferPool, error) {
            Ok(body) => Self { error: Some(Box::new(status)), body, ..Self::default() },
            Err(error) => Self::error(Status::done(Code::Internal, format!("the error: {error}"))),
        }
    }

    /// Creates the response of a method that can fail: the value, the method's own error as
    /// [`Response::application`] has it, or the status as [`Response::error`] has it.
    pub fn from_result<T: Serialize, E: IntoMethodError>(codec: &Codec, result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::ok(codec, &value),
            Err(error) => match error.into_method_error() {
                MethodError::Application(error) => Self::application(codec, &error),
                MethodError::Status(status) => Self::error(status),
            },
        }
    }

    /// Adds metadata for the caller.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(Box::new(metadata));
        self
    }

    /// Returns the error; `None` if the call succeeded.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.error.as_deref()
    }

    /// Returns the metadata for the caller; `None` if there is none.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// Returns the encoded result, or the encoded details of the error.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body.clone().into_bytes()
    }
}

/// A future of a [`Response`], which costs no allocation if the response is ready.
pub struct ResponseFuture(FutureState);

enum FutureState {
    Ready(Option<Response>),
    Future(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// One that owns nothing once it is complete.
    Reusable(SpareFuture),
}

impl ResponseFuture {
    /// Creates a future that is already complete.
    #[must_use]
    pub const fn ready(response: Response) -> Self {
        Self(FutureState::Ready(Some(response)))
    }

    /// Creates a future that is complete when `future` is.
    #[must_use]
    pub fn new(future: impl Future<Output = Response> + Send + 'static) -> Self {
        Self(FutureState::Future(Box::pin(future)))
    }

    /// Creates a future in the memory of another one, if that fits. It must own nothing once it is complete.
    #[inline]
    pub(super) fn reusing(
        spare: Option<SpareFuture>,
        future: impl Future<Output = Response> + Send + 'static,
    ) -> Self {
        Self(FutureState::Reusable(match spare {
            None => SpareFuture::new(future),
            Some(mut spare) => match spare.try_set(future) {
                Ok(()) => spare,
                Err(future) => SpareFuture::new(future),
            },
        }))
    }

    /// Returns the memory of the future, which is complete, if another one can take it over.
    #[inline]
    pub(crate) fn into_spare(self) -> Option<SpareFuture> {
        match self.0 {
            FutureState::Reusable(spare) => Some(spare),
            FutureState::Ready(_) | FutureState::Future(_) => None,
        }
    }
}

impl Future for ResponseFuture {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Response> {
        match &mut self.0 {
            FutureState::Ready(response) => {
                Poll::Ready(response.take().expect("not polled after it was ready"))
            }
            FutureState::Future(future) => future.as_mut().poll(cx),
            FutureState::Reusable(future) => future.poll(cx),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
