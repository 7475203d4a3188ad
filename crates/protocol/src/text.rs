//! Text that a peer wrote: cut at a bound where it comes in, escaped where it goes out to a person.

use std::fmt;

/// The most of a peer's text that is kept, in bytes.
pub const MAX_PEER_TEXT: usize = 1024;

/// Cuts `text` to at most `limit` bytes, at a border between characters.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> &str {
    // `str::floor_char_boundary`, which is younger than the oldest compiler that is supported.
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Prints text of a peer with control characters escaped and at most [`MAX_PEER_TEXT`] bytes of
/// it, so that it can forge no line of a log and move no cursor.
///
/// ```
/// use farcall_protocol::EscapedText;
///
/// assert_eq!(EscapedText("gone\n\u{1b}[2J").to_string(), r"gone\n\u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EscapedText<'a>(
    /// The text as the peer sent it.
    pub &'a str,
);

impl fmt::Display for EscapedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = truncate(self.0, MAX_PEER_TEXT);
        for c in kept.chars() {
            // Bidirectional overrides reorder what a person reads, though they are no controls.
            let reorders =
                matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", c.escape_default())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        if kept.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
        assert_eq!(truncate("aé", usize::MAX), "aé");
        assert_eq!(truncate("é", 1), "");
        assert_eq!(truncate("", 0), "");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let shown = EscapedText(&"x".repeat(5000)).to_string();
        assert_eq!(shown.len(), MAX_PEER_TEXT + 3);
        assert!(shown.ends_with("..."));
    }

    #[test]
    fn direction_overrides_are_escaped() {
        assert_eq!(EscapedText("a\u{202e}b").to_string(), r"a\u{202e}b");
    }
}
