//! The stop of a server: deregister, drain, and cut off what does not end.

use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::inner::ServerInner;
use crate::call::in_flight::Signal;

/// The time for connections to send the responses of calls that were cut off, and to close.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Keeps the server registered until shutdown is requested; resolves once it is deregistered.
pub(super) async fn serve_until_shutdown<T>(inner: &ServerInner, signal: impl Future<Output = T>) {
    let ServerInner { state, registrations, stop_requested, .. } = inner;
    if stop_requested.is_cancelled() {
        return;
    }
    let running = registrations.start();
    tokio::select! {
        biased;
        // Both only wait, and are not used again.
        _ = signal => {}
        () = stop_requested.cancelled() => {}
    }
    // From here on health checks, such as a load balancer's, see a server that drains.
    state.router.drain();
    running.end(state.limits.deregister_pause).await;
}

/// Finishes the calls in flight within `drain_timeout`, and stops what has not ended by then.
pub(super) async fn drain(inner: &ServerInner) {
    let ServerInner { state, connections, local_calls, .. } = inner;
    state.router.drain();
    state.tasks.close();
    state.drain.send();
    connections.close(Signal::Drain);
    let Some(limit) = state.limits.drain_timeout else { return state.tasks.wait().await };
    if timeout(limit, state.tasks.wait()).await.is_ok() {
        return;
    }
    let (in_flight, open) = (inner.in_flight(), connections.len());
    warn!(?limit, in_flight, connections = open, "cutting off what has not ended");
    connections.abort_all();
    local_calls.abort_all();
    state.once.stop();
    if timeout(STOP_GRACE, state.tasks.wait()).await.is_ok() {
        return;
    }
    inner.kill();
    if timeout(STOP_GRACE, state.tasks.wait()).await.is_err() {
        warn!(in_flight = inner.in_flight(), "handlers do not end: they block a thread");
    }
}

#[cfg(test)]
mod tests;
