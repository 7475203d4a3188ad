//! Names for generated code, and text that cannot leave the comment or string that it is put in.

use farcall_protocol::text;

use crate::document::{Document, MethodSchema};
use crate::types::Type;

/// Returns a name in `PascalCase` of letters and digits.
pub(super) fn pascal(name: &str) -> String {
    let mut out = String::new();
    let mut is_start = true;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            is_start = true;
        } else if is_start {
            out.push(c.to_ascii_uppercase());
            is_start = false;
        } else {
            out.push(c);
        }
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) { format!("T{out}") } else { out }
}

/// Returns a name in `snake_case` of letters, digits and underscores.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) { format!("_{out}") } else { out }
}

/// Returns `true` if a name is one in most languages.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns `true` if the arguments of a method are something that has parts: what clients without types send.
pub(super) fn is_container(document: &Document, method: &MethodSchema) -> bool {
    let arguments = document.resolve(&method.arguments);
    matches!(
        arguments,
        Type::Struct(_) | Type::Map(..) | Type::List(_) | Type::Tuple(_) | Type::Opaque(_) | Type::Null
    )
}

/// Returns a name that is none of those in use, and adds it to them.
pub(super) fn unique(mut name: String, used: &mut Vec<String>) -> String {
    while used.contains(&name) {
        name.push('_');
    }
    used.push(name.clone());
    name
}

/// Returns a string literal of JSON, which is one in Rust, Python and TypeScript, too: it contains no escapes that differ.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            // Some of these end a line in JavaScript, or hide what follows.
            c if is_hidden(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Returns `true` for characters that end a line, change how the text around them is shown, or are not seen.
fn is_hidden(c: char) -> bool {
    // Joiners, and selectors of a text or a picture, are parts of letters and pictures.
    text::is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Returns the lines of a documentation with a prefix before each.
pub(super) fn doc_lines(doc: &str, prefix: &str) -> String {
    let text: String = doc.chars().map(|c| if is_hidden(c) && c != '\n' { ' ' } else { c }).collect();
    // What could end a comment of a language is taken apart.
    let text = text.replace("*/", "* /").replace("\"\"\"", "'''").replace('\\', "/");
    text.lines().map(|line| format!("{}\n", format!("{prefix}{line}").trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_languages() {
        assert_eq!(pascal("page_of-items"), "PageOfItems");
        assert_eq!(pascal("7"), "T7");
        assert_eq!(snake("findAll"), "find_all");
        assert_eq!(snake("r#type 7"), "r_type_7");
        assert_eq!(unique("a".to_owned(), &mut vec!["a".to_owned()]), "a_");
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\n\"");
        assert_eq!(quoted("a\u{fe00}\u{2764}\u{fe0f}"), "\"a \u{2764}\u{fe0f}\"");
        assert_eq!(doc_lines("a */ \"\"\" b\n\nc", "/// "), "/// a * / ''' b\n///\n/// c\n");
    }
}
