//! `Text`: the service of the job.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall::protocol::Code;
use farcall::{Context, Receiver, Sender, Status};
use tokio::sync::watch;
use tokio::time::sleep;

/// The bytes of a text in pieces after which its counts so far are sent.
const COUNTED_AT_ONCE: usize = 256 * 1024;
/// The longest word that a text in pieces may have, in bytes.
pub(crate) const MAX_WORD: usize = 1024 * 1024;
/// The shortest time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Text analysis.
#[farcall::service]
pub trait Text {
    /// Counts the occurrences of each word. A word is a run of letters and digits, in lower case.
    #[rpc(idempotent)]
    async fn count(&self, text: String) -> BTreeMap<String, u64>;
    /// Counts the words of a text that comes in pieces, which may end within a word. Each item that it sends has the counts
    /// since the one before; their sum is the result. Returns the bytes that were counted.
    #[rpc(idempotent)]
    async fn count_pieces(
        &self,
        pieces: Receiver<String>,
        counts: Sender<BTreeMap<String, u64>>,
    ) -> Result<u64, Status>;
    /// Sends how many bytes this server has counted, now and whenever it has counted more, up to ten times a second.
    #[rpc(idempotent)]
    async fn progress(&self, cx: &Context, counted: Sender<u64>);
}

/// The implementation, whose only state is how much it has counted.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    counted: watch::Sender<u64>,
}

impl Counter {
    fn note(&self, bytes: usize) {
        self.counted.send_modify(|counted| *counted += bytes as u64);
    }
}

impl Text for Counter {
    async fn count(&self, text: String) -> BTreeMap<String, u64> {
        self.note(text.len());
        count(&text)
    }

    async fn count_pieces(
        &self,
        mut pieces: Receiver<String>,
        mut counts: Sender<BTreeMap<String, u64>>,
    ) -> Result<u64, Status> {
        // The words that are complete, and the beginning of one that may go on.
        let (mut text, mut bytes) = (String::new(), 0);
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            self.note(piece.len());
            text.push_str(&piece);
            if text.len() < COUNTED_AT_ONCE {
                continue;
            }
            let rest = text.split_off(end_of_words(&text));
            if rest.len() > MAX_WORD {
                let message = format!("a word of more than {MAX_WORD} bytes");
                return Err(Status::maybe(Code::InvalidArgument, message));
            }
            counts.send(count(&text)).await?;
            text = rest;
        }
        counts.send(count(&text)).await?;
        Ok(bytes)
    }

    async fn progress(&self, cx: &Context, mut counted: Sender<u64>) {
        let mut changes = self.counted.subscribe();
        let reporting = async {
            loop {
                let now = *changes.borrow_and_update();
                if counted.send(now).await.is_err() {
                    return;
                }
                sleep(PROGRESS_INTERVAL).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            // Cancel-safe: nobody needs the report that was interrupted.
            () = reporting => {}
            () = cx.draining() => {}
        }
    }
}

/// Returns the end of the last word that is surely complete.
fn end_of_words(text: &str) -> usize {
    text.char_indices().rev().find(|(_, c)| !c.is_alphanumeric()).map_or(0, |(at, _)| at)
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

    #[test]
    fn words_are_complete_up_to_the_last_separator() {
        assert_eq!(end_of_words("one two thr"), 7);
        assert_eq!(end_of_words("one \u{4e16}\u{2028}"), 7);
        assert_eq!(end_of_words("one"), 0);
    }

    proptest! {
        #[test]
        fn service_and_local_count_agree(text in r"(\PC|[ a-cA-C\n\u{3a3}\u{130}]){0,60}") {
            prop_assert_eq!(count(&text), count_locally(&text));
        }
    }
}
