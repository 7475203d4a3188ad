//! [`in_words`]: errors of certificates in words, where rustls prints them as Rust code.

use std::borrow::Cow;

/// The beginning of what rustls prints for errors of its verifier that it has no words for.
const CODE: &str = "Other(OtherError(";

/// Returns the text of an error with what rustls prints as Rust code in words.
///
/// ```
/// let text = "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))";
/// assert!(farcall_tls::in_words(text).contains("CA:TRUE"));
/// assert_eq!(farcall_tls::in_words("connection refused"), "connection refused");
/// ```
#[must_use]
pub fn in_words(text: &str) -> Cow<'_, str> {
    let Some((before, rest)) = text.split_once(CODE) else { return Cow::Borrowed(text) };
    let Some((code, after)) = rest.split_once("))") else { return Cow::Borrowed(text) };
    let words = match code {
        "CaUsedAsEndEntity" => {
            "it is the certificate of an authority (CA:TRUE), which cannot be a server's or client's itself: sign another \
             one with it, or make a self-signed one with `basicConstraints=CA:FALSE`"
                .to_owned()
        }
        code => separated(code),
    };
    Cow::Owned(format!("{before}{words}{after}"))
}

/// Returns the words of a name such as `UnsupportedCriticalExtension`.
fn separated(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_words() {
        for (text, words) in [
            ("a: Other(OtherError(UnsupportedCriticalExtension)), b", "a: unsupported critical extension, b"),
            ("Other(OtherError(CutOff", "Other(OtherError(CutOff"),
            ("", ""),
        ] {
            assert_eq!(in_words(text), words);
        }
    }
}
