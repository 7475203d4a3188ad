//! [`Readers`]: the lists and snapshots that are being sent, and the bound on the memory that only they hold.
//!
//! Readers share the store's pages. Pages that the store has replaced since are held by readers alone: past a bound, the
//! readers that have taken nothing for longest are ended, so that those who read are not hurt by those who do not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::store::{Document, Parts, Retained};

/// The maximum memory of replaced pages that readers hold in all, in bytes. Past it, readers are ended until half is
/// left.
pub(super) const MAX_RETAINED_BYTES: usize = 64 * 1024 * 1024;
/// The longest time in which a reader takes no part of its document.
const MAX_STALL: Duration = Duration::from_secs(60);

/// The documents that are being sent. Clones share them. There are no more than connections.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    table: Arc<Mutex<Table>>,
    retained: Retained,
    /// `true` while slow readers are being ended for another one.
    is_ending: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Table {
    readers: HashMap<u64, Arc<Mutex<Reader>>>,
    next: u64,
}

#[derive(Debug)]
struct Reader {
    /// `None` once the reader was ended.
    parts: Option<Parts>,
    /// The time of its last part.
    progressed: Instant,
}

/// A document on its way to its reader.
#[derive(Debug)]
pub(super) struct DocumentReader {
    readers: Readers,
    id: u64,
    reader: Arc<Mutex<Reader>>,
}

/// The reader was too slow, and was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader took too little of the list, and was ended")]
pub(super) struct ReaderEnded;

impl Readers {
    /// Creates an empty table; `retained` counts the store's replaced pages.
    pub(super) fn new(retained: Retained) -> Self {
        Self { table: Arc::default(), retained, is_ending: Arc::default() }
    }

    /// Begins to send a document. If too much memory is retained, slow readers are ended meanwhile.
    pub(super) fn open(&self, document: Document) -> DocumentReader {
        if self.retained.bytes() > MAX_RETAINED_BYTES && !self.is_ending.swap(true, Ordering::AcqRel) {
            let readers = self.clone();
            spawn_blocking(move || {
                readers.end_slow(Instant::now());
                readers.is_ending.store(false, Ordering::Release);
            });
        }
        let reader = Reader { parts: Some(document.parts()), progressed: Instant::now() };
        let reader = Arc::new(Mutex::new(reader));
        let mut table = lock(&self.table);
        let id = table.next;
        table.next += 1;
        table.readers.insert(id, Arc::clone(&reader));
        DocumentReader { readers: self.clone(), id, reader }
    }

    /// Ends readers that have stalled, and if too much memory is retained those that have stood still for longest;
    /// returns how many. Freeing what they held of large lists takes long: some 10 ms for 32 MiB.
    pub(super) fn end_slow(&self, now: Instant) -> usize {
        let mut slowest: Vec<_> = {
            let table = lock(&self.table);
            table.readers.values().map(|reader| (lock(reader).progressed, Arc::clone(reader))).collect()
        };
        slowest.sort_unstable_by_key(|(progressed, _)| *progressed);
        let too_much = self.retained.bytes() > MAX_RETAINED_BYTES;
        let mut ended = 0;
        for (progressed, reader) in slowest {
            let stalled = progressed + MAX_STALL <= now;
            let is_over = too_much && self.retained.bytes() > MAX_RETAINED_BYTES / 2;
            if !stalled && !is_over {
                break;
            }
            // Dropped here: the reader's own task is not polled while its connection accepts nothing.
            let parts = lock(&reader).parts.take();
            ended += usize::from(parts.is_some());
        }
        ended
    }
}

impl DocumentReader {
    /// Returns the next part; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Result<Bytes, ReaderEnded>> {
        let mut reader = lock(&self.reader);
        reader.progressed = Instant::now();
        match &mut reader.parts {
            Some(parts) => parts.next().map(Ok),
            None => Some(Err(ReaderEnded)),
        }
    }
}

