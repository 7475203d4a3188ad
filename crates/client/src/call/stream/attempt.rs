//! One attempt of a streaming call: opening its stream, and watching it until it is over.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::{Code, Execution, metadata};
use farcall_runtime::time::{timeout, timeout_at};
use farcall_transport::HumanDuration;
use futures::future::{Either, select};
use tracing::debug;

use super::link::Link;
use super::link_state::Outcome;
use crate::call::attempt_report::AttemptReason;
use crate::call::channel_core::ChannelCore;
use crate::call::endpoint_choice::EndpointChoice;
use crate::call::request::Request;
use crate::call::retry::{leaves_to_other, most_informative};
use crate::call::retry_policy::RetryMode;
use crate::call::span::record_attempt;
use crate::connection::open_stream::OpenStream;
use crate::connection::place::PlaceKind;
use crate::connection::streams::FirstSign;
use crate::deadline::Deadline;
use crate::endpoints::guard::{InFlightGuard, has_latency};
use crate::error::{Phase, RpcError};
use crate::totals::LatencyTimer;

/// The target of the events, as of the spans of calls.
const TARGET: &str = "farcall::client";

/// A stream that was opened. The guard counts it in the load of its endpoint while it is open.
struct Opened {
    stream: Arc<OpenStream>,
    /// `None` if the channel has one endpoint.
    guard: Option<InFlightGuard>,
    /// `None` unless the latency of the only endpoint is measured.
    timer: Option<Box<LatencyTimer>>,
    /// The outcome, if it came first, and was waited for.
    outcome: Option<Outcome>,
}

/// Makes a streaming call once. The link has its stream from when the request was sent.
pub(crate) async fn attempt(
    choice: &EndpointChoice,
    request: &Request,
    link: &Arc<Link>,
    core: &ChannelCore,
) -> Outcome {
    let opened = match core.retry_policy(request).mode {
        // Items of the client are not sent to two servers.
        RetryMode::Hedge(delay) if request.is_idempotent() && !link.directions().sends => {
            hedged(choice, delay, request, link, core).await?
        }
        _ => open(choice, request, link, core).await?,
    };
    let backend = opened.guard.as_ref().map(|guard| Arc::clone(guard.backend()));
    link.set_backend(backend);
    replay(link, &opened.stream).await?;
    let stream = Arc::clone(&opened.stream);
    let watched = opened.watch(link, request.deadline());
    let Some(deadline) = request.deadline() else { return watched.await };
    match timeout_at(deadline.at, watched).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            stream.cancel();
            Err(no_response("no response", deadline, &stream))
        }
    }
}

/// Opens the stream at the endpoint that is chosen.
async fn open(
    choice: &EndpointChoice,
    request: &Request,
    link: &Link,
    core: &ChannelCore,
) -> Result<Opened, RpcError> {
    let directions = link.directions();
    let sent = choice.send(request, core, PlaceKind::Stream, async |place, request, phase| {
        place.open_stream(request, directions, phase).await
    });
    let (stream, guard) = sent.await?;
    link.note_sent();
    // Guards measure the latency of their endpoints.
    let timer = if guard.is_none() { core.totals().timer() } else { None };
    Ok(Opened { stream: Arc::new(stream), guard, timer, outcome: None })
}

/// Opens the stream, and a second one at another endpoint if the first shows no sign within `delay`. The one that is first
/// to have an item or the response is that of the call.
async fn hedged(
    choice: &EndpointChoice,
    delay: Duration,
    request: &Request,
    link: &Link,
    core: &ChannelCore,
) -> Result<Opened, RpcError> {
    let mut first = Box::pin(open_until_first(choice, request, link, core));
    if let Ok(opened) = timeout(delay, &mut first).await {
        return opened;
    }
    if !choice.has_others(core) || !core.budget.withdraw() {
        return first.await;
    }
    core.totals().count_retry();
    let mut request = request.clone();
    let attempt = choice.next_attempt();
    core.on_retry.report(attempt, || (choice.last(), AttemptReason::Slow(delay)));
    request.set_attempt(attempt);
    record_attempt(attempt);
    let second = Box::pin(open_until_first(choice, &request, link, core));
    // The future that is dropped in the end cancels its request on the server.
    let (opened, other) = select(first, second).await.factor_first();
    match opened {
        Err(error) if leaves_to_other(&error, request.idempotence()) => {
            other.await.map_err(|last| most_informative(Some(error), last))
        }
        last => last,
    }
}

