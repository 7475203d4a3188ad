//! [`AcceptLoop`]: takes connections from a listener to the server.

use std::time::Duration;

use farcall_transport::{Listener, is_exhaustion, is_transient};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::handle::ServerHandle;

/// The connections that are accepted before other tasks run: each has a handshake to read, and what becomes ready meanwhile
/// waits for these.
const ACCEPTED_PER_TURN: usize = 16;
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
        for number in 1_usize.. {
            if number.is_multiple_of(ACCEPTED_PER_TURN) {
                yield_now().await;
            }
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
