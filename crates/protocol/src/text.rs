//! Untrusted text: truncated when it is received, escaped when it is displayed.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::iter::successors;

/// The largest part of a peer's text that is kept, in bytes.
pub const MAX_PEER_TEXT: usize = 1024;

/// The most characters that [`shown_name`] keeps.
pub const MAX_NAME_CHARS: usize = 128;
/// The most characters that [`parse_error`] keeps.
pub const MAX_PARSE_ERROR_CHARS: usize = 240;
/// The part of them at the end: what was expected, and the line and the column.
const PARSE_ERROR_END_CHARS: usize = 120;

/// Returns the beginning of `text`, at most `limit` bytes, cut between two characters.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> &str {
    // `str::floor_char_boundary` is newer than the oldest supported compiler.
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns the first `max_chars` characters of `text`, escaped like [`EscapedText`], and `…` if there are
/// more.
///
/// ```
/// use farcall_protocol::text::excerpt;
///
/// assert_eq!(excerpt("gone\n", 10), r"gone\n");
/// assert_eq!(excerpt("a long answer", 6), "a long…");
/// ```
#[must_use]
pub fn excerpt(text: &str, max_chars: usize) -> String {
    let (kept, cut) = first_chars(text, max_chars);
    let mut shown = String::with_capacity(kept.len());
    for c in kept.chars() {
        // Writing to a `String` never fails.
        let _ = write_escaped(&mut shown, c);
    }
    if cut {
        shown.push('…');
    }
    shown
}

/// Returns the text of an error of a parser, escaped like [`EscapedText`], for messages and logs: at most
/// [`MAX_PARSE_ERROR_CHARS`] characters. Parsers quote their input, which can be megabytes, and then say what they
/// expected and at which position. The middle is left out, so that both ends of the text are kept.
///
/// ```
/// use farcall_protocol::text::parse_error;
///
/// let error = serde_json::from_str::<u16>(&format!("{:?}", "x".repeat(1 << 20))).unwrap_err();
/// let shown = parse_error(&error);
/// assert!(shown.starts_with("invalid type: string \"xxx") && shown.ends_with("xxx\", expected u16 at line 1 column 1048578"));
/// assert!(shown.len() < 300);
/// ```
#[must_use]
pub fn parse_error(error: &(impl fmt::Display + ?Sized)) -> String {
    let text = error.to_string();
    let (whole, is_longer) = first_chars(&text, MAX_PARSE_ERROR_CHARS);
    if !is_longer {
        return excerpt(whole, MAX_PARSE_ERROR_CHARS);
    }
    let (end, _) = text.char_indices().nth_back(PARSE_ERROR_END_CHARS - 1).unwrap_or_default();
    excerpt(&text, MAX_PARSE_ERROR_CHARS - PARSE_ERROR_END_CHARS - 1)
        + &excerpt(&text[end..], PARSE_ERROR_END_CHARS)
}

/// Returns the name of a method, a service or the like for a message: its first [`MAX_NAME_CHARS`] characters, escaped like
/// [`EscapedText`]. What is said of it stands behind it, and would be cut off with a long one.
#[must_use]
pub fn shown_name(name: &str) -> String {
    excerpt(name, MAX_NAME_CHARS)
}

/// Returns the first `max_chars` characters, and `true` if there are more.
fn first_chars(text: &str, max_chars: usize) -> (&str, bool) {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    }
}

/// Returns `true` for characters that are not seen in a displayed text, or move what stands around them: control characters, ends
/// of lines and paragraphs, directions of writing, joiners, fillers, variation selectors, and others without a width. Two names that
/// differ in them look the same. Unicode calls most of them `Default_Ignorable_Code_Point`, and all of those are among them.
///
/// ```
/// use farcall_protocol::text::is_hidden;
///
/// assert!(['\n', '\u{200b}', '\u{202e}', '\u{fe0f}', '\u{feff}'].into_iter().all(is_hidden));
/// assert!(!['a', ' ', 'é', '世', '🙂'].into_iter().any(is_hidden));
/// ```
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Writes `c`, escaped if it could forge a log line, move the cursor, reorder text or not be seen.
fn write_escaped(to: &mut impl fmt::Write, c: char) -> fmt::Result {
    if is_hidden(c) { write!(to, "{}", c.escape_default()) } else { to.write_char(c) }
}

