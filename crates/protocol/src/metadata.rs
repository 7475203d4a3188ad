//! Key-value pairs that travel beside a call's arguments or its answer.

use std::collections::BTreeMap;
use std::collections::btree_map;

use thiserror::Error;

/// The prefix of keys that belong to the protocol.
pub const RESERVED_PREFIX: &str = "farcall-";
/// The number of this attempt at a call, from 1.
pub const ATTEMPT: &str = "farcall-attempt";
/// The key under which a server can tell a repeated call from a new one.
pub const IDEMPOTENCY_KEY: &str = "farcall-idempotency-key";
/// On an answer: how long to wait before the next try, in milliseconds.
pub const RETRY_AFTER_MS: &str = "farcall-retry-after-ms";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Metadata of a call: strings by lower-case keys.
///
/// It shares the header's 64 KiB with the method's name; what does not fit fails that call alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// No pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets `key`, and returns the value that it had.
    ///
    /// # Errors
    ///
    /// The key must be 1 to 256 visible ASCII characters, none of them upper case.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Option<String>, MetadataError> {
        let key = key.into();
        if key.is_empty() || key.len() > 256 {
            return Err(MetadataError::Length { key });
        }
        if let Some(found) = key.chars().find(|c| !c.is_ascii_graphic() || c.is_ascii_uppercase()) {
            return Err(MetadataError::Character { key, found });
        }
        Ok(self.0.insert(key, value.into()))
    }

    /// Takes a pair as a peer sent it, of whatever form; the last of one key counts.
    pub(crate) fn insert_from_peer(&mut self, key: String, value: String) {
        self.0.insert(key, value);
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Removes `key` and returns what it held.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Keeps the pairs for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.0.retain(|key, value| keep(key, value));
    }
}

impl IntoIterator for Metadata {
    type Item = (String, String);
    type IntoIter = btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Why a metadata key was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// Empty, or over 256 bytes.
    #[error("metadata key {key:?} has {} bytes: 1 to 256 are allowed", key.len())]
    Length {
        /// The key as given.
        key: String,
    },
    /// A character that no key may have.
    #[error("metadata key {key:?} has {found:?}: lower-case visible ASCII is allowed")]
    Character {
        /// The key as given.
        key: String,
        /// The first such character.
        found: char,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_case_key_is_refused_by_name() {
        let error = Metadata::new().insert("X-Tenant", "a").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"metadata key "X-Tenant" has 'X': lower-case visible ASCII is allowed"#
        );
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "a").unwrap();
        assert_eq!(metadata.insert("tenant", "b").unwrap().as_deref(), Some("a"));
        assert_eq!(metadata.get("tenant"), Some("b"));
    }
}
