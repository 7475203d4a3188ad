//! [`Repetition`]: what a server holds after one run of an attack and after another one, at the same time after each.

use crate::server::Figures;

/// The memory after the second run, in percent of that after the first, that counts as no growth: an allocator's blocks
/// do not lie in the same way twice.
const MAX_MEMORY_PERCENT: u64 = 110;

/// A server at rest after each of two runs of the same attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repetition {
    pub(crate) first: Figures,
    pub(crate) second: Figures,
}

impl Repetition {
    /// Returns a sentence for each figure that has grown from the first run to the second: memory by more than a tenth, others at
    /// all.
    pub(crate) fn grown(&self) -> Vec<String> {
        let (first, second) = (&self.first, &self.second);
        let mut grown = Vec::new();
        if second.memory * 100 > first.memory * MAX_MEMORY_PERCENT {
            let [first, second] = [first.memory, second.memory].map(|bytes| bytes / 1_000_000);
            grown.push(format!("{second} MB of memory after the second run, of {first} after the first"));
        }
        let counts = [
            ("descriptors", Some(first.descriptors as u64), Some(second.descriptors as u64)),
            ("connections", first.connections, second.connections),
            ("calls", first.calls, second.calls),
            ("bytes in buffers", first.buffered, second.buffered),
        ];
        for (name, first, second) in counts {
            // What only one of both readings has is a server that did not answer.
            match (first, second) {
                (Some(first), Some(second)) if second > first => {
                    grown.push(format!("{second} {name} after the second run, {first} after the first"));
                }
                (Some(_), None) => grown.push(format!("{name} after the second run are not known")),
                _ => {}
            }
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(change: impl FnOnce(&mut Figures)) -> Vec<String> {
        let (connections, calls, buffered) = (Some(2), Some(0), Some(0));
        let first = Figures {
            memory: 100_000_000,
            descriptors: 20,
            connections,
            calls,
            buffered,
            ..Figures::default()
        };
        let mut second = first;
        change(&mut second);
        Repetition { first, second }.grown()
    }

    #[test]
    fn memory_may_grow_by_a_tenth_and_nothing_else_at_all() {
        assert!(grown(|_| {}).is_empty());
        assert!(grown(|second| second.memory = 110_000_000).is_empty());
        assert!(grown(|second| (second.descriptors, second.connections) = (19, Some(1))).is_empty());
        let text = grown(|second| second.memory = 111_000_000).join("; ");
        assert_eq!(text, "111 MB of memory after the second run, of 100 after the first");
        let text = grown(|second| second.descriptors = 21).join("; ");
        assert_eq!(text, "21 descriptors after the second run, 20 after the first");
        let others =
            grown(|second| (second.connections, second.calls, second.buffered) = (Some(3), Some(1), None));
        for (name, text) in ["3 connections", "1 calls", "bytes in buffers"].iter().zip(&others) {
            assert!(text.starts_with(name), "{text}");
        }
        assert_eq!(others.len(), 3);
    }
}
