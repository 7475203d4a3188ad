//! [`OnceTries`]: where the tries of a call that is carried out once have gone.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farcall_protocol::text::shown_name;
use farcall_protocol::{Code, Execution};
use farcall_runtime::time::Instant;

use crate::connection::Connection;
use crate::error::{Phase, RpcError};

/// The time after its first try for which a call is repeated that may have been carried out. Servers keep answers for
/// longer, 10 minutes by default, since a try may wait on its way.
pub(crate) const MAX_REPEAT_AGE: Duration = Duration::from_secs(2 * 60);

/// The tries of one call, whose clones share it.
#[derive(Debug, Default)]
pub(crate) struct OnceTries {
    // A std mutex: it is held for a few comparisons. No code panics under it.
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    /// The store of the server that a try was sent to, and when the first one was. `None` while it is certain that no server
    /// has begun with the call.
    store: Option<(Arc<str>, Instant)>,
    /// The tries of which it is not known that no server has begun with them: those under way, and those that were dropped.
    open: u32,
    /// `true` if a try has ended without it being known what became of it.
    may_be_done: bool,
}

/// Returns a new key: 128 bits by chance, in hexadecimal digits.
pub(crate) fn new_key() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl OnceTries {
    /// Checks that a try over this connection carries the call out once.
    ///
    /// # Errors
    ///
    /// `unimplemented` if the server keeps no keys; `unavailable` if it does not know of an earlier try, or may have
    /// forgotten it. Both are `not_sent`.
    pub(crate) fn check(&self, method: &str, connection: &Connection) -> Result<(), RpcError> {
        let refused = |code, reason: &str| {
            let message = format!("`{}` {reason}", shown_name(method));
            RpcError::new(code, Execution::NotSent, Phase::Prepare, message).at(connection.endpoint())
        };
        let Some(store) = connection.once_store() else {
            let reason = "is to be carried out once, and no method of the server is declared `once`";
            return Err(refused(Code::Unimplemented, reason));
        };
        let sent = self.sent();
        let Some((known, since)) = &sent.store else { return Ok(()) };
        if known != store {
            let reason = "may have been carried out, and the server does not know: it has restarted, or is another one";
            return Err(refused(Code::Unavailable, reason));
        }
        if since.elapsed() > MAX_REPEAT_AGE {
            let reason = format!(
                "may have been carried out over {} s ago, and the server may not know any more",
                MAX_REPEAT_AGE.as_secs()
            );
            return Err(refused(Code::Unavailable, &reason));
        }
        Ok(())
    }

    /// Notes that a try is sent over this connection.
    pub(crate) fn sent_over(&self, connection: &Connection) {
        if let Some(store) = connection.once_store() {
            let mut sent = self.sent();
            sent.open += 1;
            sent.store.get_or_insert_with(|| (Arc::clone(store), Instant::now()));
        }
    }

    /// Notes that the last try was not sent after all.
    pub(crate) fn unsent(&self) {
        self.sent().withdraw();
    }

    /// Notes how a try has failed.
    pub(crate) fn failed(&self, execution: Execution) {
        let mut sent = self.sent();
        match execution {
            Execution::Refused => sent.withdraw(),
            Execution::Maybe | Execution::Done => sent.may_be_done = true,
            // It was withdrawn where it was not sent.
            Execution::NotSent => {}
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().expect("no code panics under the lock")
    }
}

impl Sent {
    /// Takes one try back of which no server has begun anything.
    fn withdraw(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 && !self.may_be_done {
            self.store = None;
        }
    }
}
