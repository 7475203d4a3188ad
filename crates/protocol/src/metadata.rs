//! [`Metadata`]: key-value pairs that accompany a request or a response.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::criticality::Criticality;
use crate::limits::MAX_METADATA_PAIRS;

/// The prefix of keys that belong to the protocol.
pub const RESERVED_PREFIX: &str = "farcall-";
/// The number of this attempt at a call, from 1.
pub const ATTEMPT: &str = "farcall-attempt";
/// The key under which a server can tell a repeated call from a new one: 1 to 256 visible ASCII characters. A method that is
/// declared `once` carries out the calls of one caller with the same key once.
pub const IDEMPOTENCY_KEY: &str = "farcall-idempotency-key";
/// `1` on a request that the server carries out once for all with the same [key](IDEMPOTENCY_KEY), or refuses.
pub const ONCE: &str = "farcall-once";
/// The [`Criticality`] of the call. Unlike the protocol's other keys, calls that a handler makes inherit it.
pub const CRITICALITY: &str = "farcall-criticality";
/// The time to wait before the next attempt, in milliseconds; on a response.
pub const RETRY_AFTER_MS: &str = "farcall-retry-after-ms";
/// The [`LoadReport`](crate::LoadReport) of the server; on a response.
pub const LOAD: &str = "farcall-load";
/// `1` on the response of a stream that the server cut because it stops: the caller may go on elsewhere, from the last item
/// that it got.
pub const RESUME: &str = "farcall-resume";
/// The W3C trace context of the caller.
pub const TRACEPARENT: &str = "traceparent";

/// The metadata of a call: string values by lower-case keys.
///
/// It shares the header's limit of 64 KiB with the name of the method, and has at most
/// [`MAX_METADATA_PAIRS`] pairs; exceeding either fails only that call.
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
#[derive(Clone, Default)]
pub struct Metadata {
    /// The keys and values, one after the other. A peer chooses how many there are, so that a pair costs little
    /// more than its text: two strings in a map are 24 times as large as the shortest of them.
    text: String,
    /// The pairs, ordered by key.
    pairs: Vec<Pair>,
    /// The number of pairs that a peer sent, if that is over the limit; then none of them is kept. Else 0.
    excess: usize,
}

/// The place of a pair: its key, and its value right behind it.
#[derive(Clone, Copy, Debug)]
struct Pair {
    start: usize,
    key_len: usize,
    value_len: usize,
}

impl Pair {
    const fn key(self) -> Range<usize> {
        self.start..self.start + self.key_len
    }

    const fn value(self) -> Range<usize> {
        let start = self.start + self.key_len;
        start..start + self.value_len
    }
}

impl Metadata {
    /// Creates empty metadata.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: String::new(), pairs: Vec::new(), excess: 0 }
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
        let before = self.remove(&key);
        self.push(&key, &value.into());
        Ok(before)
    }

    /// Reads the pairs that a peer sent, without checks of the keys; the last value of a key wins. `bytes` is the
    /// size of what they are read from.
    pub(crate) fn from_peer<'a, E>(
        bytes: usize,
        pairs: impl Iterator<Item = Result<(&'a str, &'a str), E>>,
    ) -> Result<Self, E> {
        let mut read = Self { text: String::with_capacity(bytes), ..Self::new() };
        let mut count = 0;
        for pair in pairs {
            let (key, value) = pair?;
            count += 1;
            // The rest is read to its end, since a header that is malformed is another error.
            if count <= MAX_METADATA_PAIRS {
                read.set(key, value);
            }
        }
        Ok(if count > MAX_METADATA_PAIRS { Self { excess: count, ..Self::new() } } else { read })
    }

    /// Checks the number of pairs. What a peer sent beyond the limit is not kept, and must not be taken for empty.
    ///
    /// # Errors
    ///
    /// There are more than [`MAX_METADATA_PAIRS`].
    pub const fn check_len(&self) -> Result<(), MetadataError> {
        let pairs = if self.excess > 0 { self.excess } else { self.pairs.len() };
        if pairs > MAX_METADATA_PAIRS { Err(MetadataError::TooMany { pairs }) } else { Ok(()) }
    }

    /// Returns the size of its memory, in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.pairs.capacity() * size_of::<Pair>() + size_of::<Self>()
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.find(key).ok()?;
        Some(&self.text[self.pairs[index].value()])
    }

    /// Returns how much the call matters. A class that is not known counts as [`Criticality::Default`].
    #[must_use]
    pub fn criticality(&self) -> Criticality {
        self.get(CRITICALITY).and_then(Criticality::parse).unwrap_or_default()
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let pair = self.pairs.remove(self.find(key).ok()?);
        let value = self.text[pair.value()].to_owned();
        self.close_gap(pair);
        Some(value)
    }

    /// Returns the number of pairs.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns `true` if there are no pairs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns the pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|pair| (&self.text[pair.key()], &self.text[pair.value()]))
    }

    /// Keeps the pairs for which `keep` returns `true`.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        let before = std::mem::take(self);
        for (key, value) in before.iter().filter(|(key, value)| keep(key, value)) {
            self.push(key, value);
        }
    }

    /// Returns the index of `key`, or the one that it would have.
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|pair| self.text[pair.key()].cmp(key))
    }

    /// Sets `key`. The text of a value that it had stays, since moving what is behind it costs time, and the peer
    /// has sent no more than a header.
    fn set(&mut self, key: &str, value: &str) {
        if let Ok(index) = self.find(key) {
            self.pairs.remove(index);
        }
        self.push(key, value);
    }

    /// Adds a pair whose key is new.
    fn push(&mut self, key: &str, value: &str) {
        let index = self.find(key).unwrap_or_else(|index| index);
        let pair = Pair { start: self.text.len(), key_len: key.len(), value_len: value.len() };
        self.text.push_str(key);
        self.text.push_str(value);
        self.pairs.insert(index, pair);
    }

    /// Removes the text of a pair that is no longer in the list.
    fn close_gap(&mut self, gap: Pair) {
        let end = gap.value().end;
        self.text.replace_range(gap.start..end, "");
        for pair in &mut self.pairs {
            if pair.start > gap.start {
                pair.start -= end - gap.start;
            }
        }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.excess == other.excess && self.iter().eq(other.iter())
    }
}

