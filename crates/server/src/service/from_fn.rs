//! Handlers made of functions: what decodes the arguments, calls the function, and encodes its result.

use std::marker::PhantomData;

use farcall_context::Context;
use farcall_protocol::{Codec, Status};
use futures::FutureExt as _;
use serde::de::DeserializeOwned;

use super::handler::{Handler, ReceivedRequest, Request, Response, ResponseFuture, SpareFuture};

/// Creates a handler that decodes arguments by name, calls `start`, and turns its output into a response with
/// `answer`. Generated services are built on it.
pub fn from_fn<Start, Args, Fut, Answer>(start: Start, answer: Answer) -> impl Handler
where
    Start: Fn(Context, Args) -> Fut + Send + Sync + 'static,
    Args: DeserializeOwned + 'static,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + Sync + 'static,
{
    let start = move |context: LazyContext<'_, '_>, args| start(context.take(), args);
    FromFn::<_, _, _, false> { start, answer, takes: PhantomData }
}

/// Creates a handler like [`from_fn`] whose method borrows its arguments: `start` decodes them itself, by
/// [`Request::borrow_arguments`], in the future, which owns the request. Generated services are built on it.
pub fn from_borrowing_fn<Start, Fut, Output, Answer>(start: Start, answer: Answer) -> impl Handler
where
    Start: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Output, Status>> + Send + 'static,
    Output: Send + 'static,
    Answer: Fn(&Codec, Output) -> Response + Copy + Send + Sync + 'static,
{
    FromBorrowingFn { start, answer }
}

struct FromBorrowingFn<Start, Answer> {
    start: Start,
    answer: Answer,
}

impl<Start, Fut, Output, Answer> Handler for FromBorrowingFn<Start, Answer>
where
    Start: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Output, Status>> + Send + 'static,
    Output: Send + 'static,
    Answer: Fn(&Codec, Output) -> Response + Copy + Send + Sync + 'static,
{
    fn call(&self, mut request: Request) -> ResponseFuture {
        let (spare, codec, answer) = (request.spare.take(), request.codec.clone(), self.answer);
        request.detach();
        let future = (self.start)(request).map(move |outcome| match outcome {
            Ok(result) => answer(&codec, result),
            Err(status) => Response::error(status),
        });
        ResponseFuture::reusing(spare, future)
    }
}

/// A closure that can be a method: `async |args| ...` or `async |context, args| ...`.
#[diagnostic::on_unimplemented(
    message = "this closure cannot be a method",
    note = "a method takes one value with all its arguments, `async |args: Args| ...`, or a `Context` and that value, `async |context: Context, args: Args| ...`"
)]
pub trait AsyncMethod<Args, Marker>: Send + Sync + 'static {
    /// The closure's result.
    type Output: Send + 'static;
    /// The closure's future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls the closure.
    fn call(&self, context: Context, args: Args) -> Self::Future;

    /// Calls the closure with a context that is made if it takes one.
    #[doc(hidden)]
    #[inline]
    fn call_with(&self, context: impl FnOnce() -> Context, args: Args) -> Self::Future {
        self.call(context(), args)
    }
}

impl<F, Args, Fut> AsyncMethod<Args, (Args,)> for F
where
    F: Fn(Args) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, _context: Context, args: Args) -> Fut {
        self(args)
    }

    #[inline]
    fn call_with(&self, _context: impl FnOnce() -> Context, args: Args) -> Fut {
        self(args)
    }
}

impl<F, Args, Fut> AsyncMethod<Args, (Context, Args)> for F
where
    F: Fn(Context, Args) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(&self, context: Context, args: Args) -> Fut {
        self(context, args)
    }
}

/// Creates a handler like [`from_fn`] of a closure, which decodes the arguments as one value.
pub(super) fn from_closure<F, Args, Marker, Answer>(method: F, answer: Answer) -> impl Handler
where
    F: AsyncMethod<Args, Marker>,
    Args: DeserializeOwned + 'static,
    Marker: 'static,
    Answer: Fn(&Codec, F::Output) -> Response + Copy + Send + Sync + 'static,
{
    let start = move |context: LazyContext<'_, '_>, args| method.call_with(|| context.take(), args);
    FromFn::<_, _, _, true> { start, answer, takes: PhantomData }
}

/// The context of a call, which is made if the handler takes it.
enum LazyContext<'a, 'b> {
    Made(Context),
    Received(&'a mut ReceivedRequest<'b>),
}

impl LazyContext<'_, '_> {
    #[inline]
    fn take(self) -> Context {
        match self {
            Self::Made(context) => context,
            Self::Received(received) => received.take_context(),
        }
    }
}

/// `IS_WHOLE` is `true` if the arguments are one value, and not a field for each.
struct FromFn<Start, Answer, Args, const IS_WHOLE: bool> {
    start: Start,
    answer: Answer,
    takes: PhantomData<fn(Args)>,
}

impl<Start, Args, Fut, Answer, const IS_WHOLE: bool> Handler for FromFn<Start, Answer, Args, IS_WHOLE>
where
    Start: Fn(LazyContext<'_, '_>, Args) -> Fut + Send + Sync + 'static,
    Args: DeserializeOwned + 'static,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> ResponseFuture {
        let args = if IS_WHOLE { request.value() } else { request.arguments() };
        match args {
            Ok(args) => self.start(args, LazyContext::Made(request.context), request.codec, request.spare),
            Err(status) => ResponseFuture::ready(Response::error(status)),
        }
    }

    fn call_received(&self, mut received: ReceivedRequest<'_>) -> ResponseFuture {
        let args = if IS_WHOLE { received.value() } else { received.arguments() };
        match args {
            Ok(args) => {
                let (codec, spare) = (received.codec().clone(), received.spare.take());
                self.start(args, LazyContext::Received(&mut received), codec, spare)
            }
            Err(status) => ResponseFuture::ready(Response::error(status)),
        }
    }
}

impl<Start, Args, Fut, Answer, const IS_WHOLE: bool> FromFn<Start, Answer, Args, IS_WHOLE>
where
    Start: Fn(LazyContext<'_, '_>, Args) -> Fut,
    Fut: Future<Output: Send> + Send + 'static,
    Answer: Fn(&Codec, Fut::Output) -> Response + Copy + Send + 'static,
{
    // Inlined into both, since a context and a future are large to be moved.
    #[inline(always)]
    fn start(
        &self,
        args: Args,
        context: LazyContext<'_, '_>,
        codec: Codec,
        spare: Option<SpareFuture>,
    ) -> ResponseFuture {
        let answer = self.answer;
        // Not an async block, which would hold the future twice: as a capture, and as what it awaits. Once it is complete,
        // `map` has dropped what it was made of.
        let future = (self.start)(context, args).map(move |result| answer(&codec, result));
        ResponseFuture::reusing(spare, future)
    }
}
