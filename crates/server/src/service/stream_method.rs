//! Streaming methods: closures that take a [`Sender`] or a [`Receiver`], or both.

use std::any::TypeId;
use std::marker::PhantomData;

use farcall_context::Context;
use farcall_protocol::describe::MethodInfo;
use farcall_protocol::{Bytes, Code, Codec, Status};
use farcall_schema::{MethodTypes, TypeSource};
use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handler::{Handler, Request, Response, ResponseFuture};
use crate::stream::receiver::Receiver;
use crate::stream::sender::Sender;

/// The halves of a stream that a handler takes: a [`Sender`], a [`Receiver`], or both.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the half of a stream of a method",
    note = "items that a `farcall::Sender` sends are `serde::Serialize`, those that a `farcall::Receiver` receives are `serde::Deserialize`"
)]
pub trait StreamHalves: Send + Sized + 'static {
    /// Adds the directions to a method's description, and the types of the items.
    #[doc(hidden)]
    fn describe(info: MethodInfo) -> MethodInfo;

    /// Adds the types of the items to those of a method.
    #[doc(hidden)]
    fn types(types: MethodTypes) -> MethodTypes;

    /// Takes the halves out of a request; `None` if it is not a streaming one.
    #[doc(hidden)]
    fn take(request: &mut Request) -> Option<Self>;
}

impl<T: Serialize + 'static> StreamHalves for Sender<T> {
    fn describe(info: MethodInfo) -> MethodInfo {
        info.sends_items(std::any::type_name::<T>())
    }

    fn types(types: MethodTypes) -> MethodTypes {
        types.items_out(item_source::<T>(TypeSource::named::<T>()))
    }

    fn take(request: &mut Request) -> Option<Self> {
        request.take_sender()
    }
}

impl<T: DeserializeOwned + 'static> StreamHalves for Receiver<T> {
    fn describe(info: MethodInfo) -> MethodInfo {
        info.takes_items(std::any::type_name::<T>())
    }

    fn types(types: MethodTypes) -> MethodTypes {
        types.items_in(item_source::<T>(TypeSource::of::<T>()))
    }

    fn take(request: &mut Request) -> Option<Self> {
        request.take_receiver()
    }
}

impl<S, T> StreamHalves for (Receiver<S>, Sender<T>)
where
    S: DeserializeOwned + 'static,
    T: Serialize + 'static,
{
    fn describe(info: MethodInfo) -> MethodInfo {
        Sender::<T>::describe(Receiver::<S>::describe(info))
    }

    fn types(types: MethodTypes) -> MethodTypes {
        Sender::<T>::types(Receiver::<S>::types(types))
    }

    fn take(request: &mut Request) -> Option<Self> {
        Some((request.take_receiver()?, request.take_sender()?))
    }
}

/// Returns the type of items of type `T`: a byte string if they are sent as one, and otherwise `source`.
#[doc(hidden)]
#[must_use]
pub fn item_source<T: 'static>(source: TypeSource) -> TypeSource {
    let is_bytes = TypeId::of::<T>() == TypeId::of::<Vec<u8>>() || TypeId::of::<T>() == TypeId::of::<Bytes>();
    if is_bytes { TypeSource::of::<Bytes>() } else { source }
}

/// A closure that can be a method with a stream in one direction, `Half` being a [`Sender`] or a [`Receiver`]:
/// `async |args, half| ...` or `async |context, args, half| ...`.
#[diagnostic::on_unimplemented(
    message = "this closure cannot be a streaming method",
    note = "such a method takes one value with all its arguments and its half of the stream, `async |args: Args, out: Sender<Item>| ...`, or a `Context` before them"
)]
pub trait AsyncStreamMethod<Args, Half, Marker>: Send + Sync + 'static {
    /// The closure's result.
    type Output: Send + 'static;
    /// The closure's future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls the closure.
    fn call(&self, context: Context, args: Args, half: Half) -> Self::Future;
}

impl<F, Args, Half, Fut> AsyncStreamMethod<Args, Half, (Args, Half)> for F
where
    F: Fn(Args, Half) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, _context: Context, args: Args, half: Half) -> Fut {
        self(args, half)
    }
}

