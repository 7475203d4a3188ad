//! [`ItemStream`]: the receiving half of a streaming call.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_protocol::stream::{TakenItems, decode_item};
use farcall_protocol::time::later;
use farcall_protocol::{Code, Execution};
use farcall_runtime::time::{Instant, Sleep, sleep_until};
use farcall_transport::HumanDuration;
use futures::Stream;
use serde::de::DeserializeOwned;

use super::item_turn::ItemTurn;
use super::link::Link;
use super::link_state::{Outcome, Waiter};
use super::resume::{Resume, Step};
use super::sending::{decoded, error_of};
use crate::call::channel_core::ChannelCore;
use crate::connection::open_stream::OpenStream;
use crate::connection::response::DecodeFn;
use crate::error::{CallError, Phase, RpcError};

/// The receiving half of a streaming call, a [`futures::Stream`] of items of type `T`. `R` is the type of the final value,
/// and `E` the error type of the method.
///
/// The stream ends with `None` when the method has returned a value, which [`ItemStream::finish`] returns; if the method
/// failed, or the stream was cut, the error comes first, once. So a stream that was cut is never taken for a complete one.
/// Dropped before its end, it cancels the call.
///
/// ```
/// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
/// let mut numbers = channel.call::<u64>("Feed.count", &(1, 10)).receive::<u64>().await?;
/// let mut sum = 0;
/// while let Some(number) = numbers.next().await {
///     sum += number?;
/// }
/// assert_eq!((sum, numbers.finish().await?), (55, 10));
/// # Ok(())
/// # }
/// ```
pub struct ItemStream<T, R = (), E = Infallible> {
    receiving: Receiving,
    decode: DecodeFn<R, E>,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static, R, E> ItemStream<T, R, E> {
    pub(super) const fn new(receiving: Receiving, decode: DecodeFn<R, E>) -> Self {
        Self { receiving, decode, item: PhantomData }
    }

    /// Takes the next item, as `next` of [`futures::StreamExt`] does. `None` at the end of a stream that is complete. If the
    /// future is dropped before it is ready, no item is lost.
    ///
    /// # Errors
    ///
    /// The call has failed, or the item is not a `T`; the stream ends with it.
    pub async fn next(&mut self) -> Option<Result<T, CallError<E>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Takes no more items, and waits for the final value. The server is told to stop, and what arrives is dropped, unless
    /// the stream has ended. If the future is dropped, so is the call, unless its other half is there.
    ///
    /// # Errors
    ///
    /// The call has failed; the method's own error is [`CallError::Application`].
    pub async fn finish(mut self) -> Result<R, CallError<E>> {
        self.stop();
        let outcome = poll_fn(|cx| self.receiving.poll_outcome(cx)).await;
        decoded(self.decode, &self.receiving.link, outcome)
    }

    /// Takes no more items: the server is told to stop, and the stream ends. The call goes on, and [`ItemStream::finish`]
    /// waits for its final value.
    pub fn stop(&mut self) {
        self.receiving.stop();
    }

    /// Returns `true` if the server drains, or its connection closes: the stream goes on, as long as the server lets it.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.receiving.link.is_draining()
    }

    /// Waits until the server drains, or the call is over.
    pub async fn draining(&self) {
        self.receiving.link.draining().await;
    }
}

impl<T: DeserializeOwned + 'static, R, E> Stream for ItemStream<T, R, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(this.receiving.poll_next(cx));
        Poll::Ready(next.map(|item| item.map_err(|error| error_of(this.decode, error))))
    }
}

impl<T, R, E> fmt::Debug for ItemStream<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemStream").field("method", &self.receiving.link.method()).finish_non_exhaustive()
    }
}

/// The receiving half of a call, whatever its types are.
pub(super) struct Receiving {
    pub(super) link: Arc<Link>,
    core: Arc<ChannelCore>,
    /// The stream of the link once an item has come over it: it stays that one.
    current: Option<Current>,
    /// `true` once it ended, with or without an error.
    ended: bool,
    gap: Option<Gap>,
    resume: Option<Box<Resume>>,
    turn: ItemTurn,
    /// `true` if a call that another one has replaced may have done something.
    may_have_run: bool,
}

/// An item, the error that the call has ended with, or the end.
type Next<T> = Option<Result<T, RpcError>>;

/// The stream that items come over.
struct Current {
    stream: Arc<OpenStream>,
    /// The items that were taken from it, and that the caller has not taken.
    items: TakenItems,
    /// The length of the encoded value of the last one that the caller took.
    last_len: usize,
}

impl Current {
    /// Takes the next item, and decodes it.
    fn next<T: DeserializeOwned + 'static>(
        &mut self,
        resume: Option<&mut Resume>,
    ) -> Option<Result<T, RpcError>> {
        let Self { stream, items, last_len } = self;
        let item = items.take_next()?;
        *last_len = item.body.len();
        let decoded = stream.value(item).and_then(|value| {
            if let Some(resume) = resume {
                resume.taken(&value);
            }
            decode_item(stream.codec(), &value)
                .map_err(|error| stream.unreadable(&error.to_string()).with_source(error))
        });
        stream.account(items);
        Some(decoded)
    }
}

