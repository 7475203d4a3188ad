//! The errors that a method can return: its own error, which keeps its type, or a status.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::status::Status;

/// The error of a method that fails with its own error type or with a status: `Result<T, MethodError<E>>`.
///
/// `?` converts an `E`, a [`Status`] and the error of a nested call. The caller gets an `E` back typed, as it
/// does from a method that returns `Result<T, E>`, and a status as farcall's own error with the same code.
///
/// ```
/// use farcall_protocol::{Code, MethodError, Status};
///
/// #[derive(Debug, PartialEq, serde::Serialize, thiserror::Error)]
/// #[error("sold out")]
/// struct SoldOut;
///
/// fn reserve(count: u32, stock: Option<u32>) -> Result<u32, MethodError<SoldOut>> {
///     let stock = stock.ok_or_else(|| Status::done(Code::Unavailable, "the stock is being counted"))?;
///     Ok(stock.checked_sub(count).ok_or(SoldOut)?)
/// }
///
/// assert_eq!(reserve(2, Some(3)).unwrap(), 1);
/// assert_eq!(reserve(2, Some(1)).unwrap_err(), MethodError::Application(SoldOut));
/// assert_eq!(reserve(2, None).unwrap_err().status().unwrap().code, Code::Unavailable);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodError<E> {
    /// The method's own error type.
    Application(E),
    /// A status: the code is the caller's error code.
    Status(Status),
}

impl<E> MethodError<E> {
    /// Returns the status; `None` if it is the method's own error.
    #[must_use]
    pub const fn status(&self) -> Option<&Status> {
        match self {
            Self::Application(_) => None,
            Self::Status(status) => Some(status),
        }
    }
}

impl<E: Serialize + fmt::Display> From<E> for MethodError<E> {
    fn from(error: E) -> Self {
        Self::Application(error)
    }
}

impl<E> From<Status> for MethodError<E> {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl<E: fmt::Display> fmt::Display for MethodError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application(error) => error.fmt(f),
            Self::Status(status) => status.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for MethodError<E> {}

/// An error type that a method can return: a [`Status`], a type that serializes and displays, or a
/// [`MethodError`] of such a type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a method",
    label = "neither a `Status` nor `Serialize` and `Display`",
    note = "a method's error is `farcall::Status`, a type that is `Serialize`, `Deserialize` and `Display`, or a `MethodError` of such a type"
)]
pub trait IntoMethodError {
    /// The method's own error type; [`NoApplicationError`] if it only fails with statuses.
    type Application: Serialize + fmt::Display;

    /// Returns the error as the method's own or as a status.
    fn into_method_error(self) -> MethodError<Self::Application>;
}

impl<E: Serialize + fmt::Display> IntoMethodError for E {
    type Application = E;

    #[inline]
    fn into_method_error(self) -> MethodError<E> {
        MethodError::Application(self)
    }
}

impl<E: Serialize + fmt::Display> IntoMethodError for MethodError<E> {
    type Application = E;

    #[inline]
    fn into_method_error(self) -> Self {
        self
    }
}

impl IntoMethodError for Status {
    type Application = NoApplicationError;

    #[inline]
    fn into_method_error(self) -> MethodError<NoApplicationError> {
        MethodError::Status(self)
    }
}

/// The application error of a method that only fails with a [`Status`]. It has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoApplicationError {}

impl fmt::Display for NoApplicationError {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for NoApplicationError {}

impl Serialize for NoApplicationError {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for NoApplicationError {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("the method has no application error"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn error_of_a_method_is_shown_as_what_it_holds() {
        let status = Status::done(Code::Unavailable, "closed");
        let of_status = MethodError::<String>::from(status.clone());
        assert_eq!((of_status.to_string(), of_status.status()), (status.to_string(), Some(&status)));
        let own = MethodError::from("sold out".to_owned());
        assert_eq!((own.to_string(), own.status()), ("sold out".to_owned(), None));
    }

    #[test]
    fn each_error_type_keeps_what_it_is() {
        let status = Status::done(Code::Unavailable, "closed");
        assert_eq!(status.clone().into_method_error(), MethodError::Status(status.clone()));
        assert_eq!("sold out".into_method_error(), MethodError::Application("sold out"));
        let either = MethodError::<String>::Status(status);
        assert_eq!(either.clone().into_method_error(), either);
    }

    #[test]
    fn nothing_is_read_as_an_error_that_a_method_does_not_have() {
        let error = serde_json::from_str::<NoApplicationError>("null").unwrap_err();
        assert_eq!(error.to_string(), "the method has no application error");
    }
}
