//! Waking many callers at the cost of waking few.

use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::task::yield_now;
use tokio_util::sync::ReusableBoxFuture;

/// Wakes the callers of one read when their thread has run whatever else was ready.
///
/// A task that wakes several others makes the runtime wake another of its threads for them at
/// once, which for small answers costs more than all the callers do with them. What is woken in
/// a thread's turn for I/O and for those who yielded is looked at as a whole, and the callers
/// are mostly done before another thread is up.
pub(super) struct WakeTogether {
    due: Arc<Due>,
    /// `due` as a waker.
    waker: Waker,
    /// Wakes `due`. Kept, since a future that is dropped owes nobody a wake-up.
    turn: ReusableBoxFuture<'static, ()>,
}

impl WakeTogether {
    pub(super) fn new() -> Self {
        let due = Arc::new(Due { wakers: Mutex::new(Vec::new()) });
        let waker = Waker::from(Arc::clone(&due));
        Self { due, waker, turn: ReusableBoxFuture::new(future::ready(())) }
    }

    /// Wakes them soon, and leaves `wakers` empty. Whether some have still to be woken: the thread
    /// may be kept busy, so that [`WakeTogether::wake_due`] is to be called in the end.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) -> bool {
        if wakers.len() <= 1 {
            // Nobody to share with, so nothing to wait for.
            wakers.drain(..).for_each(Waker::wake);
            return false;
        }
        self.due.lock().append(wakers);
        self.turn.set(yield_now());
        if self.turn.poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.due.wake_all();
        }
        true
    }

    /// Wakes whoever has still to be woken.
    pub(super) fn wake_due(&self) {
        self.due.wake_all();
    }
}

impl Drop for WakeTogether {
    fn drop(&mut self) {
        self.due.wake_all();
    }
}

/// Those who are to be woken.
struct Due {
    /// At most one for each call in flight.
    wakers: Mutex<Vec<Waker>>,
}

impl Due {
    fn wake_all(&self) {
        // Taken out: what a waker runs may come back here.
        let mut wakers = std::mem::take(&mut *self.lock());
        if wakers.is_empty() {
            return;
        }
        wakers.drain(..).for_each(Waker::wake);
        let mut due = self.lock();
        if due.capacity() == 0 {
            *due = wakers;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Due {
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
    async fn several_are_woken_once_what_is_ready_has_run() {
        let mut together = WakeTogether::new();
        let (count, mut wakers) = counted(3);
        together.wake(&mut wakers);
        assert!(wakers.is_empty());
        let (later, mut wakers) = counted(2);
        together.wake(&mut wakers);
        while count.0.load(Ordering::SeqCst) < 3 || later.0.load(Ordering::SeqCst) < 2 {
            yield_now().await;
        }
        assert_eq!((count.0.load(Ordering::SeqCst), later.0.load(Ordering::SeqCst)), (3, 2));
    }

    #[tokio::test]
    async fn on_a_thread_that_is_kept_busy_whoever_is_due_can_be_woken() {
        let mut together = WakeTogether::new();
        let (count, mut wakers) = counted(3);
        assert!(together.wake(&mut wakers));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        together.wake_due();
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn one_is_woken_at_once() {
        let (count, mut wakers) = counted(1);
        WakeTogether::new().wake(&mut wakers);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn without_a_runtime_and_where_it_ends_nobody_is_forgotten() {
        let (count, mut wakers) = counted(3);
        let mut together = WakeTogether::new();
        together.wake(&mut wakers);
        assert_eq!(count.0.load(Ordering::SeqCst), 3, "there is nobody to yield to");

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (count, mut wakers) = counted(3);
        let ends = async move {
            let mut together = together;
            together.wake(&mut wakers);
        };
        drop(runtime.spawn(ends));
        runtime.block_on(yield_now());
        drop(runtime);
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
    }
}