/// A peer's text that displays with control characters and others that [are not seen](is_hidden) escaped, and at most [`MAX_PEER_TEXT`] bytes of it, so
/// that it cannot forge a log line or move the cursor.
///
/// ```
/// use farcall_protocol::EscapedText;
///
/// assert_eq!(EscapedText("gone\n\u{1b}[2J").to_string(), r"gone\n\u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EscapedText<'a>(
    /// The text as received.
    pub &'a str,
);

impl fmt::Display for EscapedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = truncate(self.0, MAX_PEER_TEXT);
        for c in kept.chars() {
            write_escaped(f, c)?;
        }
        if kept.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

/// The beginning of an untrusted text, to be kept in an error: at most [`Excerpt::MAX_CHARS`] characters,
/// displayed in quotes, with quotes inside escaped too.
///
/// ```
/// use farcall_protocol::text::Excerpt;
///
/// assert_eq!(Excerpt::new("a \"b\"\n").to_string(), r#""a \"b\"\n""#);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// The number of characters that are kept: enough to recognize an address, few enough for a log line.
    pub const MAX_CHARS: usize = 80;

    /// Keeps the beginning of a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let (kept, cut) = first_chars(text, Self::MAX_CHARS);
        let mut shown: String = kept.escape_debug().collect();
        if cut {
            shown.push('…');
        }
        Self(shown.into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the message of a panic that was caught; it may quote a peer's text, so show it as [`EscapedText`].
///
/// ```
/// use farcall_protocol::panic_message;
///
/// let panic = std::panic::catch_unwind(|| panic!("of {}", 7)).unwrap_err();
/// assert_eq!(panic_message(&*panic), "of 7");
/// ```
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("with no message")
}

