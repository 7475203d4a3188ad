//! Standard output: the formats of results, and whether there is a terminal.
//!
//! Everything that comes from a peer is escaped here, so that it cannot move the cursor or forge a line.

pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod table;
pub(crate) mod terminal;

use std::io::{self, Write as _};

use clap::ValueEnum;

use self::json::{line, pretty};
use self::table::table_of;
use crate::failure::Failure;
use crate::value::Value;

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON on several lines.
    Json,
    /// JSON on one line for each result.
    Ndjson,
    /// A table, for people.
    Table,
}

impl Format {
    /// Returns the text of a result, with a line break at its end.
    pub(crate) fn text(self, value: &Value) -> String {
        match self {
            Self::Json => pretty(value),
            Self::Ndjson => line(value),
            Self::Table => table_of(value),
        }
    }

    /// Writes a result to standard output.
    pub(crate) fn print(self, value: &Value) -> Result<(), Failure> {
        print(&self.text(value))
    }
}

/// Writes to standard output, colors left out if that is no terminal or `NO_COLOR` is set.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    // In one write: its reader may take it line by line.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| of_output(&error))
}

/// Returns the failure of writing. A reader that has gone, such as `head`, is no error worth a message.
pub(crate) fn of_output(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::silent()
    } else {
        Failure::local(format!("standard output: {error}"))
    }
}
