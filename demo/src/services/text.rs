//! `Text`: the service of the job.

use std::collections::BTreeMap;

/// Text analysis.
#[farcall::service]
pub trait Text {
    /// Counts the occurrences of each word. A word is a run of letters and digits, in lower case.
    #[rpc(idempotent)]
    async fn count(&self, text: String) -> BTreeMap<String, u64>;
}

/// The stateless implementation.
#[derive(Debug)]
pub(crate) struct Counter;

impl Text for Counter {
    async fn count(&self, text: String) -> BTreeMap<String, u64> {
        count(&text)
    }
}

fn count(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(lower_case(word)).or_default() += 1;
    }
    counts
}

/// Converts each character separately: `str::to_lowercase` writes a sigma differently at the end of a
/// word, so that one word could count as two.
fn lower_case(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    word.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::count::count_locally;

    #[test]
    fn word_is_a_run_of_letters_and_digits_in_lower_case() {
        let counts = count("Ein, zwei -- ZWEI! x86_64 \u{dc}ber \u{4e16}");
        let expected = [("64", 1), ("ein", 1), ("x86", 1), ("zwei", 2), ("\u{fc}ber", 1), ("\u{4e16}", 1)];
        assert_eq!(counts, expected.map(|(word, n)| (word.to_owned(), n)).into());
    }

    #[test]
    fn text_without_words_has_no_counts() {
        assert_eq!(count(""), BTreeMap::new());
        assert_eq!(count(" \n--\u{2028}"), BTreeMap::new());
    }

    proptest! {
        #[test]
        fn service_and_local_count_agree(text in r"(\PC|[ a-cA-C\n\u{3a3}\u{130}]){0,60}") {
            prop_assert_eq!(count(&text), count_locally(&text));
        }
    }
}
