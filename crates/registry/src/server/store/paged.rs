//! [`Paged`]: a sorted list of which readers take an immutable copy in constant time.
//!
//! It is a list of shared pages. A change copies the page that it touches, and the list of pages, if a reader holds
//! them; the JSON of all other pages stays as it is, shared by the readers of all revisions.

use std::sync::Arc;

use super::page::{Item, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Page};
use super::retained::Retained;

/// The pages of a list at one moment.
pub(in crate::server) type Pages<T> = Arc<Vec<Arc<Page<T>>>>;

/// A sorted list of items with distinct keys.
#[derive(Debug)]
pub(super) struct Paged<T> {
    /// No page is empty.
    pages: Pages<T>,
    retained: Retained,
}

impl<T: Item> Paged<T> {
    pub(super) fn new(retained: &Retained) -> Self {
        Self { pages: Pages::default(), retained: retained.clone() }
    }

    /// Returns the list at this moment.
    pub(super) fn pages(&self) -> Pages<T> {
        Arc::clone(&self.pages)
    }

    pub(super) fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Arc<T>> {
        let page = self.pages.get(self.page_of(key))?;
        page.search(key).ok().map(|at| &page.items[at])
    }

    /// Inserts an item, in place of the one with its key.
    pub(super) fn insert(&mut self, item: Arc<T>) {
        if self.pages.is_empty() {
            let page = Page::new(vec![item], &self.retained);
            Arc::make_mut(&mut self.pages).push(Arc::new(page));
            return;
        }
        let at = self.page_of(item.key());
        let found = self.pages[at].search(item.key());
        self.edit(at, |items| match found {
            Ok(at) => items[at] = item,
            Err(at) => items.insert(at, item),
        });
        self.split(at, found);
    }

    /// Removes the item with this key, if there is one.
    pub(super) fn remove(&mut self, key: &str) {
        let at = self.page_of(key);
        let Some(Ok(found)) = self.pages.get(at).map(|page| page.search(key)) else { return };
        if self.pages[at].items.len() == 1 {
            let emptied = Arc::make_mut(&mut self.pages).remove(at);
            Self::retire_if_shared(&emptied);
        } else {
            self.edit(at, |items| drop(items.remove(found)));
            self.merge(at);
        }
    }

    /// Returns the index of the page that has the key, or would have it.
    fn page_of(&self, key: &str) -> usize {
        self.pages.partition_point(|page| page.items[0].key() <= key).saturating_sub(1)
    }

    fn edit(&mut self, at: usize, edit: impl FnOnce(&mut Vec<Arc<T>>)) {
        let page = &mut Arc::make_mut(&mut self.pages)[at];
        if let Some(page) = Arc::get_mut(page) {
            return page.edit(edit);
        }
        let mut items = Vec::with_capacity(page.items.len() + 1);
        items.extend(page.items.iter().cloned());
        edit(&mut items);
        let replaced = std::mem::replace(page, Arc::new(Page::new(items, &self.retained)));
        replaced.retire();
    }

    /// Splits a page that has become too large; `inserted` is the position of its newest item.
    fn split(&mut self, at: usize, inserted: Result<usize, usize>) {
        let page = &self.pages[at];
        let count = page.items.len();
        if count == 1 || (count <= MAX_PAGE_ITEMS && page.bytes() <= MAX_PAGE_BYTES) {
            return;
        }
        // Items that arrive in order fill their pages.
        let appended = at + 1 == self.pages.len() && inserted == Err(count - 1);
        let middle = if appended { count - 1 } else { count / 2 };
        let mut rest = Vec::new();
        self.edit(at, |items| rest = items.split_off(middle));
        let rest = Page::new(rest, &self.retained);
        Arc::make_mut(&mut self.pages).insert(at + 1, Arc::new(rest));
    }

    /// Merges a page that has become small with its neighbor, so that the number of pages stays proportional to that
    /// of items.
    fn merge(&mut self, at: usize) {
        let at = if at + 1 < self.pages.len() { at } else { at.saturating_sub(1) };
        let [page, next] = &self.pages[at..(at + 2).min(self.pages.len())] else { return };
        if page.items.len() + next.items.len() > MAX_PAGE_ITEMS / 2
            || page.bytes() + next.bytes() > MAX_PAGE_BYTES / 2
        {
            return;
        }
        let next = Arc::make_mut(&mut self.pages).remove(at + 1);
        self.edit(at, |items| items.extend(next.items.iter().cloned()));
        Self::retire_if_shared(&next);
    }

    fn retire_if_shared(page: &Arc<Page<T>>) {
        if Arc::strong_count(page) > 1 {
            page.retire();
        }
    }
}