/// Returns the first error of a chain of causes whose text is no part of `told`: what [`Error::source`] should return for
/// an error that displays as `told`, so that a report of the whole chain has each fact once.
///
/// ```
/// use std::io;
/// use farcall_protocol::text::untold_cause;
///
/// let cause = io::Error::other("the bus is off");
/// assert!(untold_cause("connecting to a: the bus is off", Some(&cause)).is_none());
/// assert!(untold_cause("connecting to a failed", Some(&cause)).is_some());
/// ```
#[must_use]
pub fn untold_cause<'a>(
    told: &str,
    cause: Option<&'a (dyn Error + 'static)>,
) -> Option<&'a (dyn Error + 'static)> {
    successors(cause, |&error| error.source()).find(|error| !told.contains(&error.to_string()))
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
    fn long_text_ends_with_dots() {
        let shown = EscapedText(&"x".repeat(5000)).to_string();
        assert_eq!(shown.len(), MAX_PEER_TEXT + 3);
        assert!(shown.ends_with("..."));
        let whole = "x".repeat(MAX_PEER_TEXT);
        assert_eq!(EscapedText(&whole).to_string(), whole);
    }

    #[test]
    fn controls_and_separators_of_lines_are_escaped() {
        for (c, shown) in [
            ('\n', r"\n"),
            ('\u{7f}', r"\u{7f}"),
            ('\u{200e}', r"\u{200e}"),
            ('\u{2028}', r"\u{2028}"),
            ('\u{2029}', r"\u{2029}"),
            ('\u{2066}', r"\u{2066}"),
            ('\u{2069}', r"\u{2069}"),
            ('\u{200b}', r"\u{200b}"),
            ('\u{200d}', r"\u{200d}"),
            ('\u{feff}', r"\u{feff}"),
            ('\u{ad}', r"\u{ad}"),
            ('\u{e0041}', r"\u{e0041}"),
            // Variation selectors, which can hide any bytes behind a letter.
            ('\u{fe00}', r"\u{fe00}"),
            ('\u{e0100}', r"\u{e0100}"),
            ('\u{e01ef}', r"\u{e01ef}"),
            ('\u{34f}', r"\u{34f}"),
            ('\u{17b4}', r"\u{17b4}"),
            ('\u{180f}', r"\u{180f}"),
            ('\u{1bca0}', r"\u{1bca0}"),
            ('\u{3164}', r"\u{3164}"),
            ('\u{202f}', "\u{202f}"),
            ('é', "é"),
            ('"', "\""),
        ] {
            assert_eq!(EscapedText(&c.to_string()).to_string(), shown);
        }
    }

    #[test]
    fn message_of_a_panic_is_its_text() {
        assert_eq!(panic_message(&"a literal"), "a literal");
        assert_eq!(panic_message(&"formatted".to_owned()), "formatted");
        assert_eq!(panic_message(&7_u8), "with no message");
    }

    #[test]
    fn cause_that_the_text_tells_is_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading failed: {0}")]
        struct Reading(#[source] fmt::Error);
        let (inner, reading) = (fmt::Error, Reading(fmt::Error));
        let shown = |told: &str, cause: &(dyn Error + 'static)| {
            untold_cause(told, Some(cause)).map(ToString::to_string)
        };
        assert_eq!(shown("no list", &reading), Some(reading.to_string()));
        assert_eq!(shown(&format!("no list: {reading}"), &reading), None);
        // Its cause is in its own text, so it is told as well.
        assert_eq!(shown(&inner.to_string(), &reading), Some(reading.to_string()));
        assert!(untold_cause("no list", None).is_none());
    }

    #[test]
    fn quoted_excerpt_is_shown_alike_for_programmers() {
        assert_eq!(format!("{:?}", Excerpt::new("a\n")), r#""a\n""#);
    }

    #[test]
    fn direction_overrides_are_escaped() {
        assert_eq!(EscapedText("a\u{202e}b").to_string(), r"a\u{202e}b");
        assert_eq!(excerpt("a\u{202e}b", 9), r"a\u{202e}b");
    }

    #[test]
    fn error_of_a_parser_keeps_its_beginning_and_its_end() {
        assert_eq!(parse_error("expected value at line 1\n"), r"expected value at line 1\n");
        let whole = "é".repeat(MAX_PARSE_ERROR_CHARS);
        assert_eq!(parse_error(&whole), whole);
        let long = format!("begin\u{1b}{}end", "é".repeat(MAX_PARSE_ERROR_CHARS));
        let shown = parse_error(&long);
        assert!(
            shown.starts_with(r"begin\u{1b}é") && shown.contains("é…é") && shown.ends_with("éend"),
            "{shown}"
        );
        assert_eq!(shown.replace(r"\u{1b}", "e").chars().count(), MAX_PARSE_ERROR_CHARS);
    }

    #[test]
    fn excerpt_counts_characters_and_marks_the_cut() {
        assert_eq!(excerpt("äöü", 3), "äöü");
        assert_eq!(excerpt("äöü", 2), "äö…");
        assert_eq!(excerpt("\u{1b}[2J", 1), r"\u{1b}…");
        assert_eq!(excerpt("", 0), "");
    }

    #[test]
    fn quoted_excerpt_escapes_quotes_and_controls() {
        assert_eq!(Excerpt::new("a\u{1b}[2J\n\"").to_string(), r#""a\u{1b}[2J\n\"""#);
        assert_eq!(Excerpt::new("\u{202e}").to_string(), r#""\u{202e}""#);
    }

    #[test]
    fn quoted_excerpt_is_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(Excerpt::new(&long).to_string(), format!("\"{}…\"", "ä".repeat(80)));
        assert_eq!(Excerpt::new(&long[..160]).to_string(), format!("\"{}\"", "ä".repeat(80)));
    }
}