impl Receiving {
    pub(super) fn new(
        core: Arc<ChannelCore>,
        link: Arc<Link>,
        gap: Option<Duration>,
        resume: Option<Resume>,
    ) -> Self {
        let gap = gap.map(|limit| Gap { limit, timer: None });
        Self {
            link,
            core,
            current: None,
            ended: false,
            gap,
            resume: resume.map(Box::new),
            turn: ItemTurn::default(),
            may_have_run: false,
        }
    }

    fn poll_next<T: DeserializeOwned + 'static>(&mut self, cx: &mut Context<'_>) -> Poll<Next<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let permission = ready!(self.turn.poll(cx));
        let polled = match self.resume.take() {
            None => self.poll_link(None, cx),
            Some(mut resume) => {
                let polled = self.poll_resumable(&mut resume, cx);
                self.resume = Some(resume);
                polled
            }
        };
        match polled {
            Poll::Ready(Some(Ok(item))) => {
                self.turn.spend(permission, self.current.as_ref().map_or(0, |current| current.last_len));
                if let Some(gap) = &mut self.gap {
                    gap.item_came();
                }
                Poll::Ready(Some(Ok(item)))
            }
            Poll::Ready(end) => {
                self.ended = true;
                self.current = None;
                Poll::Ready(end.map(|error| {
                    let error = error.map_err(|error| error.of(self.link.method().to_owned().into()));
                    if let Err(error) = &error {
                        self.link.cancel(error.clone());
                    }
                    error
                }))
            }
            Poll::Pending => {
                let Some(gap) = &mut self.gap else { return Poll::Pending };
                let limit = ready!(gap.poll_over(&self.link, cx));
                let message = format!("no item within {}, the `gap` of the call", HumanDuration(limit));
                let (code, execution) = (Code::DeadlineExceeded, Execution::Maybe);
                let error = RpcError::new(code, execution, Phase::Wait, message);
                let error = match self.link.endpoint() {
                    Some(endpoint) => error.at(&endpoint),
                    None => error,
                };
                Poll::Ready(Some(Err(self.fail(error))))
            }
        }
    }

    /// Takes the next item, or the error that the call has ended with.
    fn poll_link<T: DeserializeOwned + 'static>(
        &mut self,
        mut resume: Option<&mut Resume>,
        cx: &mut Context<'_>,
    ) -> Poll<Next<T>> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(item) = current.next(resume.as_deref_mut()) {
                    return Poll::Ready(Some(item));
                }
                if let Poll::Ready(Some(items)) = current.stream.poll_items(cx) {
                    current.items = items;
                    continue;
                }
            }
            let Some((items, stream)) = ready!(self.link.poll_items(cx)) else { break };
            self.current = Some(Current { stream, items, last_len: 0 });
        }
        Poll::Ready(match self.link.outcome() {
            Some(Err(error)) => Some(Err(error)),
            // It was stopped, or has succeeded.
            _ => None,
        })
    }

    /// Takes the next item of a call that goes on elsewhere when it fails.
    fn poll_resumable<T: DeserializeOwned + 'static>(
        &mut self,
        resume: &mut Resume,
        cx: &mut Context<'_>,
    ) -> Poll<Next<T>> {
        loop {
            match ready_step(resume.poll_step(&self.link, &self.core, cx)) {
                Step::Wait => return Poll::Pending,
                Step::Switch(link) => self.switch(link),
                Step::Take => match ready!(self.poll_link(Some(resume), cx)) {
                    Some(Err(error)) if resume.failed(&error) => {}
                    end => return Poll::Ready(end.map(|end| end.map_err(|error| self.of_all_calls(error)))),
                },
            }
        }
    }

    /// Goes on with another call, and lets go of this one.
    fn switch(&mut self, link: Arc<Link>) {
        self.core.streams.count_resumed();
        self.current = None;
        self.may_have_run |= self.link.was_sent();
        std::mem::replace(&mut self.link, link).drop_half(true);
    }

    /// Ends the stream with an error of this side, and cancels the call.
    fn fail(&mut self, error: RpcError) -> RpcError {
        self.ended = true;
        self.current = None;
        let error = error.of(self.link.method().to_owned().into());
        self.link.cancel(error.clone());
        error
    }

    fn stop(&mut self) {
        if !self.ended {
            self.ended = true;
            self.current = None;
            self.link.stop();
        }
    }

    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = self.link.poll_outcome(Waiter::Receiver, cx);
        outcome.map(|outcome| outcome.map_err(|error| self.of_all_calls(error)))
    }

    /// Returns the error of the last call as that of all of them: nothing says that the earlier ones were not carried out.
    fn of_all_calls(&self, error: RpcError) -> RpcError {
        if self.may_have_run { error.after_items() } else { error }
    }
}

/// Returns the step; one that is not ready is to wait.
fn ready_step(step: Poll<Step>) -> Step {
    match step {
        Poll::Ready(step) => step,
        Poll::Pending => Step::Wait,
    }
}

impl Drop for Receiving {
    /// Cancels the call if this half has not ended.
    fn drop(&mut self) {
        self.link.drop_half(self.ended);
    }
}

/// The longest time to wait for an item after the one before.
struct Gap {
    limit: Duration,
    /// The end of the wait, while the caller waits for an item.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Gap {
    fn item_came(&mut self) {
        self.timer = None;
    }

    /// Ready with the limit when it has passed. Only the time between two items counts.
    fn poll_over(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<Duration> {
        if !link.has_begun() {
            return Poll::Pending;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(later(Instant::now(), limit))));
        timer.as_mut().poll(cx).map(|()| limit)
    }
}
