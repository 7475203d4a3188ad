//! [`Document`]: a JSON body or an event as its reader is owed it: shared pages between a head and a tail.
//!
//! Its bytes are made part by part when the reader takes them, outside of the store's lock; and once for all readers,
//! except `last_seen`, which heartbeats change.

use std::sync::Arc;

use bytes::Bytes;

use super::listed::{ListedAddress, ListedInstance, ListedService};
use super::page::{Item, Page};
use super::paged::Pages;

/// The pages of a list that only its reader holds, from which freeing them takes long.
const MANY_PAGES: usize = 8;
/// The maximum size of a part, in bytes, if its items are smaller.
pub(in crate::server) const MAX_PART_BYTES: usize = 32 * 1024;
/// Parts below this size are copied to be joined, in bytes; larger ones are shared.
const MIN_SHARED_BYTES: usize = 8 * 1024;
/// `,"last_seen":"2031-04-05T06:07:08.009Z"`
const LAST_SEEN_BYTES: usize = 39;

/// A JSON body, or an event. See the module.
#[derive(Clone, Debug)]
pub(in crate::server) struct Document {
    pub(super) head: Bytes,
    pub(super) items: Items,
    pub(super) tail: &'static [u8],
}

/// The items between head and tail.
#[derive(Clone, Debug)]
pub(super) enum Items {
    Instances {
        pages: Pages<ListedInstance>,
        last_seen: bool,
    },
    /// The instances of these services.
    InstancesOf(Pages<ListedService>),
    Services(Pages<ListedService>),
    Addresses(Pages<ListedAddress>),
}

/// The parts of a document that are still to be read, in their order.
#[derive(Debug)]
pub(in crate::server) struct Parts {
    document: Document,
    stage: Stage,
    /// The next page, or for [`Items::InstancesOf`] the page of services, the service in it, and its page.
    at: [usize; 3],
    /// The next item of the page, if `last_seen` is included.
    item: usize,
    /// The rest of a page that is larger than a part.
    rest: Bytes,
    /// `true` until the first item, which has no comma before it.
    first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Items,
    End,
}

impl Document {
    /// The size of all parts, in bytes; `None` if counting would visit every service.
    pub(in crate::server) fn size(&self) -> Option<usize> {
        fn sum<T: Item>(pages: &Pages<T>) -> usize {
            pages.iter().map(|page| page.bytes()).sum()
        }
        let mut items = match &self.items {
            Items::Instances { pages, last_seen } => {
                let count: usize = pages.iter().map(|page| page.items.len()).sum();
                sum(pages) + if *last_seen { count * LAST_SEEN_BYTES } else { 0 }
            }
            Items::InstancesOf(_) => return None,
            Items::Services(pages) => sum(pages),
            Items::Addresses(pages) => sum(pages),
        };
        items = items.saturating_sub(1); // the comma before the first item
        Some(self.head.len() + items + self.tail.len())
    }

    /// Returns the parts, to be read one by one.
    pub(in crate::server) fn parts(self) -> Parts {
        Parts { document: self, stage: Stage::Head, at: [0; 3], item: 0, rest: Bytes::new(), first: true }
    }

    /// Returns all instances, with `last_seen`.
    pub(in crate::server) fn instances(&self) -> impl Iterator<Item = &ListedInstance> {
        let pages = match &self.items {
            Items::Instances { pages, .. } => Some(pages),
            _ => None,
        };
        pages
            .into_iter()
            .flat_map(|pages| pages.iter())
            .flat_map(|page| page.items.iter().map(|item| &**item))
    }

    /// Returns the whole document.
    #[cfg(test)]
    pub(super) fn bytes(self) -> Bytes {
        self.parts().flatten().collect::<Vec<u8>>().into()
    }
}

impl Parts {
    /// Returns `true` if dropping this may free many pages, which takes long.
    pub(in crate::server) fn takes_long_to_free(&self) -> bool {
        fn is_last<T>(pages: &Pages<T>) -> bool {
            Arc::strong_count(pages) == 1 && pages.len() > MANY_PAGES
        }
        match &self.document.items {
            Items::Instances { pages, .. } => is_last(pages),
            // The pages of each service are behind these: it is not looked at how many.
            Items::InstancesOf(pages) => Arc::strong_count(pages) == 1,
            Items::Services(pages) => is_last(pages),
            Items::Addresses(pages) => is_last(pages),
        }
    }