impl<F, Args, Half, Fut> AsyncStreamMethod<Args, Half, (Context, Args, Half)> for F
where
    F: Fn(Context, Args, Half) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, context: Context, args: Args, half: Half) -> Fut {
        self(context, args, half)
    }
}

/// A closure that can be a method with streams in both directions: `async |args, items, out| ...` or
/// `async |context, args, items, out| ...`.
#[diagnostic::on_unimplemented(
    message = "this closure cannot be a method that streams both ways",
    note = "such a method takes one value with all its arguments, a receiver and a sender, `async |args: Args, items: Receiver<In>, out: Sender<Out>| ...`, or a `Context` before them"
)]
pub trait AsyncExchangeMethod<Args, In, Out, Marker>: Send + Sync + 'static {
    /// The closure's result.
    type Output: Send + 'static;
    /// The closure's future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls the closure.
    fn call(&self, context: Context, args: Args, items: Receiver<In>, out: Sender<Out>) -> Self::Future;
}

impl<F, Args, In, Out, Fut> AsyncExchangeMethod<Args, In, Out, (Args, In, Out)> for F
where
    F: Fn(Args, Receiver<In>, Sender<Out>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, _context: Context, args: Args, items: Receiver<In>, out: Sender<Out>) -> Fut {
        self(args, items, out)
    }
}

impl<F, Args, In, Out, Fut> AsyncExchangeMethod<Args, In, Out, (Context, Args, In, Out)> for F
where
    F: Fn(Context, Args, Receiver<In>, Sender<Out>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, context: Context, args: Args, items: Receiver<In>, out: Sender<Out>) -> Fut {
        self(context, args, items, out)
    }
}

/// Creates a handler of a streaming method that decodes arguments by name, calls `start` with the halves of the stream, and
/// turns its output into a response with `answer`. Generated services are built on it.
pub fn from_stream_fn<Start, Args, Halves, Fut, Answer>(start: Start, answer: Answer) -> impl Handler
where
    Start: Fn(Context, Args, Halves) -> Fut + Send + Sync + 'static,
    Args: DeserializeOwned + 'static,
    Halves: StreamHalves,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + Sync + 'static,
{
    FromStreamFn::<_, _, _, _, false> { start, answer, takes: PhantomData }
}

/// Creates a handler like [`from_stream_fn`] that decodes the arguments as one value.
pub(super) fn from_stream_closure<Start, Args, Halves, Fut, Answer>(
    start: Start,
    answer: Answer,
) -> impl Handler
where
    Start: Fn(Context, Args, Halves) -> Fut + Send + Sync + 'static,
    Args: DeserializeOwned + 'static,
    Halves: StreamHalves,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + Sync + 'static,
{
    FromStreamFn::<_, _, _, _, true> { start, answer, takes: PhantomData }
}

/// `IS_WHOLE` is `true` if the arguments are one value, and not a field for each.
struct FromStreamFn<Start, Answer, Args, Halves, const IS_WHOLE: bool> {
    start: Start,
    answer: Answer,
    takes: PhantomData<fn(Args, Halves)>,
}

impl<Start, Args, Halves, Fut, Answer, const IS_WHOLE: bool> Handler
    for FromStreamFn<Start, Answer, Args, Halves, IS_WHOLE>
where
    Start: Fn(Context, Args, Halves) -> Fut + Send + Sync + 'static,
    Args: DeserializeOwned + 'static,
    Halves: StreamHalves,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + Sync + 'static,
{
    fn call(&self, mut request: Request) -> ResponseFuture {
        let Some(halves) = Halves::take(&mut request) else {
            return ResponseFuture::ready(Response::error(not_streaming(&request)));
        };
        let args = if IS_WHOLE { request.value() } else { request.arguments() };
        let args = match args {
            Ok(args) => args,
            Err(status) => return ResponseFuture::ready(Response::error(status)),
        };
        let Request { context, codec, .. } = request;
        let answer = self.answer;
        ResponseFuture::new((self.start)(context, args, halves).map(move |result| answer(&codec, result)))
    }
}

/// Returns the status to answer to a plain request for a streaming method: here, so that no other request is checked.
#[cold]
fn not_streaming(request: &Request) -> Status {
    let method = request.context().method();
    Status::refused(Code::InvalidArgument, format!("`{method}` streams items, and this is a plain request"))
}
