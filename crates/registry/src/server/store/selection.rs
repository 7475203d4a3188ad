//! [`Selection`]: selects the instances of a list by its filter, in parts; and [`Addresses`], the simple list.
//!
//! Both work on pages that were taken from the store, without its lock. What a page selects is kept with the page, so
//! that after a change one page is filtered again.

use std::sync::Arc;

use farcall_discovery::AdvertisedState;

use super::document::{Document, Items};
use super::listed::{ListedAddress, ListedInstance};
use super::page::{Page, ViewKey};
use super::paged::Pages;
use crate::wire;

/// Pages that are filtered before other tasks may run: some 4,000 instances.
const PAGES_PER_STEP: usize = 32;
/// The maximum size of the header `X-Farcall-Servers`, its name and separators included, in bytes: many proxies refuse
/// heads over one page of memory, and the other headers need room.
const MAX_HEADER_BYTES: usize = 2 * 1024;

/// The instances that a list request selects, and their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct ListFilter {
    /// Only the instances of this zone; all if `None`.
    pub(in crate::server) zone: Option<String>,
    /// `true` to include stale instances even if others are up.
    pub(in crate::server) stale: bool,
    /// `true` to include `last_seen`. Heartbeats change it, so it is serialized for each reader.
    pub(in crate::server) last_seen: bool,
}

/// A list whose instances are being selected.
#[derive(Debug)]
pub(in crate::server) struct Selection {
    document: Document,
    pages: Pages<ListedInstance>,
    /// The filters that are still to be applied, the last one first.
    passes: Vec<ViewKey>,
    /// The next page of the current pass, and what was selected before it.
    at: usize,
    selected: Vec<Arc<Page<ListedInstance>>>,
    keep_stale: bool,
    /// `true` if an instance of the selected zone serves, and if one is stale.
    serving: bool,
    stale: bool,
}

impl Selection {
    /// Begins the selection; `serving` and `stale` are the numbers of instances in these states.
    pub(super) fn new(
        document: Document,
        pages: Pages<ListedInstance>,
        filter: &ListFilter,
        (serving, stale): (usize, usize),
    ) -> Self {
        let mut passes = Vec::new();
        match &filter.zone {
            Some(zone) => passes.push(ViewKey::Zone(zone.clone())),
            None if !filter.stale && serving > 0 && stale > 0 => passes.push(ViewKey::NotStale),
            None => {}
        }
        Self {
            document,
            pages,
            passes,
            at: 0,
            selected: Vec::new(),
            keep_stale: filter.stale,
            serving: false,
            stale: false,
        }
    }

    /// Filters some of the pages; returns `true` if none are left.
    pub(in crate::server) fn step(&mut self) -> bool {
        let Some(pass) = self.passes.last() else { return true };
        let end = self.pages.len().min(self.at + PAGES_PER_STEP);
        for page in &self.pages[self.at..end] {
            let view = match pass {
                ViewKey::Zone(zone) => {
                    page.view(pass, |listed| listed.public().instance.zone.as_ref() == Some(zone))
                }
                ViewKey::NotStale => page.view(pass, |listed| listed.state() != AdvertisedState::Stale),
            };
            if matches!(pass, ViewKey::Zone(_)) {
                self.serving = self.serving || view.items.iter().any(|listed| listed.is_serving());
                self.stale =
                    self.stale || view.items.iter().any(|listed| listed.state() == AdvertisedState::Stale);
            }
            if !view.items.is_empty() {
                self.selected.push(view);
            }
        }
        self.at = end;
        if self.at < self.pages.len() {
            return false;
        }
        let was_zone = matches!(self.passes.pop(), Some(ViewKey::Zone(_)));
        self.pages = Arc::new(std::mem::take(&mut self.selected));
        self.at = 0;
        if was_zone && self.serving && self.stale && !self.keep_stale {
            self.passes.push(ViewKey::NotStale);
        }
        self.passes.is_empty()
    }

    /// Returns the list, after the last step.
    pub(in crate::server) fn document(mut self) -> Document {
        if let Items::Instances { pages, .. } = &mut self.document.items {
            *pages = self.pages;
        }
        self.document
    }
}

/// The addresses that the simple interface returns, sorted.
#[derive(Debug)]
pub(in crate::server) struct Addresses {
    /// The number of addresses.
    pub(in crate::server) count: usize,
    /// The addresses separated by commas; `None` if they are too long for a header.
    pub(in crate::server) header: Option<String>,
    /// The addresses as a JSON array.
    pub(in crate::server) body: Document,
}

impl Addresses {
    pub(in crate::server) fn new(pages: Pages<ListedAddress>) -> Self {
        let mut header = Some(String::new());
        for listed in pages.iter().flat_map(|page| &page.items) {
            let Some(line) = &mut header else { break };
            if !line.is_empty() {
                line.push(',');
            }
            line.push_str(&listed.address);
            if wire::SERVERS.len() + ": \r\n".len() + line.len() > MAX_HEADER_BYTES {
                header = None;
            }
        }
        Self {
            count: pages.iter().map(|page| page.items.len()).sum(),
            header,
            body: Document { head: "[".into(), items: Items::Addresses(pages), tail: b"]" },
        }
    }
}
