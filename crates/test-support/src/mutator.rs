//! [`Mutator`]: messages with mistakes, the same ones in every run.

/// Makes mutations of messages from a seed.
pub struct Mutator(fastrand::Rng);

/// The bytes that decide most in frames, in MessagePack and in text.
const DECISIVE: [u8; 16] =
    [0, 1, 0x7F, 0x80, 0xFF, 0x97, 0xC0, 0xC1, 0xC6, 0xCF, 0xDB, 0xDD, 0xDF, b'"', b'{', b'\n'];
/// The longest insertion, in bytes.
const MAX_INSERTED: usize = 64;

impl Mutator {
    /// Creates a mutator whose choices depend on the seed alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a number below `end`.
    pub fn number(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// Returns the message with one to four mistakes, or, one time in four, as it is.
    pub fn mutate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        if self.number(4) > 0 {
            for _ in 0..=self.number(4) {
                self.mistake(&mut message);
            }
        }
        message
    }

    fn mistake(&mut self, message: &mut Vec<u8>) {
        let at = self.number(message.len().max(1)).min(message.len().saturating_sub(1));
        match self.number(7) {
            _ if message.is_empty() => message.push(self.0.u8(..)),
            0 => message[at] ^= 1 << self.number(8),
            1 => message[at] = self.0.u8(..),
            2 => message[at] = DECISIVE[self.number(DECISIVE.len())],
            3 => drop(message.remove(at)),
            4 => message.truncate(at),
            5 => {
                let end = (at + 1 + self.number(MAX_INSERTED)).min(message.len());
                let piece = message[at..end].to_vec();
                let to = self.number(message.len());
                message.splice(to..to, piece);
            }
            _ => {
                let inserted = vec![DECISIVE[self.number(DECISIVE.len())]; 1 + self.number(4)];
                message.splice(at..at, inserted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_depend_on_the_seed_alone() {
        let mutations = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..1000).map(|_| mutator.mutate(b"a message to mutate")).collect::<Vec<_>>()
        };
        assert_eq!(mutations(7), mutations(7));
        assert_ne!(mutations(7), mutations(8));
        let unchanged =
            mutations(7).iter().filter(|mutation| &mutation[..] == b"a message to mutate").count();
        assert!((200..400).contains(&unchanged), "{unchanged}");
    }

    #[test]
    fn empty_messages_are_mutated() {
        let mut mutator = Mutator::new(1);
        assert!((0..100).any(|_| !mutator.mutate(b"").is_empty()));
    }
}
