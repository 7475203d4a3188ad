//! [`Timing`]: where the time of a call went, for `-v`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use farcall::client::{AttemptReason, Request, Response};
use farcall::{Address, Channel, RpcError};
use futures::future::{Either, select};
use tower_service::Service;

use crate::output::escape::word;
use crate::session::Session;
use crate::time::show;

/// The times of one call, after the connection was there.
#[derive(Debug, Default)]
pub(super) struct Timing {
    queue: Option<Duration>,
    wait: Option<Duration>,
    decode: Option<Duration>,
    endpoint: Option<Address>,
}

impl Timing {
    /// Makes a call, and measures the time until the request was handed to the operating system, and from then on.
    pub(super) async fn response(
        &mut self,
        channel: &Channel,
        request: Request,
    ) -> Result<Response, RpcError> {
        let start = Instant::now();
        let mut response = Service::call(&mut channel.clone(), request);
        // The first poll appends the request to what the connection writes, if it has room.
        let outcome = match futures::poll!(&mut response) {
            std::task::Poll::Ready(outcome) => outcome,
            std::task::Poll::Pending => match select(Box::pin(channel.flush()), response).await {
                Either::Left((_, response)) => {
                    self.queue = Some(start.elapsed());
                    response.await
                }
                Either::Right((outcome, _)) => outcome,
            },
        };
        self.wait = Some(start.elapsed().saturating_sub(self.queue.unwrap_or_default()));
        self.endpoint = outcome.as_ref().ok().map(|response| response.endpoint().clone());
        outcome
    }

    /// Decodes, and measures it.
    pub(super) fn decode<T>(&mut self, decode: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let decoded = decode();
        self.decode = Some(start.elapsed());
        decoded
    }

    /// Writes the times to standard error: of each connection that was tried, of each further attempt, and of the call.
    pub(super) fn print(&self, session: &Session, error: Option<&RpcError>) {
        let mut text = attempts_text(session);
        let endpoint = self.endpoint.as_ref().or_else(|| error?.endpoint());
        let endpoint = endpoint.map(ToString::to_string).unwrap_or_default();
        for (name, time) in [("queue", self.queue), ("wait", self.wait), ("decode", self.decode)] {
            if let Some(time) = time {
                text.push_str(format!("{name:<10} {:>9}  {endpoint}", show(time)).trim_end());
                text.push('\n');
            }
        }
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

/// Returns a line for each phase of each connection that was tried, and for each further attempt of the call, with the
/// endpoint of the one before and what was wrong there.
pub(super) fn attempts_text(session: &Session) -> String {
    let mut text = String::new();
    for open in session.opens() {
        for (phase, time) in &open.phases {
            text.push_str(&format!("{:<10} {:>9}  {}\n", phase.to_string(), show(*time), open.endpoint));
        }
        if let Some(error) = &open.error {
            text.push_str(&format!("{:<10} {:>9}  {}\n", "failed", "", word(&error.to_string())));
        }
    }
    for retry in session.retries() {
        let endpoint =
            retry.endpoint.map_or_else(|| "no endpoint".to_owned(), |endpoint| endpoint.to_string());
        let (name, reason) = match &retry.reason {
            AttemptReason::Slow(limit) => ("hedge", format!("no answer within {}", show(*limit))),
            AttemptReason::Failed(error) => {
                ("retry", format!("{} ({}, {})", word(error.message()), error.code(), error.execution()))
            }
            _ => ("retry", String::new()),
        };
        text.push_str(&format!("{name:<10} {:>9}  {endpoint}: {reason}\n", retry.number));
    }
    text
}
