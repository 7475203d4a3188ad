//! [`TraceError`]: the reason why a run ended early. Most runs do, on purpose.

use std::fmt;

use serde::de;

/// The reason why a value could not be read from samples.
#[derive(Debug)]
pub(crate) struct TraceError {
    pub(super) kind: Kind,
    /// `true` once the value that did not like its sample was told the session.
    pub(super) is_blamed: bool,
    /// `true` if it comes from a value inside the container that is looked at.
    pub(super) is_inner: bool,
}

/// The kinds that mean something to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value did not like its sample.
    Refused,
    /// A field is missing.
    Missing(&'static str),
    /// A field came twice, perhaps under another name.
    Duplicate(&'static str),
    /// A field's name is not known.
    UnknownField,
    /// A variant's name is not known.
    UnknownVariant,
    /// A value's code has panicked.
    Panicked,
    /// The run went too deep.
    TooDeep,
    /// The session's steps or time are used up.
    Stopped,
}

impl TraceError {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, is_blamed: false, is_inner: false }
    }

    /// Returns an error that says nothing about samples.
    pub(super) const fn of_session(kind: Kind) -> Self {
        Self { kind, is_blamed: true, is_inner: true }
    }

    /// Returns the error as the containers around the current one see it.
    pub(super) const fn into_inner(mut self) -> Self {
        self.is_inner = true;
        self
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for TraceError {}

impl de::Error for TraceError {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self::new(Kind::Refused)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Kind::Duplicate(field))
    }

    fn unknown_field(_field: &str, _expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField)
    }

    fn unknown_variant(_variant: &str, _expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownVariant)
    }
}
