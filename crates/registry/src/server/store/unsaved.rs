//! [`Unsaved`]: the parts of the store that have changed since they were saved, so that only these are written.

use std::collections::BTreeSet;

use super::expiry::Key;

/// The maximum number of names that are kept. Past it, everything counts as changed.
const MAX_NAMES: usize = 65_536;

/// The changes since they were last saved: everything, until something was saved.
#[derive(Debug)]
pub(in crate::server) struct Unsaved {
    all: bool,
    names: BTreeSet<Key>,
    /// Sets of names that could not be saved. They are kept as they are: joining them would take long, under the store's
    /// lock.
    earlier: Vec<BTreeSet<Key>>,
    /// `true` if the overrides of expired instances have changed.
    pub(in crate::server) overrides: bool,
    /// `true` if warming has ended.
    pub(in crate::server) warming: bool,
}

impl Unsaved {
    pub(super) fn all() -> Self {
        Self { all: true, ..Self::nothing() }
    }

    pub(super) fn nothing() -> Self {
        Self { all: false, names: BTreeSet::new(), earlier: Vec::new(), overrides: false, warming: false }
    }

    /// Returns `true` if everything counts as changed, whatever names there are.
    pub(in crate::server) fn is_all(&self) -> bool {
        self.all
    }

    /// The instances that are new, changed or gone. One may occur several times.
    pub(in crate::server) fn names(&self) -> impl Iterator<Item = &Key> {
        self.earlier.iter().chain([&self.names]).flatten()
    }

    /// The number of [`names`](Self::names).
    pub(in crate::server) fn len(&self) -> usize {
        self.earlier.iter().map(BTreeSet::len).sum::<usize>() + self.names.len()
    }

    /// Records that an instance is new, has changed, or is gone.
    pub(super) fn insert(&mut self, key: Key) {
        if !self.all {
            self.names.insert(key);
            self.check_size();
        }
    }

    /// Adds what could not be saved, without a look at its names.
    pub(super) fn extend(&mut self, other: Self) {
        self.all |= other.all;
        self.overrides |= other.overrides;
        self.warming |= other.warming;
        self.earlier.extend(other.earlier);
        if !other.names.is_empty() {
            self.earlier.push(other.names);
        }
        self.check_size();
    }

    /// The names stay until they are dropped where that delays no request.
    fn check_size(&mut self) {
        self.all |= self.len() > MAX_NAMES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_nothing_is_lost() {
        let key = |n: usize| Key::from(("A".into(), n.to_string().into()));
        let mut unsaved = Unsaved::nothing();
        (0..MAX_NAMES).for_each(|n| unsaved.insert(key(n)));
        assert!(!unsaved.is_all() && unsaved.names().count() == MAX_NAMES);
        unsaved.insert(key(MAX_NAMES));
        assert!(unsaved.is_all());
        (0..MAX_NAMES).for_each(|n| unsaved.insert(key(2 * MAX_NAMES + n)));
        assert_eq!(unsaved.len(), MAX_NAMES + 1, "none is added beyond that");
        let mut later = Unsaved::nothing();
        later.insert(key(1));
        later.extend(unsaved);
        assert!(later.is_all());
    }

    #[test]
    fn names_that_could_not_be_saved_are_among_the_next() {
        let key = |n: usize| Key::from(("A".into(), n.to_string().into()));
        let mut unsaved = Unsaved::nothing();
        for n in 0..3 {
            unsaved.insert(key(n));
            let failed = std::mem::replace(&mut unsaved, Unsaved::nothing());
            unsaved.insert(key(10 + n));
            unsaved.extend(failed);
        }
        let names: BTreeSet<_> = unsaved.names().cloned().collect();
        assert_eq!(names, [0, 1, 2, 10, 11, 12].map(key).into());
        assert!(!unsaved.is_all() && unsaved.len() == 6);
    }
}
