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
        Self { all: false, names: BTreeSet::new(), overrides: false, warming: false }
    }

    /// Returns `true` if everything counts as changed.
    pub(in crate::server) fn is_all(&self) -> bool {
        self.all
    }

    /// The instances that are new, changed or gone; empty if everything counts as changed.
    pub(in crate::server) fn names(&self) -> impl Iterator<Item = &Key> {
        self.names.iter()
    }

    /// Records that an instance is new, has changed, or is gone.
    pub(super) fn insert(&mut self, key: Key) {
        if !self.all {
            self.names.insert(key);
            self.check_size();
        }
    }

    /// Adds what could not be saved.
    pub(super) fn extend(&mut self, other: Self) {
        self.all |= other.all;
        self.overrides |= other.overrides;
        self.warming |= other.warming;
        self.names.extend(other.names);
        self.check_size();
    }

    fn check_size(&mut self) {
        self.all |= self.names.len() > MAX_NAMES;
        if self.all {
            self.names.clear();
        }
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
        assert!(unsaved.is_all() && unsaved.names().count() == 0);
        let mut later = Unsaved::nothing();
        later.insert(key(1));
        later.extend(unsaved);
        assert!(later.is_all());
    }
}
