//! [`AcceptLoop`]: takes connections from a listener to the server.

use std::time::Duration;

use farcall_transport::{Listener, is_exhaustion, is_transient};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::handle::ServerHandle;

/// The pause of accepting when the system has no file descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// After this time without errors, the next one is logged again.
const EXHAUSTED_CALM: Duration = Duration::from_secs(10);

/// The loop that accepts a listener's connections.
pub(super) struct AcceptLoop {
    listener: Listener,
    server: ServerHandle,
    last_error: Option<Instant>,
}

impl AcceptLoop {
    pub(super) fn new(listener: Listener, server: &ServerHandle) -> Self {
        Self { listener, server: server.clone(), last_error: None }
    }

    /// Accepts until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.server.serve_stream(stream, peer),
                Err(error) if is_transient(&error) => {
                    debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    self.log(&error);
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    /// Logs one line each time that errors start, however long they last, and however often a
    /// descriptor comes free and is taken meanwhile.
    fn log(&mut self, error: &std::io::Error) {
        let now = Instant::now();
        if self.last_error.replace(now).is_none_or(|last| now - last > EXHAUSTED_CALM) {
            let kind = if is_exhaustion(error) { "out of resources" } else { "failed" };
            warn!(address = %self.listener.address(), %error, kind, "accepting pauses");
        }
    }
}
