//! The error of a call, with the error type of its method.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;

use farcall_protocol::{Code, Execution, Status};

use super::rpc_error::RpcError;

/// The error of a call: the method's own error as it returned it, or farcall's.
///
/// `E` is the error type of the method; [`Infallible`] if it has none.
///
/// ```
/// # use farcall_client::CallError;
/// use farcall_protocol::{Code, Execution};
///
/// fn report(error: &CallError<String>) -> String {
///     match error {
///         CallError::Application(text) => format!("the method failed: {text}"),
///         CallError::Rpc(error) if error.execution() == Execution::NotSent => format!("nothing was done: {error}"),
///         CallError::Rpc(error) => error.to_string(),
///     }
/// }
///
/// let error = CallError::Application("out of stock".to_owned());
/// assert_eq!(report(&error), "the method failed: out of stock");
/// assert_eq!((error.code(), error.execution()), (Code::Application, Execution::Done));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E = Infallible> {
    /// The method itself returned an error.
    Application(E),
    /// The call did not get that far, or its response did not get back.
    Rpc(RpcError),
}

impl<E> CallError<E> {
    /// Returns the method's own error.
    pub const fn application(&self) -> Option<&E> {
        match self {
            Self::Application(error) => Some(error),
            Self::Rpc(_) => None,
        }
    }

    /// Returns farcall's error.
    pub const fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Application(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }

    /// Returns the code: `application` for the method's own error.
    pub fn code(&self) -> Code {
        self.rpc().map_or(Code::Application, RpcError::code)
    }

    /// Returns whether the work may have happened.
    pub fn execution(&self) -> Execution {
        self.rpc().map_or(Execution::Done, RpcError::execution)
    }

    /// Names the method in farcall's error.
    pub(crate) fn of(self, method: Cow<'static, str>) -> Self {
        match self {
            Self::Rpc(error) => Self::Rpc(error.of(method)),
            application @ Self::Application(_) => application,
        }
    }
}

impl<E> From<RpcError> for CallError<E> {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<CallError> for RpcError {
    /// Returns farcall's error, the only one of a method without an error type.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Application(never) => match never {},
            CallError::Rpc(error) => error,
        }
    }
}

impl<E: fmt::Display> From<CallError<E>> for Status {
    /// Creates the status of a handler that fails because a call that it made failed: see `From<RpcError>`. An error of
    /// the method that was called becomes `application`, `done`, with its text.
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Application(error) => Self::done(Code::Application, error.to_string()),
            CallError::Rpc(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for CallError<E> {
    /// Returns the source of farcall's error; see [`RpcError::cause`], too. The method's own need not be an [`Error`]: see
    /// [`CallError::application`].
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.rpc().and_then(Error::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_an_application_error_has_its_text() {
        let error = CallError::Application("out of stock".to_owned());
        assert_eq!(Status::from(error), Status::done(Code::Application, "out of stock"));
    }

    #[test]
    fn error_of_the_application_is_one_of_a_call_that_was_carried_out() {
        let own = CallError::Application("sold out");
        assert_eq!((own.code(), own.execution()), (Code::Application, Execution::Done));
        assert_eq!((own.application(), own.rpc()), (Some(&"sold out"), None));
        assert_eq!(own.to_string(), "sold out");
        let rpc = RpcError::not_sent(Code::Unavailable, "no server");
        let of_call = CallError::<&str>::from(rpc.clone());
        assert_eq!((of_call.code(), of_call.execution()), (Code::Unavailable, Execution::NotSent));
        assert_eq!((of_call.application(), of_call.rpc()), (None, Some(&rpc)));
        assert_eq!(of_call.to_string(), rpc.to_string());
        assert_eq!(RpcError::from(CallError::<Infallible>::from(rpc.clone())), rpc);
    }
}
