//! [`Page`]: a few neighboring items of a sorted list, immutable while readers hold it, with its JSON.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::retained::{Retained, RetainedBytes};

/// The maximum number of a page's items. A change copies the references to the items of one page.
pub(super) const MAX_PAGE_ITEMS: usize = 128;
/// The maximum size of a page's JSON, in bytes, unless it has one item only. After a change, one page is serialized
/// again.
pub(super) const MAX_PAGE_BYTES: usize = 64 * 1024;
/// The maximum number of filtered views of a page that are kept.
const MAX_VIEWS: usize = 4;

/// An item of a sorted list.
pub(in crate::server) trait Item {
    /// The key, by which the list is sorted.
    fn key(&self) -> &str;

    /// The item as JSON.
    fn json(&self) -> &[u8];
}

/// The items that a view of a page selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ViewKey {
    /// The instances of a zone.
    Zone(String),
    /// The instances that are not stale.
    NotStale,
}

/// Neighboring items of a sorted list.
#[derive(Debug)]
pub(in crate::server) struct Page<T> {
    pub(super) items: Vec<Arc<T>>,
    /// The size of the items' JSON, each with a comma before it.
    bytes: usize,
    /// That JSON, made when it is first read, and once for all readers.
    json: OnceLock<Bytes>,
    /// The last views: `None` for a view that selects all items.
    views: Mutex<Vec<(ViewKey, Option<Arc<Self>>)>>,
    retained: Retained,
    retired: OnceLock<RetainedBytes>,
}

impl<T: Item> Page<T> {
    pub(super) fn new(items: Vec<Arc<T>>, retained: &Retained) -> Self {
        Self {
            bytes: items.iter().map(|item| item.json().len() + 1).sum(),
            items,
            json: OnceLock::new(),
            views: Mutex::default(),
            retained: retained.clone(),
            retired: OnceLock::new(),
        }
    }

    /// The size of [`Page::json`].
    pub(in crate::server) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the JSON of all items, each with a comma before it.
    pub(in crate::server) fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| {
                let mut json = Vec::with_capacity(self.bytes);
                for item in &self.items {
                    json.push(b',');
                    json.extend_from_slice(item.json());
                }
                json.into()
            })
            .clone()
    }

    /// Returns the position of a key, or where it would be inserted.
    pub(super) fn search(&self, key: &str) -> Result<usize, usize> {
        self.items.binary_search_by(|item| item.key().cmp(key))
    }

    /// Returns a page with the items that `keep` selects, which `key` names.
    pub(super) fn view(self: &Arc<Self>, key: &ViewKey, keep: impl Fn(&T) -> bool) -> Arc<Self> {
        let known = |views: &[(ViewKey, Option<Arc<Self>>)]| {
            views.iter().find(|(known, _)| known == key).map(|(_, view)| view.clone())
        };
        let whole_or = |view: Option<Arc<Self>>| view.unwrap_or_else(|| Arc::clone(self));
        if let Some(view) = known(&self.lock_views()) {
            return whole_or(view);
        }
        let items: Vec<_> = self.items.iter().filter(|item| keep(item)).cloned().collect();
        let view = (items.len() < self.items.len()).then(|| Arc::new(Self::new(items, &self.retained)));
        let mut views = self.lock_views();
        // Another reader may have made it meanwhile: all share one.
        if let Some(view) = known(&views) {
            return whole_or(view);
        }
        if views.len() == MAX_VIEWS
            && let (_, Some(oldest)) = views.remove(0)
        {
            oldest.retire();
        }
        if let (Some(view), Some(_)) = (&view, self.retired.get()) {
            view.retire();
        }
        views.push((key.clone(), view.clone()));
        whole_or(view)
    }

    /// Counts the page's memory as retained by readers, because the store no longer needs it.
    pub(super) fn retire(&self) {
        self.retired.get_or_init(|| self.retained.add(self.bytes));
        self.retire_views();
    }

    /// Changes the items of a page that no reader holds.
    pub(super) fn edit<R>(&mut self, edit: impl FnOnce(&mut Vec<Arc<T>>) -> R) -> R {
        // Readers may hold a view without its page.
        self.retire_views();
        let edited = edit(&mut self.items);
        let items = std::mem::take(&mut self.items);
        *self = Self::new(items, &self.retained.clone());
        edited
    }

    fn retire_views(&self) {
        for (_, view) in &*self.lock_views() {
            if let Some(view) = view {
                view.retire();
            }
        }
    }

    fn lock_views(&self) -> std::sync::MutexGuard<'_, Vec<(ViewKey, Option<Arc<Self>>)>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
