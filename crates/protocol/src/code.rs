//! Error codes and states of execution, with their numbers and names on the wire. The other fields of an
//! error are in [`Status`](crate::Status).

use std::fmt;

/// The reason for which a call failed. The numbers are those of the MessagePack header, the names those of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// The call was cancelled by the caller or by a shutdown.
    Cancelled = 1,
    /// The deadline passed.
    DeadlineExceeded = 2,
    /// The header or body does not match the method's parameters.
    InvalidArgument = 3,
    /// The credential is missing or wrong.
    Unauthenticated = 4,
    /// The service or method does not exist.
    Unimplemented = 5,
    /// The credential is not allowed to call the method.
    PermissionDenied = 6,
    /// A limit was reached, such as for calls in flight, rate or size.
    ResourceExhausted = 7,
    /// The service is not available now: the server drains, the connection was lost, or there is no endpoint.
    Unavailable = 8,
    /// The server failed.
    Internal = 9,
    /// The method returned its own error; the body holds it, encoded.
    Application = 10,
}

impl Code {
    /// All codes, ordered by number.
    pub const ALL: [Self; 10] = [
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::Unimplemented,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::Internal,
        Self::Application,
    ];

    /// Returns the number in a MessagePack header.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the code with this number; [`Code::Internal`] if it is unknown.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number).unwrap_or(Self::Internal)
    }

    /// Returns the name in a JSON header, such as `deadline_exceeded`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::Unimplemented => "unimplemented",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Application => "application",
        }
    }

    /// Returns the code with this name; [`Code::Internal`] if it is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The state of execution of a failed call: done, never started, or unknown. It decides if a retry is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Execution {
    /// The handler ran to completion.
    Done = 0,
    /// The server never started the call.
    Refused = 1,
    /// The call was interrupted, or its state is unknown.
    Maybe = 2,
    /// No byte of the call left this process. Never sent on the wire.
    NotSent = 3,
}

impl Execution {
    /// Returns the number in a MessagePack header. [`Execution::NotSent`] cannot be true of an error that was
    /// sent, so it is encoded as [`Execution::Maybe`].
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Maybe | Self::NotSent => 2,
        }
    }

    /// Returns the execution with this number; [`Execution::Maybe`] if it is unknown.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Refused,
            _ => Self::Maybe,
        }
    }

    /// Returns the name in a JSON header and in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Maybe => "maybe",
            Self::NotSent => "not_sent",
        }
    }

    /// Returns the execution with this name; [`Execution::Maybe`] if it is unknown, and for `not_sent`, which
    /// no peer can know.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "done" => Self::Done,
            "refused" => Self::Refused,
            _ => Self::Maybe,
        }
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_conversion_to_number_and_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(u64::from(code.number())), code);
            assert_eq!(Code::from_name(code.name()), code);
        }
    }

    #[test]
    fn unknown_code_counts_as_internal() {
        assert_eq!(Code::from_number(0), Code::Internal);
        assert_eq!(Code::from_number(4_000_000_000), Code::Internal);
        assert_eq!(Code::from_name("teapot"), Code::Internal);
    }

    #[test]
    fn unknown_execution_counts_as_maybe() {
        assert_eq!(Execution::from_number(3), Execution::Maybe);
        assert_eq!(Execution::from_name("not_sent"), Execution::Maybe);
        assert_eq!(Execution::from_name(""), Execution::Maybe);
    }
}