async fn open_until_first(
    choice: &EndpointChoice,
    request: &Request,
    link: &Link,
    core: &ChannelCore,
) -> Result<Opened, RpcError> {
    let mut opened = open(choice, request, link, core).await?;
    if opened.first(opened.stream.first(), link, request.deadline()).await? == FirstSign::Outcome {
        let outcome = opened.stream.outcome().await;
        if let Err(error) = outcome {
            opened.record(Some(&error));
            return Err(error);
        }
        opened.outcome = Some(outcome);
    }
    Ok(opened)
}

/// Sends the items again that an earlier attempt has sent, and then gives the stream to the halves of the call.
async fn replay(link: &Link, stream: &Arc<OpenStream>) -> Result<(), RpcError> {
    let mut replayed = 0;
    while let Some(item) = link.install(Some(replayed), stream) {
        if poll_fn(|cx| stream.poll_ready(cx)).await.is_err() {
            // The server wants no items, or has answered.
            link.install(None, stream);
            return Ok(());
        }
        stream.send(item.into())?;
        replayed += 1;
    }
    Ok(())
}

impl Opened {
    /// Watches the stream until it is over.
    async fn watch(mut self, link: &Link, deadline: Option<Deadline>) -> Outcome {
        if let Some(outcome) = self.outcome.take() {
            return self.answered(link, outcome);
        }
        let stream = Arc::clone(&self.stream);
        let first = with_drain(link, &stream, stream.first());
        if self.first(first, link, deadline).await? == FirstSign::Outcome {
            let outcome = stream.outcome().await;
            return self.answered(link, outcome);
        }
        debug!(target: TARGET, "first item");
        if let Some(guard) = &self.guard {
            guard.record_first_item();
        }
        if let Some(timer) = &self.timer {
            timer.record();
        }
        link.begin();
        let outcome = with_drain(link, &stream, stream.outcome()).await;
        if let Some(snapshot) = stream.snapshot() {
            debug!(target: TARGET, items = snapshot.received.items, bytes = snapshot.received.bytes, "end");
        }
        outcome.map_err(|error| {
            if let Some(guard) = &self.guard {
                // The end of a drain says nothing about the server that comes after it.
                guard.record_late_error(&error, error.metadata(metadata::RESUME).is_some());
            }
            error.after_items()
        })
    }

    /// Waits for the first sign of the server, which `first` is, before all deadlines.
    async fn first(
        &self,
        first: impl Future<Output = FirstSign>,
        link: &Link,
        deadline: Option<Deadline>,
    ) -> Result<FirstSign, RpcError> {
        let first_by = Deadline::first(link.first_by(), self.stream.answer_deadline());
        let Some(deadline) = Deadline::first(first_by, deadline) else { return Ok(first.await) };
        timeout_at(deadline.at, first).await.map_err(|_elapsed| {
            self.stream.cancel();
            let error = no_response("no item and no response", deadline, &self.stream);
            self.record(Some(&error));
            error
        })
    }

    /// Handles the response of a call without items.
    fn answered(&self, link: &Link, outcome: Outcome) -> Outcome {
        debug!(target: TARGET, items = 0, "end");
        self.record(outcome.as_ref().err());
        if outcome.is_ok() {
            link.begin();
        }
        outcome
    }

    /// Records the outcome of a call without items.
    fn record(&self, error: Option<&RpcError>) {
        if let Some(guard) = &self.guard {
            guard.record_outcome(error);
        }
        if let Some(timer) = &self.timer
            && error.is_none_or(has_latency)
        {
            timer.record();
        }
    }
}

/// Waits for `until`, and tells the link meanwhile if the server drains.
async fn with_drain<T>(link: &Link, stream: &OpenStream, until: impl Future<Output = T>) -> T {
    let until = pin!(until);
    let closing = pin!(stream.closing());
    match select(until, closing).await {
        Either::Left((done, _)) => done,
        Either::Right(((), until)) => {
            link.drain();
            until.await
        }
    }
}

fn no_response(what: &str, deadline: Deadline, stream: &OpenStream) -> RpcError {
    let message = format!("{what} within {}", HumanDuration(deadline.limit));
    RpcError::new(Code::DeadlineExceeded, Execution::Maybe, Phase::Wait, message).at(stream.endpoint())
}
