//! Whether a call that failed may be made again, where, and at whose cost.

use farcall_protocol::{Code, Execution};

use crate::call::request::Ready;
use crate::error::{Phase, RpcError};

/// How a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Anywhere: the connection was at fault.
    Anywhere,
    /// Only on another endpoint: this one would say the same, or rests.
    Elsewhere,
}

/// Whether a call that failed like this may be made again at all.
pub(super) fn is_thinkable(error: &RpcError, ready: &Ready) -> bool {
    again(error, ready.is_idempotent()).is_some()
}

/// How a call that failed like this may be made again: only if nothing of it was done or it may be
/// done twice, and only if another try can do better.
#[expect(clippy::match_same_arms, reason = "each arm is a case of its own, with its reason")]
pub(super) fn again(error: &RpcError, idempotent: bool) -> Option<Again> {
    match (error.execution(), error.phase(), error.code()) {
        (Execution::Done, ..) => None,
        (Execution::Maybe, ..) if !idempotent => None,
        // What could not be connected to rests for a while, so that trying at once would be in vain.
        (Execution::NotSent, ..) if error.is_unconnected() => Some(Again::Elsewhere),
        // The connection broke, or the server said goaway before it began.
        (_, Phase::Queue | Phase::Write | Phase::Wait, Code::Unavailable) => Some(Again::Anywhere),
        // The call's own fault, or its time; and where there is nobody to choose, there is no other.
        (Execution::NotSent, ..) => None,
        // Another server would say the same.
        (_, _, Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied) => None,
        (Execution::Refused | Execution::Maybe, ..) => Some(Again::Elsewhere),
    }
}

/// Whether a try that ended like this has reached a server, or has nearly: those are counted.
pub(super) fn counts(error: &RpcError) -> bool {
    error.execution() != Execution::NotSent || matches!(error.phase(), Phase::Queue | Phase::Write)
}

/// The error that a call ends with after a further try: a try that came to nothing takes back
/// nothing of what an earlier one may have done.
pub(super) fn told(before: Option<RpcError>, error: RpcError) -> RpcError {
    let undone = matches!(error.execution(), Execution::NotSent | Execution::Refused);
    match before {
        Some(before) if undone && before.execution() == Execution::Maybe => before,
        _ => error,
    }
}

/// Whether an error says that nobody could be reached, rather than that the call is wrong.
pub(super) fn is_unreachable(error: &RpcError) -> bool {
    let phase = matches!(error.phase(), Phase::Pick | Phase::Resolve | Phase::Connect | Phase::Handshake);
    phase && matches!(error.code(), Code::Unavailable | Code::ResourceExhausted)
}
