//! The terminal, if there is one.

use std::io::{self, IsTerminal as _};

/// Returns `true` if a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}
