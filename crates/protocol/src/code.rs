//! Error codes and what is known of a call's execution, with their numbers and names on the wire.
//! What an error says beside its code is [`Status`](crate::Status)'s.

use std::fmt;

/// The reason for which a call failed. The numbers are those of the MessagePack header, the names those of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// The caller, or a shutdown, stopped it.
    Cancelled = 1,
    /// The time ran out.
    DeadlineExceeded = 2,
    /// The body or header is not what the method takes.
    InvalidArgument = 3,
    /// No credential, or a wrong one.
    Unauthenticated = 4,
    /// No such service or method.
    Unimplemented = 5,
    /// The credential may not call this.
    PermissionDenied = 6,
    /// A limit was reached: in flight, rate, size.
    ResourceExhausted = 7,
    /// Not now: draining, connection lost, no endpoint.
    Unavailable = 8,
    /// The server's own fault.
    Internal = 9,
    /// The method itself returned an error; the body holds it, encoded.
    Application = 10,
}

impl Code {
    /// Every code, in the order of its numbers.
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

    /// The number in a MessagePack header.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number; one that is unknown counts as [`Code::Internal`].
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number).unwrap_or(Self::Internal)
    }

    /// The name in a JSON header, such as `deadline_exceeded`.
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

    /// The code with this name; one that is unknown counts as [`Code::Internal`].
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

/// The state of the work of a failed call: done, never started, or unknown. It decides what may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Execution {
    /// The handler ran to its end.
    Done = 0,
    /// The server never started it.
    Refused = 1,
    /// It was started and cut off, or nobody can know.
    Maybe = 2,
    /// No byte of it left this process. Never on the wire.
    NotSent = 3,
}

impl Execution {
    /// The number in a MessagePack header. [`Execution::NotSent`] has none of its own: on the
    /// wire it would be a lie, so it goes as `maybe`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Maybe | Self::NotSent => 2,
        }
    }

    /// The execution with this number; one that is unknown counts as [`Execution::Maybe`].
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Refused,
            _ => Self::Maybe,
        }
    }

    /// The name, as in a JSON header and in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Maybe => "maybe",
            Self::NotSent => "not_sent",
        }
    }

    /// The execution with this name; one that is unknown counts as [`Execution::Maybe`], and so
    /// does `not_sent`, which no peer can know.
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
    fn every_code_survives_its_number_and_its_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(u64::from(code.number())), code);
            assert_eq!(Code::from_name(code.name()), code);
        }
    }

    #[test]
    fn an_unknown_code_counts_as_internal() {
        assert_eq!(Code::from_number(0), Code::Internal);
        assert_eq!(Code::from_number(4_000_000_000), Code::Internal);
        assert_eq!(Code::from_name("teapot"), Code::Internal);
    }

    #[test]
    fn an_unknown_execution_counts_as_maybe() {
        assert_eq!(Execution::from_number(3), Execution::Maybe);
        assert_eq!(Execution::from_name("not_sent"), Execution::Maybe);
        assert_eq!(Execution::from_name(""), Execution::Maybe);
    }
}