/// Forgets a reader whose connection has ended, or who has everything.
impl Drop for DocumentReader {
    fn drop(&mut self) {
        lock(&self.readers.table).readers.remove(&self.id);
        let parts = lock(&self.reader).parts.take();
        if let Some(parts) = parts
            && parts.takes_long_to_free()
            && let Ok(runtime) = Handle::try_current()
        {
            // Other requests are answered meanwhile.
            runtime.spawn_blocking(move || drop(parts));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use farcall_discovery::Instance;
    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::super::store::{Claim, LeaseDefaults, Now, Store};
    use super::*;
    use crate::wire::{Patch, RegistrationToken};

    fn store() -> Store {
        let defaults = LeaseDefaults { ttl: Duration::from_secs(10), heartbeat: Duration::from_secs(3) };
        let mut store = Store::new("e".to_owned(), defaults, 10_000);
        for n in 0..500 {
            let address = format!("10.0.0.1:{}", 1000 + n).parse().unwrap();
            let metadata = [("k".to_owned(), "x".repeat(4000))].into_iter().collect();
            let instance = Instance::new("A", address).metadata(metadata);
            store.register(instance, Claim::Issued(RegistrationToken::random()), Now::read()).unwrap();
        }
        store
    }

    /// Changes every instance, so that a reader from before holds all pages alone.
    fn change_all(store: &mut Store, weight: u16) {
        for n in 0..500 {
            let id = format!("tcp@10.0.0.1:{}", 1000 + n);
            store.patch("A", &id, Patch::default().weight(weight)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_bound_those_that_stood_still_for_longest_are_ended() {
        let mut store = store();
        let readers = Readers::new(store.retained().clone());
        let mut open = Vec::new();
        for weight in 0..40 {
            let mut reader = readers.open(store.snapshot(Some("A")).1);
            reader.next().unwrap().unwrap();
            // The first one goes on reading.
            if let Some(first) = open.first_mut() {
                let _: Option<Result<Bytes, ReaderEnded>> = DocumentReader::next(first);
            }
            open.push(reader);
            while readers.is_ending.load(Ordering::Acquire) {
                yield_now().await;
            }
            change_all(&mut store, weight);
            advance(Duration::from_millis(10)).await;
            // One more version is held after `open`, which checks before it takes it.
            let of_one_version = 500 * 4400 * 3;
            assert!(store.retained().bytes() <= MAX_RETAINED_BYTES + of_one_version);
        }
        let ended: Vec<_> =
            open.iter_mut().map(|reader| reader.next().is_some_and(|part| part.is_err())).collect();
        assert!(!ended[0], "it reads");
        assert!(ended[1] && !ended[39], "{ended:?}");
    }

    #[tokio::test]
    async fn long_list_of_the_last_reader_is_freed_elsewhere() {
        let mut store = store();
        let readers = Readers::new(store.retained().clone());
        let takes_long =
            |reader: &DocumentReader| lock(&reader.reader).parts.as_ref().unwrap().takes_long_to_free();
        let reader = readers.open(store.snapshot(Some("A")).1);
        assert!(!takes_long(&reader), "the store has the same pages");
        change_all(&mut store, 7);
        assert!(takes_long(&reader) && store.retained().bytes() > 0);
        drop(reader);
        while store.retained().bytes() > 0 {
            // A thread for blocking work frees it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reader_that_takes_nothing_is_ended() {
        let store = store();
        let readers = Readers::new(store.retained().clone());
        let open = || readers.open(store.list("A", &Default::default()).document());
        let (mut idle, mut active) = (open(), open());
        advance(MAX_STALL / 2).await;
        active.next().unwrap().unwrap();
        advance(MAX_STALL / 2).await;
        assert_eq!(readers.end_slow(Instant::now()), 1);
        assert_eq!(idle.next(), Some(Err(ReaderEnded)));
        assert!(active.next().unwrap().is_ok());
        drop((idle, active));
        assert_eq!(lock(&readers.table).readers.len(), 0);
    }
}
