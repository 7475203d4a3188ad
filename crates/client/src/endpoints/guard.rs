//! A call in flight at a backend: it counts in the backend's load, and reports its outcome.

use std::sync::Arc;

use farcall_protocol::{Code, Execution};
use farcall_runtime::time::Instant;

use super::backend::Backend;
use crate::connection::Connection;
use crate::error::{Phase, RpcError};

/// Counts a call in the load of a backend while the guard lives.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    backend: Arc<Backend>,
    started_at: Instant,
}

impl InFlightGuard {
    /// Starts to count a call.
    pub(crate) fn new(backend: &Arc<Backend>) -> Self {
        backend.call_started();
        Self { backend: Arc::clone(backend), started_at: Instant::now() }
    }

    pub(crate) const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Returns a connection to the backend for a request of this many bytes, if one takes calls.
    pub(crate) fn connection(&self, bytes: usize) -> Option<Connection> {
        self.backend.pool().ready(bytes)
    }

    /// Ends the count of a call that goes elsewhere, as if it had not begun.
    pub(crate) fn forget(self) {
        self.backend.uncount_call();
    }

    /// Returns the guard with the connection that was dialed for the call; records the error if dialing failed.
    pub(crate) fn connected(
        mut self,
        dialed: Result<Connection, RpcError>,
    ) -> Result<(Connection, Self), RpcError> {
        match dialed {
            Ok(connection) => {
                // The latency of the backend does not include the dial.
                self.started_at = Instant::now();
                Ok((connection, self))
            }
            Err(error) => {
                self.record_outcome(Some(&error));
                Err(error)
            }
        }
    }

    /// Updates the backend's load and health from the outcome of the call, `None` if it succeeded.
    pub(crate) fn record_outcome(&self, error: Option<&RpcError>) {
        let Some(error) = error else {
            self.backend.record_latency(self.started_at.elapsed());
            return self.backend.record_success();
        };
        self.backend.count_error();
        match (error.phase(), error.code()) {
            _ if error.is_unconnected() => self.backend.mark_unreachable(error.clone()),
            (Phase::Write | Phase::Wait | Phase::Answer, Code::DeadlineExceeded) => {
                self.backend.record_latency(self.started_at.elapsed());
                self.backend.record_failure(error, self.started_at);
            }
            (Phase::Answer, Code::Unavailable | Code::Internal) => {
                self.backend.record_failure(error, self.started_at);
            }
            // It answered; the fault may be the caller's.
            (Phase::Answer, _) if error.execution() == Execution::Done => {
                self.backend.record_latency(self.started_at.elapsed());
                self.backend.record_success();
            }
            // One lost connection may fail a thousand calls: only the next dial tells how the backend is.
            // A request that was not sent tells nothing.
            _ => {}
        }
    }
}

impl InFlightGuard {
    /// Updates the backend's load and health when the first item of a stream has come, which is its latency.
    pub(crate) fn record_first_item(&self) {
        self.backend.record_latency(self.started_at.elapsed());
        self.backend.record_success();
    }

    /// Updates the backend's health from the error of a stream after its first item, unless the server was to stop anyway.
    pub(crate) fn record_late_error(&self, error: &RpcError, is_drained: bool) {
        self.backend.count_error();
        if let (Phase::Answer, Code::Unavailable | Code::Internal) = (error.phase(), error.code())
            && !is_drained
        {
            self.backend.record_failure(error, self.started_at);
        }
    }
}

impl Drop for InFlightGuard {
    /// Ends the count in every case, also if the caller drops the call before its response.
    fn drop(&mut self) {
        self.backend.load().ended();
    }
}

/// Returns `true` if the time until this error says how long the endpoint takes: it answered, or was given all the time
/// that the call had.
pub(crate) fn has_latency(error: &RpcError) -> bool {
    match error.phase() {
        Phase::Answer => error.execution() == Execution::Done,
        Phase::Write | Phase::Wait => error.code() == Code::DeadlineExceeded,
        _ => false,
    }
}