    /// Returns the next part of the items.
    fn next_items(&mut self) -> Option<Bytes> {
        match &self.document.items {
            Items::Instances { pages, last_seen: true } => {
                let page = pages.get(self.at[0])?;
                let mut json = Vec::new();
                // One item may exceed the part; it is then split.
                while json.len() < MAX_PART_BYTES
                    && let Some(item) = page.items.get(self.item)
                {
                    push_with_last_seen(&mut json, item);
                    self.item += 1;
                }
                if self.item == page.items.len() {
                    self.at[0] += 1;
                    self.item = 0;
                }
                Some(json.into())
            }
            Items::Instances { pages, .. } => next_page(pages, &mut self.at[0]),
            Items::Services(pages) => next_page(pages, &mut self.at[0]),
            Items::Addresses(pages) => next_page(pages, &mut self.at[0]),
            Items::InstancesOf(services) => next_of_services(services, &mut self.at),
        }
    }
}

impl Parts {
    /// Makes the next bytes if there are none; returns `false` at the end.
    fn fill(&mut self) -> bool {
        if !self.rest.is_empty() {
            return true;
        }
        self.rest = match self.stage {
            Stage::Head => {
                self.stage = Stage::Items;
                self.document.head.clone()
            }
            Stage::Items => match self.next_items() {
                Some(mut json) => {
                    if std::mem::take(&mut self.first) {
                        drop(json.split_to(1));
                    }
                    json
                }
                None => {
                    self.stage = Stage::End;
                    Bytes::from_static(self.document.tail)
                }
            },
            Stage::End => return false,
        };
        true
    }
}

impl Iterator for Parts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.fill() {
            return None;
        }
        let size = self.rest.len().min(MAX_PART_BYTES);
        let part = self.rest.split_to(size);
        if part.len() >= MIN_SHARED_BYTES {
            return Some(part);
        }
        // Small parts are joined: a short list is one part, and not three.
        let mut joined = Vec::from(part);
        while joined.len() < MAX_PART_BYTES && self.fill() && self.rest.len() < MIN_SHARED_BYTES {
            joined.extend_from_slice(&std::mem::take(&mut self.rest));
        }
        Some(joined.into())
    }
}

fn next_page<T: Item>(pages: &[Arc<Page<T>>], at: &mut usize) -> Option<Bytes> {
    let page = pages.get(*at)?;
    *at += 1;
    Some(page.json())
}

/// Returns the JSON of at least one page of instances. Services are often small, so that several share a part.
fn next_of_services(services: &[Arc<Page<ListedService>>], at: &mut [usize; 3]) -> Option<Bytes> {
    let mut joined = Vec::new();
    while let Some(page) = services.get(at[0]) {
        let Some(service) = page.items.get(at[1]) else {
            *at = [at[0] + 1, 0, 0];
            continue;
        };
        let Some(instances) = service.pages.get(at[2]) else {
            *at = [at[0], at[1] + 1, 0];
            continue;
        };
        if joined.is_empty() && instances.bytes() >= MAX_PART_BYTES / 2 {
            at[2] += 1;
            return Some(instances.json());
        }
        if joined.len() + instances.bytes() > MAX_PART_BYTES {
            break;
        }
        joined.extend_from_slice(&instances.json());
        at[2] += 1;
    }
    (!joined.is_empty()).then(|| joined.into())
}

/// Adds the instance with `last_seen` as its last field.
fn push_with_last_seen(json: &mut Vec<u8>, item: &ListedInstance) {
    let fields = item.json().strip_suffix(b"}").unwrap_or(item.json());
    json.push(b',');
    json.extend_from_slice(fields);
    json.extend_from_slice(b",\"last_seen\":\"");
    item.last_seen().push_to(json);
    json.extend_from_slice(b"\"}");
}
