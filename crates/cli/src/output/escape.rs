//! Escapes the texts of peers for the terminal.

use farcall::protocol::text::{excerpt, is_hidden};

/// The most characters of a line of documentation that are shown.
const MAX_LINE: usize = 4096;

/// Returns JSON in which all control characters, and those that reorder text or are not seen, are written as `\u` escapes. The JSON
/// means the same, since such characters are in strings only; `serde_json` escapes just those of ASCII.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // Joiners, and selectors of a text or a picture, are parts of letters and pictures in the texts of many languages.
        if matches!(c, '\n' | '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}') || !is_hidden(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// Returns the lines of a text, each escaped.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| excerpt(line.trim_end(), MAX_LINE))
}

/// Returns a text in one line, escaped.
pub(crate) fn word(text: &str) -> String {
    excerpt(text, MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_means_the_same_and_moves_no_cursor() {
        let text = "a\u{1b}[2J\u{9b}\u{202e}\u{200b}\u{e0041}\u{fe00}\u{7f}é\u{200d}\u{fe0f}\n";
        let json = escape_json(&serde_json::to_string(text).unwrap());
        assert_eq!(
            json,
            "\"a\\u001b[2J\\u009b\\u202e\\u200b\\udb40\\udc41\\ufe00\\u007fé\u{200d}\u{fe0f}\\n\""
        );
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
