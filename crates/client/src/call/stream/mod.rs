//! Streaming calls: a builder, and the halves that it turns into.
//!
//! A [`StreamCall`] starts a [`task`], which makes the call by the [`attempt`]s that all calls have. It shares a [`link`]
//! with the halves: [`receiving`] takes items, [`sending`] sends them, and [`exchange`] has both.

use std::convert::Infallible;
use std::fmt;
use std::future::{IntoFuture, Ready, poll_fn, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::stream::decode_item;
use farcall_transport::BufferPool;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::exchange::Exchange;
use self::link::Link;
use self::receiving::{ItemStream, Receiving};
use self::resume::Resume;
use self::sending::{ItemSink, Sending};
use super::channel_core::ChannelCore;
use super::request::Request;
use super::retry_policy::RetryPolicy;
use crate::connection::response::DecodeFn;
use crate::connection::streams::Directions;
use crate::error::{CallError, RpcError};

pub(super) mod attempt;
pub(crate) mod exchange;
mod item_turn;
pub(crate) mod link;
pub(crate) mod link_state;
pub(crate) mod receiving;
pub(crate) mod registry;
mod replay;
mod resume;
pub(crate) mod sending;
pub(super) mod task;

/// A streaming call that is about to be made: [`Call::receive`](crate::Call::receive),
/// [`Call::send_items`](crate::Call::send_items) and [`Call::exchange`](crate::Call::exchange) create one, and so do the
/// methods of generated clients. Nothing happens before it is awaited.
///
/// Awaited, it is ready once the request was sent, with an [`ItemStream`], an [`ItemSink`], or an [`Exchange`] of both.
/// `T` is the type of the final value, and `E` the error type of the method.
///
/// Until an item or the response has arrived, the call is made again if it fails, as any call: if it was not carried out, or
/// is idempotent, and if all items are kept that were sent, at most 64 KiB. Afterwards it is not, unless
/// [`StreamCall::resume`] says how.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// let channel = farcall_client::Channel::to("tcp@127.0.0.1:1")?;
/// let ticks = channel.call::<()>("Feed.ticks", &(500,)).receive::<u64>();
/// let refused = ticks.first_within(Duration::from_secs(5)).gap(Duration::from_secs(2)).await;
/// assert!(refused.is_err(), "there is no server");
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is made when it is awaited"]
pub struct StreamCall<K, T, E = Infallible> {
    core: Arc<ChannelCore>,
    request: Request,
    decode: DecodeFn<T, E>,
    first_within: Option<Duration>,
    gap: Option<Duration>,
    resume: Option<Resume>,
    kind: PhantomData<fn() -> K>,
}

/// A call that takes items of type `I`: it becomes an [`ItemStream`].
#[derive(Debug)]
pub struct Receives<I>(PhantomData<fn() -> I>);

/// A call that sends items of type `S`: it becomes an [`ItemSink`].
#[derive(Debug)]
pub struct Sends<S>(PhantomData<fn(S)>);

/// A call that sends items of type `S` and takes items of type `I`: it becomes an [`Exchange`].
#[derive(Debug)]
pub struct Exchanges<S, I>(PhantomData<fn(S) -> I>);

impl<K, T, E> StreamCall<K, T, E> {
    /// Creates a streaming call of a request that was described for a plain one.
    pub(super) fn new(core: Arc<ChannelCore>, mut request: Request, decode: DecodeFn<T, E>) -> Self {
        // A default is no limit for all of a stream, which may be meant to last.
        let first_within = request.take_default_timeout();
        Self { core, request, decode, first_within, gap: None, resume: None, kind: PhantomData }
    }

    /// Sets the time for the whole call, until its response, including connecting and retries. Default: none. The channel's
    /// [default](crate::ChannelBuilder::timeout) applies to the time until the first item or the response instead. An
    /// inherited deadline that is earlier counts. With less than a millisecond nothing is sent.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.set_timeout(limit);
        self
    }

    /// Sets the time until the first item or the response, including connecting and retries; then the call is cancelled,
    /// with `deadline_exceeded`. Default: the channel's timeout, which is none unless it was set. Too low, and a method that
    /// takes long to begin never does; without a limit, a handler that hangs holds its caller.
    pub const fn first_within(mut self, limit: Duration) -> Self {
        self.first_within = Some(limit);
        self
    }

    /// Sends `value` along under `key`. See [`Call::metadata`](crate::Call::metadata).
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.set_metadata(key, value);
        self
    }

    /// Declares that the call may be made twice with the effect of once. See [`Call::idempotent`](crate::Call::idempotent).
    pub fn idempotent(mut self) -> Self {
        self.request.set_idempotent();
        self
    }

    /// Declares that the call may be made twice with the effect of once at the same server. See
    /// [`Call::idempotent_at_same_server`](crate::Call::idempotent_at_same_server).
    pub fn idempotent_at_same_server(mut self) -> Self {
        self.request.set_idempotent_at_same_server();
        self
    }

    /// Sets the key for balancers that use the call's own. See [`Call::key`](crate::Call::key).
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.request.set_key(key);
        self
    }

    /// Sets what is done if the call fails before its first item. Default: the channel's policy. A
    /// [hedged](RetryPolicy::hedge_after) call opens a second stream if the first has no item in time, and only if it sends
    /// no items.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.request.set_retry(policy);
        self
    }

    /// Sets whether the call waits while no endpoint can be reached. See
    /// [`Call::wait_for_ready`](crate::Call::wait_for_ready).
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.request.set_wait_for_ready(wait);
        self
    }

    /// Refuses to call every endpoint at once, which a streaming call cannot do: each endpoint would have a stream of its
    /// own. Call one endpoint, or make a call for each.
    ///
    /// # Errors
    ///
    /// Always: `invalid_argument`, `not_sent`.
    pub fn broadcast(self) -> Ready<Result<Infallible, RpcError>> {
        ready(Err(self.request.broadcast_refusal()))
    }

    /// Starts the task of the call.
    fn start(self, directions: Directions) -> Started<T, E> {
        let Self { core, request, decode, first_within, gap, resume, .. } = self;
        let resume = resume.map(|resume| resume.prepared(&request, first_within));
        let link = task::open(&core, request, directions, first_within);
        Started { core, link, decode, gap, resume }
    }
}

