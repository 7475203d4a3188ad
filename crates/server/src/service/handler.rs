//! What handles a call, and what goes into it and comes out of it.

use std::fmt;
use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use farcall_context::Context;
use farcall_protocol::{Body, Code, Codec, Metadata, Status, with_shared_source};
use farcall_transport::BufferPool;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Handles calls of one method, or of many. Services and closures become handlers by themselves;
/// implement it for what neither can express, such as passing calls on.
pub trait Handler: Send + Sync + 'static {
    /// Begins to handle a call.
    fn call(&self, request: Request) -> ResponseFuture;
}

/// A call as it reaches its handler.
pub struct Request {
    pub(crate) context: Context,
    pub(crate) codec: Codec,
    pub(crate) body: Bytes,
}

impl Request {
    /// What is known of the call beside its arguments.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The arguments, encoded by [`Request::codec`].
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The codec of the arguments and of the result.
    #[must_use]
    pub const fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The arguments: a type with a field for each, by name.
    ///
    /// # Errors
    ///
    /// The status to answer: `invalid_argument`, `refused`, with what was wrong and where.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, Status> {
        with_shared_source(&self.body, || self.codec.decode_arguments(&self.body)).map_err(|error| {
            let message = format!("arguments of `{}`: {error}", self.context.method());
            Status::refused(Code::InvalidArgument, message)
        })
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

/// The answer to a call.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub(crate) error: Option<Box<Status>>,
    pub(crate) body: Body,
    pub(crate) metadata: Option<Box<Metadata>>,
}

impl Response {
    /// A result that is encoded already.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// A result.
    #[must_use]
    pub fn ok<T: Serialize + ?Sized>(codec: &Codec, value: &T) -> Self {
        match codec.encode_body_in(&BufferPool, value) {
            Ok(body) => Self { body, ..Self::default() },
            // The work was done; what cannot be told is its result.
            Err(error) => Self::error(Status::done(Code::Internal, format!("the result: {error}"))),
        }
    }

    /// An error of farcall's.
    #[must_use]
    pub fn error(status: Status) -> Self {
        Self { error: Some(Box::new(status)), ..Self::default() }
    }

    /// An error of the method's own: the caller gets `error` as it is, others its text.
    #[must_use]
    pub fn application<E: Serialize + fmt::Display>(codec: &Codec, error: &E) -> Self {
        let status = Status::done(Code::Application, error.to_string());
        match codec.encode_body_in(&BufferPool, error) {
            Ok(body) => Self { error: Some(Box::new(status)), body, metadata: None },
            Err(error) => Self::error(Status::done(Code::Internal, format!("the error: {error}"))),
        }
    }

    /// Adds metadata for the caller.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(Box::new(metadata));
        self
    }

    /// The error, where the call failed.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.error.as_deref()
    }

    /// What it tells the caller beside its body; none where that is nothing.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// The encoded result, or the encoded details of the error.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body.clone().into_bytes()
    }
}

/// An answer that is there, or on its way.
pub struct ResponseFuture(Inner);

enum Inner {
    Ready(Option<Response>),
    Future(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl ResponseFuture {
    /// An answer that took no waiting.
    #[must_use]
    pub const fn ready(response: Response) -> Self {
        Self(Inner::Ready(Some(response)))
    }

    /// An answer that is on its way.
    #[must_use]
    pub fn new(future: impl Future<Output = Response> + Send + 'static) -> Self {
        Self(Inner::Future(Box::pin(future)))
    }
}

impl Future for ResponseFuture {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Response> {
        match &mut self.0 {
            Inner::Ready(response) => Poll::Ready(response.take().expect("not polled after it was ready")),
            Inner::Future(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