impl Eq for Metadata {}

impl IntoIterator for Metadata {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        let pairs: Vec<_> = self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        pairs.into_iter()
    }
}

/// The error of metadata that is not allowed.
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
    /// There are too many pairs.
    #[error("metadata of {pairs} pairs: the limit is {MAX_METADATA_PAIRS} pairs")]
    TooMany {
        /// The number of pairs.
        pairs: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn from_peer(pairs: &[(String, String)]) -> Metadata {
        let pairs = pairs.iter().map(|(key, value)| Ok::<_, ()>((&**key, &**value)));
        Metadata::from_peer(0, pairs).unwrap()
    }

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

    #[test]
    fn pairs_of_a_peer_are_bounded_in_number_and_memory() {
        let pairs: Vec<_> = (0..MAX_METADATA_PAIRS).map(|n| (format!("{n:x}"), String::new())).collect();
        let metadata = from_peer(&pairs);
        assert_eq!((metadata.check_len(), metadata.len()), (Ok(()), MAX_METADATA_PAIRS));
        assert!(metadata.memory_bytes() < 64 * 1024, "{}", metadata.memory_bytes());
        let one_more = [&pairs[..], &[("one-more".to_owned(), String::new())]].concat();
        let metadata = from_peer(&one_more);
        let error = metadata.check_len().unwrap_err();
        assert_eq!(error.to_string(), "metadata of 1025 pairs: the limit is 1024 pairs");
        assert!(metadata.is_empty() && metadata.memory_bytes() < 100);
    }

    proptest! {
        #[test]
        fn behaves_as_an_ordered_map(
            steps in proptest::collection::vec(("[a-e]{1,2}", "[x-z]{0,5}", 0..4_u8), 0..40),
        ) {
            let (mut metadata, mut model) = (Metadata::new(), BTreeMap::new());
            for (key, value, step) in steps {
                match step {
                    0 => prop_assert_eq!(metadata.remove(&key), model.remove(&key)),
                    1 => {
                        metadata.retain(|kept, _| *kept != key);
                        model.retain(|kept, _| *kept != key);
                    }
                    _ => prop_assert_eq!(metadata.insert(&*key, &*value).unwrap(), model.insert(key, value)),
                }
                let expected: Vec<_> = model.clone().into_iter().collect();
                prop_assert_eq!(metadata.clone().into_iter().collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(metadata.len(), expected.len());
                prop_assert_eq!(&from_peer(&expected), &metadata);
                let text: usize = expected.iter().map(|(key, value)| key.len() + value.len()).sum();
                prop_assert_eq!(metadata.text.len(), text, "no gaps");
            }
        }

        #[test]
        fn last_value_of_a_key_from_a_peer_wins(
            pairs in proptest::collection::vec(("[a-d]", "[x-z]{0,3}"), 0..20),
        ) {
            let model: BTreeMap<_, _> = pairs.iter().cloned().collect();
            let read: BTreeMap<_, _> = from_peer(&pairs).into_iter().collect();
            prop_assert_eq!(read, model);
        }
    }
}
