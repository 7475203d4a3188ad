//! The bound of foreign text in error messages; cutting and escaping is left to `farcall_protocol`.

use farcall_protocol::text;

/// Characters of foreign text that error messages show.
const MAX_CHARS: usize = 200;

/// Returns the beginning of foreign text for errors and logs, with control characters escaped, and `…` if it is longer.
pub(crate) fn excerpt(text: &str) -> String {
    text::excerpt(text, MAX_CHARS)
}
