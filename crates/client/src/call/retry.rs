//! The rules by which a call that failed may be made again.

use farcall_protocol::{Code, Execution};

use crate::error::{Phase, RpcError};

/// The endpoints at which a failed call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryScope {
    /// Any endpoint: the connection was at fault.
    AnyEndpoint,
    /// Another endpoint only: this one would answer the same, or is backing off.
    OtherEndpoint,
}

/// The servers at which a call may be carried out twice with the effect of once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Idempotence {
    /// None: a call that may have been carried out is not made again.
    #[default]
    None,
    /// The server that may have carried it out. Another one keeps other state, where the effect would be a second one.
    SameServer,
    /// Any server: they share the state that the call changes, or the call changes none.
    Anywhere,
}

/// Returns `true` if a call that failed with this error may be made again.
pub(super) fn is_retryable(error: &RpcError, idempotence: Idempotence) -> bool {
    retry_scope(error, idempotence).is_some()
}

/// Returns `true` if a call that failed with this error may have had an effect that only the server that it was sent to
/// recognizes as the same: it must not be made anywhere else.
pub(super) fn is_bound_to_its_server(error: &RpcError, idempotence: Idempotence) -> bool {
    error.execution() == Execution::Maybe && idempotence == Idempotence::SameServer
}

/// Returns where a call that failed with this error may be made again: only if nothing of it was done or it may
/// be done twice, and only if another attempt can succeed. If [`is_bound_to_its_server`], no other endpoint counts.
#[expect(clippy::match_same_arms, reason = "each arm is a case with its own reason")]
pub(super) fn retry_scope(error: &RpcError, idempotence: Idempotence) -> Option<RetryScope> {
    match (error.execution(), error.phase(), error.code()) {
        (Execution::Done, ..) => None,
        (Execution::Maybe, ..) if idempotence == Idempotence::None => None,
        // The endpoint backs off before it is dialed again, so an attempt there would fail at once.
        (Execution::NotSent, ..) if error.is_unconnected() => Some(RetryScope::OtherEndpoint),
        // The connection broke, or the server said goaway before the call began.
        (_, Phase::Queue | Phase::Write | Phase::Wait, Code::Unavailable) => Some(RetryScope::AnyEndpoint),
        // The call's own fault, or its deadline; or there was no endpoint to pick.
        (Execution::NotSent, ..) => None,
        // Another server would answer the same.
        (_, _, Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied) => None,
        (Execution::Refused | Execution::Maybe, ..) => Some(RetryScope::OtherEndpoint),
    }
}

/// Returns `true` if the connection that the request was sent over ended before the call began: its server drains, or the
/// connection has reached its largest age. A server that refuses a call for its load answers it.
pub(super) fn is_refused_by_goaway(error: &RpcError) -> bool {
    (error.execution(), error.phase()) == (Execution::Refused, Phase::Wait)
}

/// Returns `true` if a hedged request that failed with this error leaves the outcome to the other one: that may succeed,
/// or may have been carried out, which an error of which nothing was done must not hide.
pub(super) fn leaves_to_other(error: &RpcError, idempotence: Idempotence) -> bool {
    is_undone(error) || is_retryable(error, idempotence)
}

/// Returns `true` if the error says that no handler has begun.
fn is_undone(error: &RpcError) -> bool {
    matches!(error.execution(), Execution::NotSent | Execution::Refused)
}

/// Returns the error that a call ends with after another attempt: an attempt of which nothing was done does not
/// hide that an earlier one may have been done.
pub(super) fn most_informative(earlier: Option<RpcError>, error: RpcError) -> RpcError {
    match earlier {
        Some(earlier) if is_undone(&error) && earlier.execution() == Execution::Maybe => earlier,
        _ => error,
    }
}

