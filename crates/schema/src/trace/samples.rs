//! The samples that values are read from. A type that does not like one is read again with the next.

/// The number of attempts at a type before it is given up. The last one leaves out what may be left out.
pub(super) const ATTEMPTS: usize = TEXTS.len() + 1;

/// Texts, for the types of the libraries that have a text for a form.
const TEXTS: [&str; 26] = [
    "a",
    "1",
    "",
    "127.0.0.1",
    "127.0.0.1:80",
    "::1",
    "[::1]:80",
    "127.0.0.0/8",
    "2026-01-02T03:04:05Z",
    "2026-01-02",
    "03:04:05",
    "2026-01-02T03:04:05",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "https://example.com/",
    "a@example.com",
    "1.0.0",
    "^1.0",
    "UTC",
    "Europe/Berlin",
    "P1D",
    "1s",
    "EUR",
    "en",
    "00",
    "true",
    "#ffffff",
];

/// Returns the text of an attempt.
pub(super) const fn text(attempt: usize) -> &'static str {
    TEXTS[attempt % TEXTS.len()]
}

/// Returns the number of an attempt, given how many were read before in it.
pub(super) const fn number(attempt: usize, read_before: usize) -> u8 {
    let before = if read_before < 40 { read_before } else { 40 };
    #[expect(clippy::cast_possible_truncation, reason = "it is at most 40")]
    let before = before as u8;
    match attempt % 6 {
        0 => 1,
        1 => before + 1,
        2 => 100 - before,
        3 => 0,
        4 => 12,
        _ => 2,
    }
}

/// A value for a type that takes any.
pub(super) enum Any {
    Map,
    Null,
    Text,
    Number,
    Bool,
    List,
    Float,
}

/// Returns the value of an attempt for a type that takes any.
pub(super) const fn any(attempt: usize) -> Any {
    match attempt % 7 {
        0 => Any::Null,
        1 => Any::Map,
        2 => Any::Text,
        3 => Any::Number,
        4 => Any::List,
        5 => Any::Bool,
        _ => Any::Float,
    }
}
