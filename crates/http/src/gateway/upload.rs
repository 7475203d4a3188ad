//! [`Upload`]: the items of a request's body on their way to the handler, while the answer goes out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall_protocol::{Code, Status};
use farcall_server::{InputError, InvokedInput};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::failure::Failure;
use super::lines::BodyLines;

/// The time for which a client is read from behind the end of its call.
const LINGER: Duration = Duration::from_secs(2);

/// The task that reads items. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` once it was left to itself.
    task: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Upload {
    /// Passes the lines on to the handler, if it takes any.
    pub(super) fn start(mut lines: BodyLines, input: Option<InvokedInput>) -> Self {
        let failure = Arc::<Mutex<Option<Failure>>>::default();
        let slot = Arc::clone(&failure);
        let task = tokio::spawn(async move {
            if let Some(mut input) = input {
                match pass_on(&mut lines, &mut input).await {
                    Ok(true) => input.finish(),
                    Ok(false) => {}
                    Err(failure) => {
                        // Before the input is dropped, which stops the handler.
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.after_begin());
                    }
                }
            }
            lines.discard().await;
        });
        Self { task: Some(task), failure }
    }

    /// Takes the reason why the items were not passed on to the end; it is the reason why the call was stopped, then.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads on for a short time behind the end of the call, so that a client that still sends reads the answer.
    pub(super) fn linger(mut self) {
        if let Some(mut task) = self.task.take() {
            tokio::spawn(async move {
                if timeout(LINGER, &mut task).await.is_err() {
                    task.abort();
                }
            });
        }
    }
}

impl Drop for Upload {
    /// Nothing is read for a client that is gone.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Passes items on until the end of the body, which is `true`, or until the handler takes no more.
async fn pass_on(lines: &mut BodyLines, input: &mut InvokedInput) -> Result<bool, Failure> {
    while let Some(line) = lines.next(input.max_item_bytes()).await? {
        if line.bytes.is_empty() {
            continue;
        }
        lines.check(&line.bytes, "an item in JSON").await?;
        match input.send(line.bytes).await {
            Ok(()) => {}
            Err(InputError::Stopped | InputError::Ended) => return Ok(false),
            Err(error) => {
                let message = format!("line {} of the body: {error}", lines.number());
                return Err(Status::maybe(Code::ResourceExhausted, message).into());
            }
        }
    }
    Ok(true)
}
