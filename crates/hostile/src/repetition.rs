//! [`Repetition`]: what a server holds after each run of an attack, at the same time after each.

use crate::server::Figures;

/// The memory after the last run, in percent of that after earlier ones, that counts as no growth: an allocator's blocks
/// do not lie in the same way twice.
const MAX_MEMORY_PERCENT: u64 = 110;

/// A server at rest after each run of the same attack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repetition(Vec<Figures>);

impl FromIterator<Figures> for Repetition {
    fn from_iter<I: IntoIterator<Item = Figures>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

impl Repetition {
    pub(crate) fn push(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    /// Returns the figures after each run.
    pub(crate) fn figures(&self) -> &[Figures] {
        &self.0
    }

    /// Returns a sentence for each figure that is larger after the last run than after each of the first half of the runs:
    /// memory by more than a tenth, others at all. An allocator keeps what it needed, and does not need all in the first run.
    pub(crate) fn grown(&self) -> Vec<String> {
        let [.., _, last] = &*self.0 else { return Vec::new() };
        let earlier = &self.0[..self.0.len().div_ceil(2)];
        let mut grown = Vec::new();
        let most = earlier.iter().map(|figures| figures.memory).max().unwrap_or_default();
        if last.memory * 100 > most * MAX_MEMORY_PERCENT {
            let [most, last] = [most, last.memory].map(|bytes| bytes / 1_000_000);
            grown.push(format!("{last} MB of memory after the last run, at most {most} before"));
        }
        let mut compare = |name, figure: fn(&Figures) -> Option<u64>| {
            // What only some of the readings have is of a server that did not answer.
            match (earlier.iter().filter_map(figure).max(), figure(last)) {
                (Some(most), Some(last)) if last > most => {
                    grown.push(format!("{last} {name} after the last run, at most {most} before"));
                }
                (Some(_), None) => grown.push(format!("{name} after the last run are not known")),
                _ => {}
            }
        };
        compare("descriptors", |figures| Some(figures.descriptors as u64));
        compare("connections", |figures| figures.connections);
        compare("calls", |figures| figures.calls);
        compare("bytes in buffers", |figures| figures.buffered);
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
        [first, second].into_iter().collect::<Repetition>().grown()
    }

    #[test]
    fn memory_may_grow_by_a_tenth_and_nothing_else_at_all() {
        assert!(grown(|_| {}).is_empty());
        assert!(grown(|second| second.memory = 110_000_000).is_empty());
        assert!(grown(|second| (second.descriptors, second.connections) = (19, Some(1))).is_empty());
        let text = grown(|second| second.memory = 111_000_000).join("; ");
        assert_eq!(text, "111 MB of memory after the last run, at most 100 before");
        let text = grown(|second| second.descriptors = 21).join("; ");
        assert_eq!(text, "21 descriptors after the last run, at most 20 before");
        let others =
            grown(|second| (second.connections, second.calls, second.buffered) = (Some(3), Some(1), None));
        for (name, text) in ["3 connections", "1 calls", "bytes in buffers"].iter().zip(&others) {
            assert!(text.starts_with(name), "{text}");
        }
        assert_eq!(others.len(), 3);
    }

    #[test]
    fn last_run_is_compared_with_the_first_half() {
        let grown = |memory: &[u64]| {
            let figures = memory.iter().map(|mb| Figures { memory: mb * 1_000_000, ..Figures::default() });
            figures.collect::<Repetition>().grown().join("; ")
        };
        assert_eq!(grown(&[202, 269, 345, 318, 320, 304]), "", "it grows no longer");
        assert_eq!(
            grown(&[100, 105, 110, 115, 121, 127]),
            "127 MB of memory after the last run, at most 110 before"
        );
        assert_eq!(grown(&[100, 120, 130]), "", "120 and a tenth are more");
        assert_eq!(grown(&[100, 100, 111]), "111 MB of memory after the last run, at most 100 before");
        assert_eq!(grown(&[100]), "");
        assert_eq!(grown(&[]), "");
    }
}
