//! [`End`]: the reason why a connection ended.

use std::fmt;

/// The reason why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides were done with it.
    Finished,
    /// The peer closed without a goaway.
    Vanished,
    /// The peer was silent, or took nothing, for too long.
    Dead(&'static str),
    /// Memory that it held for its peer was needed by others.
    Shed,
    /// The server was stopped.
    Stopped,
    /// Reading or writing failed.
    Io(std::io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Vanished => f.write_str("it closed without a goodbye"),
            Self::Dead(reason) => f.write_str(reason),
            Self::Shed => f.write_str("it held memory that others needed"),
            Self::Stopped => f.write_str("the server was stopped"),
            Self::Io(error) => error.fmt(f),
        }
    }
}
