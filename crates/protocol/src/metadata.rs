//! [`Metadata`]: key-value pairs that accompany a request or a response.

use std::collections::BTreeMap;
use std::collections::btree_map;

use thiserror::Error;

/// The prefix of keys that belong to the protocol.
pub const RESERVED_PREFIX: &str = "farcall-";
/// The number of this attempt at a call, from 1.
pub const ATTEMPT: &str = "farcall-attempt";
/// The key under which a server can tell a repeated call from a new one.
pub const IDEMPOTENCY_KEY: &str = "farcall-idempotency-key";
/// The time to wait before the next attempt, in milliseconds; on a response.
pub const RETRY_AFTER_MS: &str = "farcall-retry-after-ms";
/// The W3C trace context of the caller.
pub const TRACEPARENT: &str = "traceparent";

/// The metadata of a call: string values by lower-case keys.
///
/// It shares the header's limit of 64 KiB with the name of the method; exceeding it fails only that call.
///
/// ```
/// use farcall_protocol::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", "acme")?;
/// assert_eq!(metadata.get("tenant"), Some("acme"));
/// assert!(metadata.insert("X-Tenant", "acme").is_err(), "keys are lower-case");
/// # Ok::<_, farcall_protocol::MetadataError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Creates empty metadata.
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

    /// Inserts a pair that a peer sent, without checks; the last value of a key wins.
    pub(crate) fn insert_from_peer(&mut self, key: String, value: String) {
        self.0.insert(key, value);
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Keeps the pairs for which `keep` returns `true`.
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

/// The error of a metadata key that is not allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is empty, or over 256 bytes.
    #[error("metadata key {key:?} has {} bytes: 1 to 256 are allowed", key.len())]
    Length {
        /// The key as given.
        key: String,
    },
    /// The key contains a character that is not allowed.
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
    fn upper_case_key_is_refused_and_named() {
        let error = Metadata::new().insert("X-Tenant", "a").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"metadata key "X-Tenant" has 'X': lower-case visible ASCII is allowed"#
        );
    }

    #[test]
    fn last_value_of_a_key_wins() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "a").unwrap();
        assert_eq!(metadata.insert("tenant", "b").unwrap().as_deref(), Some("a"));
        assert_eq!(metadata.get("tenant"), Some("b"));
    }
}
