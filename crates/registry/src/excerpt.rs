//! Foreign text in error messages.

/// Characters of foreign text that error messages show.
const MAX_CHARS: usize = 200;

/// Returns the beginning of foreign text for errors and logs, with control characters escaped, and `…` if it is longer.
pub(crate) fn excerpt(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(MAX_CHARS) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
