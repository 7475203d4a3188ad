//! Waking the callers of many replies at the cost of waking one.

use std::future;
use std::sync::Arc;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(not(all(test, shuttle)))]
use tokio::task::yield_now;
use tokio_util::sync::ReusableBoxFuture;

#[cfg(all(test, shuttle))]
use super::models::steps::yield_now;

/// Wakes the callers of one read together, after their thread has run the other tasks that were ready.
///
/// A task that wakes several others makes the runtime wake another of its threads for them at
/// once, which for small replies costs more than the callers' work. Tasks that are woken in
/// a thread's turn for I/O and yielded tasks are scheduled together, and the callers
/// are mostly done before another thread is up.
pub(super) struct WakeBatch {
    pending: Arc<PendingWakers>,
    /// `pending` as a waker.
    waker: Waker,
    /// Wakes `pending`. Kept, since a dropped future wakes nothing.
    turn: ReusableBoxFuture<'static, ()>,
    /// `true` if some callers may not be woken yet.
    is_pending: bool,
}

impl WakeBatch {
    pub(super) fn new() -> Self {
        let pending = Arc::new(PendingWakers { wakers: Mutex::new(Vec::new()) });
        let waker = Waker::from(Arc::clone(&pending));
        Self { pending, waker, turn: ReusableBoxFuture::new(future::ready(())), is_pending: false }
    }

    /// Wakes the callers soon, and leaves `wakers` empty. Returns `true` if some are not woken yet: the thread
    /// may be kept busy, so [`WakeBatch::wake_pending`] has to be called in the end.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) -> bool {
        if wakers.len() <= 1 {
            // There is no batch to wait for.
            wakers.drain(..).for_each(Waker::wake);
            return false;
        }
        self.pending.lock().append(wakers);
        self.is_pending = true;
        self.turn.set(yield_now());
        if self.turn.poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.pending.wake_all();
        }
        true
    }

    /// Wakes the callers that are not woken yet.
    pub(super) fn wake_pending(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.pending.wake_all();
        }
    }
}

impl WakeBatch {
    /// Releases the memory for callers that were woken.
    pub(super) fn release_memory(&self) {
        self.pending.lock().shrink_to_fit();
    }
}

impl Drop for WakeBatch {
    /// Wakes the callers that are not woken yet, since no later turn of the connection will.
    fn drop(&mut self) {
        self.pending.wake_all();
    }
}

/// The callers to wake.
struct PendingWakers {
    /// At most one for each call in flight.
    wakers: Mutex<Vec<Waker>>,
}

impl PendingWakers {
    fn wake_all(&self) {
        // Taken out of the lock: a waker may run code that comes back here.
        let mut wakers = std::mem::take(&mut *self.lock());
        if wakers.is_empty() {
            return;
        }
        wakers.drain(..).for_each(Waker::wake);
        let mut pending = self.lock();
        if pending.capacity() == 0 {
            *pending = wakers;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for PendingWakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted(wakers: usize) -> (Arc<Counted>, Vec<Waker>) {
        let count = Arc::new(Counted(AtomicUsize::new(0)));
        let wakers = (0..wakers).map(|_| Waker::from(Arc::clone(&count))).collect();
        (count, wakers)
    }

    #[tokio::test]
    async fn several_callers_are_woken_after_ready_tasks() {
        let mut batch = WakeBatch::new();
        let (count, mut wakers) = counted(3);
        batch.wake(&mut wakers);
        assert!(wakers.is_empty());
        let (later, mut wakers) = counted(2);
        batch.wake(&mut wakers);
        while count.0.load(Ordering::SeqCst) < 3 || later.0.load(Ordering::SeqCst) < 2 {
            yield_now().await;
        }
        assert_eq!((count.0.load(Ordering::SeqCst), later.0.load(Ordering::SeqCst)), (3, 2));
    }

    #[tokio::test]
    async fn pending_callers_can_be_woken_on_a_busy_thread() {
        let mut batch = WakeBatch::new();
        let (count, mut wakers) = counted(3);
        assert!(batch.wake(&mut wakers));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        batch.wake_pending();
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn single_caller_is_woken_at_once() {
        let (count, mut wakers) = counted(1);
        WakeBatch::new().wake(&mut wakers);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn callers_are_woken_without_a_runtime_and_when_it_ends() {
        let (count, mut wakers) = counted(3);
        let mut batch = WakeBatch::new();
        batch.wake(&mut wakers);
        assert_eq!(count.0.load(Ordering::SeqCst), 3, "there is no runtime to yield to");

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (count, mut wakers) = counted(3);
        let ends = async move {
            let mut batch = batch;
            batch.wake(&mut wakers);
        };
        drop(runtime.spawn(ends));
        runtime.block_on(yield_now());
        drop(runtime);
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
    }
}