impl<I, T, E> StreamCall<Receives<I>, T, E> {
    /// Sets the longest time to wait for an item after the one before; then the call is cancelled, with
    /// `deadline_exceeded`. Only the time counts in which the caller waits. Default: no limit. Too low, and a pause ends the
    /// stream; without a limit, a handler that hangs is noticed only if its connection breaks.
    pub const fn gap(mut self, limit: Duration) -> Self {
        self.gap = Some(limit);
        self
    }

    /// Lets the stream go on elsewhere when it fails with `unavailable`, or when its server drains: then the method is called
    /// again, with the arguments that `arguments` returns for the last item that was taken; with those of the first call if
    /// there was none. While a server drains, the new stream is opened before the old one is let go of.
    ///
    /// As far as the arguments say where to begin, no item is lost and none comes twice. The final value is that of the last
    /// call. Up to 10 calls in a row are made without an item, with pauses from 50 ms to 5 s between them; then the stream
    /// ends with the last error. The time for the [whole call](StreamCall::timeout) is not renewed.
    ///
    /// ```
    /// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
    /// let numbers = channel.call::<u64>("Feed.count", &(1, 1000)).receive::<u64>();
    /// let mut numbers = numbers.resume(|last| (*last + 1, 1000)).await?;
    /// while let Some(number) = numbers.next().await {
    ///     println!("{}", number?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn resume<A: Serialize>(mut self, mut arguments: impl FnMut(&I) -> A + Send + 'static) -> Self
    where
        I: DeserializeOwned + 'static,
    {
        self.resume = Some(Resume::new(move |codec, body| {
            let last = decode_item::<I>(codec, body).ok()?;
            Some(codec.encode_body_in(&BufferPool, &arguments(&last)))
        }));
        self
    }
}

impl<S, I, T, E> StreamCall<Exchanges<S, I>, T, E> {
    /// Sets the longest time to wait for an item after the one before; then the call is cancelled, with
    /// `deadline_exceeded`. Only the time counts in which the caller waits. Default: no limit. Too low, and a handler that
    /// waits for items is cut off; without a limit, one that hangs is noticed only if its connection breaks.
    pub const fn gap(mut self, limit: Duration) -> Self {
        self.gap = Some(limit);
        self
    }
}

/// A call whose task was started.
struct Started<T, E> {
    core: Arc<ChannelCore>,
    link: Arc<Link>,
    decode: DecodeFn<T, E>,
    gap: Option<Duration>,
    resume: Option<Resume>,
}

impl<T, E> Started<T, E> {
    /// Waits until the request was sent.
    async fn opened<H>(self, half: impl FnOnce(Self) -> H, link: Arc<Link>) -> Result<H, CallError<E>> {
        let decode = self.decode;
        // Made first, so that the call is cancelled if this future is dropped.
        let half = half(self);
        match poll_fn(|cx| link.poll_open(cx)).await {
            Ok(()) => Ok(half),
            Err(error) => match decode(Err(error)) {
                Err(error) => Err(error),
                Ok(_) => Ok(half),
            },
        }
    }
}

impl<I: DeserializeOwned + 'static, T: 'static, E: 'static> IntoFuture for StreamCall<Receives<I>, T, E> {
    type Output = Result<ItemStream<I, T, E>, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let started = self.start(Directions { sends: false, receives: true });
            let link = Arc::clone(&started.link);
            started.opened(ItemStream::of, link).await
        })
    }
}

impl<S: Serialize + 'static, T: 'static, E: 'static> IntoFuture for StreamCall<Sends<S>, T, E> {
    type Output = Result<ItemSink<S, T, E>, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let started = self.start(Directions { sends: true, receives: false });
            let link = Arc::clone(&started.link);
            started.opened(ItemSink::of, link).await
        })
    }
}

impl<S: Serialize + 'static, I: DeserializeOwned + 'static, T: 'static, E: 'static> IntoFuture
    for StreamCall<Exchanges<S, I>, T, E>
{
    type Output = Result<Exchange<S, I, T, E>, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let started = self.start(Directions { sends: true, receives: true });
            let link = Arc::clone(&started.link);
            started.opened(Exchange::of, link).await
        })
    }
}

impl<K, T, E> fmt::Debug for StreamCall<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCall").field("method", &self.request.method()).finish_non_exhaustive()
    }
}

impl<I: DeserializeOwned + 'static, T, E> ItemStream<I, T, E> {
    fn of(started: Started<T, E>) -> Self {
        let Started { core, link, decode, gap, resume } = started;
        Self::new(Receiving::new(core, link, gap, resume), decode)
    }
}

impl<S: Serialize + 'static, T, E> ItemSink<S, T, E> {
    fn of(started: Started<T, E>) -> Self {
        let Started { core, link, decode, .. } = started;
        Self::new(Sending::new(core.codec.clone(), link), decode)
    }
}

impl<S: Serialize + 'static, I: DeserializeOwned + 'static, T, E> Exchange<S, I, T, E> {
    fn of(started: Started<T, E>) -> Self {
        let Started { core, link, decode, gap, .. } = started;
        let sending = Sending::new(core.codec.clone(), Arc::clone(&link));
        Self::new(sending, Receiving::new(core, link, gap, None), decode)
    }
}
