//! The task of a streaming call: it opens the stream through the channel's layers, and leaves the outcome in the [`Link`].

use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::{Code, Execution};
use farcall_runtime::time::timeout_at;
use farcall_transport::HumanDuration;
use tracing::Instrument as _;

use super::link::Link;
use super::link_state::Outcome;
use super::registry::Registration;
use crate::call::attempts::Attempts;
use crate::call::channel_core::ChannelCore;
use crate::call::request::Request;
use crate::call::response_future::through_layers;
use crate::call::send_request::LayeredFuture;
use crate::call::span::{CallSpan, Spanned};
use crate::connection::streams::Directions;
use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// Starts the task of a call, and returns the link that its halves share. The task ends with the call, and is aborted when a
/// half of the call is dropped; its error is the outcome in the link.
pub(super) fn open(
    core: &Arc<ChannelCore>,
    mut request: Request,
    directions: Directions,
    first_within: Option<Duration>,
) -> Arc<Link> {
    let link = Arc::new(Link::new(request.method(), directions, first_within));
    request.set_link(Arc::clone(&link));
    let end = EndOnDrop { link: Arc::clone(&link), _registration: core.streams.register(&link) };
    let task = farcall_runtime::spawn(run(request, Arc::clone(core), end).in_current_span());
    link.set_task(task.abort_handle());
    link
}

async fn run(request: Request, core: Arc<ChannelCore>, end: EndOnDrop) {
    let method = request.method_name();
    let mut call: LayeredFuture = match &core.layers {
        Some(layers) => through_layers(&**layers, request),
        None => make(request, Arc::clone(&core)),
    };
    let link = &end.link;
    let outcome = match link.first_by() {
        None => call.await,
        Some(deadline) => match timeout_at(deadline.at, &mut call).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if link.has_begun() => call.await,
            // An attempt that has a stream ends by itself at that time.
            Err(_elapsed) => Err(not_opened(link, deadline)),
        },
    };
    link.complete(outcome.map_err(|error| error.of(method)));
}

/// Makes a call that has left the channel's layers.
pub(crate) fn make(mut request: Request, core: Arc<ChannelCore>) -> LayeredFuture {
    Box::pin(async move {
        let Some(link) = request.link().cloned() else { unreachable!("a streaming request has a link") };
        let _pass = link.pass()?;
        let span = CallSpan::open(&mut request);
        let call = Box::pin(async move {
            request.start()?;
            core.budget.deposit();
            Attempts::avoiding(request.avoided()).run(request, &core, None).await
        });
        match span {
            None => call.await,
            Some(span) => Spanned::new(span, call).await,
        }
    })
}

fn not_opened(link: &Link, deadline: Deadline) -> RpcError {
    let limit = HumanDuration(deadline.limit);
    let (execution, phase, message) = if link.was_sent() {
        (Execution::Maybe, Phase::Wait, format!("no item and no response within {limit}"))
    } else {
        let reason = link.full().unwrap_or_else(|| "no connection".to_owned());
        let message = format!("`{}` was not called within {limit}: {reason}", link.method());
        (Execution::NotSent, Phase::Queue, message)
    };
    RpcError::new(Code::DeadlineExceeded, execution, phase, message)
}

/// Ends the call when its task does.
struct EndOnDrop {
    link: Arc<Link>,
    /// Removes the call from the streams that are open, after its end.
    _registration: Registration,
}

impl Drop for EndOnDrop {
    /// Ends the call if its task was dropped unfinished: a layer panicked, or the runtime was shut down.
    fn drop(&mut self) {
        let message = if std::thread::panicking() {
            "the task of the call has panicked"
        } else {
            "the runtime of the call was shut down"
        };
        // A call that has ended keeps its outcome.
        let outcome: Outcome = Err(RpcError::new(Code::Unavailable, Execution::Maybe, Phase::Wait, message));
        self.link.complete(outcome);
    }
}
