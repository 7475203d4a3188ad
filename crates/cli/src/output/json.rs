//! Results as JSON, escaped for the terminal.

use serde::Serialize;

use super::escape::escape_json;

/// Returns a value as JSON on several lines.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string());
    escape_json(&text) + "\n"
}

/// Returns a value as JSON on one line, with the line break.
pub(crate) fn line(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|error| error.to_string());
    escape_json(&text) + "\n"
}
