//! Pages: sorted like a map, immutable for readers, and balanced.

use proptest::prelude::*;

use super::super::page::{Item, MAX_PAGE_BYTES, MAX_PAGE_ITEMS};
use super::super::paged::Paged;
use super::*;

#[derive(Debug)]
struct Pair {
    key: String,
    json: String,
}

impl Item for Pair {
    fn key(&self) -> &str {
        &self.key
    }

    fn json(&self) -> &[u8] {
        self.json.as_bytes()
    }
}

fn pair(key: u16, size: usize) -> Arc<Pair> {
    Arc::new(Pair { key: format!("{key:05}"), json: "x".repeat(size) })
}

fn content(pages: &Pages<Pair>) -> Vec<(String, usize)> {
    let items = pages.iter().flat_map(|page| page.items.iter());
    items.map(|item| (item.key.clone(), item.json.len())).collect()
}

fn assert_balanced(pages: &Pages<Pair>) {
    for page in &**pages {
        let items = page.items.len();
        assert!(items > 0 && items <= MAX_PAGE_ITEMS);
        assert!(items == 1 || page.bytes() <= MAX_PAGE_BYTES);
        assert_eq!(page.json().len(), page.bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn pages_hold_what_a_map_holds(
        steps in prop::collection::vec((0..600_u16, prop::option::weighted(0.7, 1..9000_usize), any::<bool>()), 1..600),
    ) {
        let retained = Retained::default();
        let (mut paged, mut map) = (Paged::new(&retained), BTreeMap::new());
        let mut readers = Vec::new();
        for (key, size, reads) in steps {
            match size {
                Some(size) => {
                    paged.insert(pair(key, size));
                    map.insert(format!("{key:05}"), size);
                }
                None => {
                    let key = format!("{key:05}");
                    paged.remove(&key);
                    map.remove(&key);
                }
            }
            prop_assert_eq!(paged.get(&format!("{key:05}")).is_some(), size.is_some());
            if reads {
                readers.push((paged.pages(), map.clone()));
            }
        }
        readers.push((paged.pages(), map));
        for (pages, map) in &readers {
            prop_assert_eq!(content(pages), map.clone().into_iter().collect::<Vec<_>>());
            assert_balanced(pages);
        }
        drop(readers);
        prop_assert_eq!(retained.bytes(), 0, "all replaced pages are gone");
    }
}

#[test]
fn items_in_order_fill_their_pages() {
    let mut paged = Paged::new(&Retained::default());
    for key in 0..10_000 {
        paged.insert(pair(key, 100));
    }
    assert_eq!(paged.page_count(), 10_000_usize.div_ceil(MAX_PAGE_ITEMS));
    for key in 0..9_990 {
        paged.remove(&format!("{key:05}"));
    }
    assert!(paged.page_count() <= 2);
    assert_eq!(content(&paged.pages()).len(), 10);
}

#[test]
fn pages_that_are_too_large_for_one_stay_apart() {
    for size in [1, MAX_PAGE_BYTES / 4] {
        let mut paged = Paged::new(&Retained::default());
        for key in 0..300 {
            paged.insert(pair(key, size));
        }
        for key in (0..300).step_by(3) {
            paged.remove(&format!("{key:05}"));
            assert_balanced(&paged.pages());
        }
    }
}

#[test]
fn change_copies_one_page_of_those_that_readers_hold() {
    let mut paged = Paged::new(&Retained::default());
    for key in 0..10_000 {
        paged.insert(pair(key, 100));
    }
    let before = paged.pages();
    paged.insert(pair(5_000, 101));
    let after = paged.pages();
    let copied = before.iter().zip(&*after).filter(|(before, after)| !Arc::ptr_eq(before, after)).count();
    assert_eq!(copied, 1);
}
