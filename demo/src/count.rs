//! Words and the number of their occurrences: counted locally, merged, compared.
//!
//! The local count shares no code with the service, because it checks the service's answers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// The number of occurrences of each word.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts the words of a text, character by character.
pub(crate) fn count_locally(text: &str) -> Counts {
    let mut count = LocalCount::default();
    count.add(text);
    count.finish()
}

/// The count of a text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct LocalCount {
    counts: HashMap<String, u64>,
    word: String,
}

impl LocalCount {
    /// Counts the next piece.
    pub(crate) fn add(&mut self, piece: &str) {
        for c in piece.chars() {
            if c.is_alphanumeric() {
                self.word.extend(c.to_lowercase());
            } else if !self.word.is_empty() {
                self.end_word();
            }
        }
    }

    /// Returns the length of the word at the end of the last piece, in bytes.
    pub(crate) const fn word_bytes(&self) -> usize {
        self.word.len()
    }

    /// Returns the counts of all pieces.
    pub(crate) fn finish(mut self) -> Counts {
        if !self.word.is_empty() {
            self.end_word();
        }
        self.counts.into_iter().collect()
    }

    fn end_word(&mut self) {
        match self.counts.get_mut(&self.word) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(self.word.clone(), 1)),
        }
        self.word.clear();
    }
}

/// Adds the counts of a text that occurred `times` times.
pub(crate) fn merge(total: &mut Counts, counts: &Counts, times: u64) {
    for (word, count) in counts {
        match total.get_mut(word) {
            Some(sum) => *sum += count * times,
            None => drop(total.insert(word.clone(), count * times)),
        }
    }
}

/// Returns the `max` commonest words, the commonest first; words with the same count in alphabetical
/// order.
pub(crate) fn commonest(counts: &Counts, max: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<_> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    words.truncate(max);
    words
}

/// A word whose two counts differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) word: String,
    pub(crate) answered: u64,
    pub(crate) counted: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, answered, counted } = self;
        write!(f, "{word:?} occurs {counted} times, and the servers counted {answered}")
    }
}

/// Returns the first word, in alphabetical order, whose counts differ.
pub(crate) fn difference(answered: &Counts, counted: &Counts) -> Option<Difference> {
    if answered == counted {
        return None;
    }
    let of = |counts: &Counts, word: &str| counts.get(word).copied();
    let word = answered
        .keys()
        .chain(counted.keys())
        .filter(|word| of(answered, word) != of(counted, word))
        .min()
        .expect("maps that are not equal differ in a word");
    Some(Difference {
        word: word.clone(),
        answered: of(answered, word).unwrap_or(0),
        counted: of(counted, word).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> Counts {
        words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    #[test]
    fn word_may_end_with_the_text() {
        assert_eq!(count_locally("One two,ONE"), counts(&[("one", 2), ("two", 1)]));
    }

    #[test]
    fn pieces_count_as_their_whole() {
        let mut count = LocalCount::default();
        for piece in ["On", "e tw", "o,ONE", "", " \u{4e16}"] {
            count.add(piece);
        }
        assert_eq!(count.finish(), count_locally("One two,ONE \u{4e16}"));
    }

    #[test]
    fn merging_adds_known_and_new_words() {
        let mut total = counts(&[("a", 1)]);
        merge(&mut total, &counts(&[("a", 2), ("b", 1)]), 3);
        assert_eq!(total, counts(&[("a", 7), ("b", 3)]));
    }

    #[test]
    fn the_commonest_come_first_and_ties_by_the_alphabet() {
        let counts = counts(&[("a", 1), ("b", 3), ("c", 1), ("d", 2)]);
        assert_eq!(commonest(&counts, 3), [("b", 3), ("d", 2), ("a", 1)]);
    }

    #[test]
    fn difference_is_found_on_either_side() {
        let full = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(difference(&full, &full), None);
        let missing = difference(&counts(&[("a", 1)]), &full).unwrap();
        assert_eq!(missing.to_string(), r#""b" occurs 2 times, and the servers counted 0"#);
        let surplus = difference(&counts(&[("Z", 1), ("a", 1), ("b", 2)]), &full).unwrap();
        assert_eq!((surplus.answered, surplus.counted), (1, 0));
        assert!(difference(&counts(&[("a", 1), ("b", 3)]), &full).is_some());
    }
}