/// Returns `true` if the error says that no endpoint could be reached, rather than that the call is wrong.
pub(super) fn is_unreachable(error: &RpcError) -> bool {
    let phase = matches!(error.phase(), Phase::Pick | Phase::Resolve | Phase::Connect | Phase::Handshake);
    phase && matches!(error.code(), Code::Unavailable | Code::ResourceExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Idempotence; 3] = [Idempotence::None, Idempotence::SameServer, Idempotence::Anywhere];

    fn error(code: Code, execution: Execution, phase: Phase) -> RpcError {
        RpcError::new(code, execution, phase, "")
    }

    #[test]
    fn calls_that_were_not_carried_out_go_to_where_they_can_be() {
        use Execution::{NotSent, Refused};
        use RetryScope::{AnyEndpoint, OtherEndpoint};

        for (code, execution, phase, scope) in [
            (Code::Unavailable, NotSent, Phase::Resolve, Some(OtherEndpoint)),
            (Code::Unavailable, NotSent, Phase::Connect, Some(OtherEndpoint)),
            (Code::PermissionDenied, NotSent, Phase::Handshake, Some(OtherEndpoint)),
            (Code::DeadlineExceeded, NotSent, Phase::Connect, None),
            (Code::Unavailable, NotSent, Phase::Queue, Some(AnyEndpoint)),
            (Code::Unavailable, NotSent, Phase::Write, Some(AnyEndpoint)),
            (Code::Unavailable, Refused, Phase::Wait, Some(AnyEndpoint)),
            (Code::ResourceExhausted, NotSent, Phase::Queue, None),
            (Code::Unavailable, NotSent, Phase::Pick, None),
            (Code::InvalidArgument, NotSent, Phase::Prepare, None),
            (Code::Unavailable, Refused, Phase::Answer, Some(OtherEndpoint)),
            (Code::ResourceExhausted, Refused, Phase::Answer, Some(OtherEndpoint)),
            (Code::InvalidArgument, Refused, Phase::Answer, None),
            (Code::Unauthenticated, Refused, Phase::Answer, None),
            (Code::PermissionDenied, Refused, Phase::Answer, None),
        ] {
            for idempotence in ALL {
                let error = error(code, execution, phase);
                assert_eq!(retry_scope(&error, idempotence), scope, "{error:?}");
                assert_eq!(is_retryable(&error, idempotence), scope.is_some());
                assert!(leaves_to_other(&error, idempotence), "nothing was done");
                assert!(!is_bound_to_its_server(&error, idempotence));
            }
        }
    }

    #[test]
    fn call_that_may_have_been_carried_out_is_repeated_if_it_is_idempotent() {
        let broken = error(Code::Unavailable, Execution::Maybe, Phase::Wait);
        let answered = error(Code::Internal, Execution::Maybe, Phase::Answer);
        assert_eq!(retry_scope(&broken, Idempotence::None), None);
        assert!(!leaves_to_other(&broken, Idempotence::None));
        for idempotence in [Idempotence::SameServer, Idempotence::Anywhere] {
            assert_eq!(retry_scope(&broken, idempotence), Some(RetryScope::AnyEndpoint));
            assert_eq!(retry_scope(&answered, idempotence), Some(RetryScope::OtherEndpoint));
            assert!(leaves_to_other(&broken, idempotence));
            let is_bound = idempotence == Idempotence::SameServer;
            assert_eq!(is_bound_to_its_server(&broken, idempotence), is_bound);
        }
        for idempotence in ALL {
            let done = error(Code::Unavailable, Execution::Done, Phase::Wait);
            assert_eq!(retry_scope(&done, idempotence), None);
            assert!(!leaves_to_other(&done, idempotence));
        }
    }

    #[test]
    fn attempt_that_may_be_done_is_not_hidden_by_one_that_is_not() {
        let of = |execution| error(Code::Unavailable, execution, Phase::Wait);
        for (earlier, later, told) in [
            (Execution::Maybe, Execution::Refused, Execution::Maybe),
            (Execution::Maybe, Execution::NotSent, Execution::Maybe),
            (Execution::Maybe, Execution::Done, Execution::Done),
            (Execution::Refused, Execution::NotSent, Execution::NotSent),
            (Execution::Refused, Execution::Maybe, Execution::Maybe),
        ] {
            assert_eq!(most_informative(Some(of(earlier)), of(later)).execution(), told);
        }
        assert_eq!(most_informative(None, of(Execution::Refused)), of(Execution::Refused));
    }

    #[test]
    fn endpoint_is_unreachable_if_no_connection_came_about() {
        let is = |code, phase| is_unreachable(&error(code, Execution::NotSent, phase));
        for phase in [Phase::Pick, Phase::Resolve, Phase::Connect, Phase::Handshake] {
            assert!(is(Code::Unavailable, phase) && is(Code::ResourceExhausted, phase));
            assert!(!is(Code::DeadlineExceeded, phase));
        }
        for phase in [Phase::Prepare, Phase::Queue, Phase::Write, Phase::Wait, Phase::Answer] {
            assert!(!is(Code::Unavailable, phase));
        }
    }
}
