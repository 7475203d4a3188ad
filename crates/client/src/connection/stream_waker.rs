//! [`StreamWaker`]: tells the task of a connection that its stream has woken it, not a caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// The waker that a connection's stream gets. A task that only its callers have woken need not ask the stream for bytes
/// that it would have been woken for.
#[derive(Debug)]
pub(super) struct StreamWaker {
    target: Arc<Target>,
    /// `target` as a waker.
    waker: Waker,
}

/// The task that is woken.
#[derive(Debug)]
struct Target {
    woken: AtomicBool,
    task: Waker,
}

impl StreamWaker {
    /// Creates the waker of a stream that has not been polled by this task.
    pub(super) fn new(task: &Waker) -> Self {
        let target = Arc::new(Target { woken: AtomicBool::new(true), task: task.clone() });
        let waker = Waker::from(Arc::clone(&target));
        Self { target, waker }
    }

    /// Wakes this task from now on. The stream has to be polled if it is another one than before: it has the waker of
    /// that one.
    #[inline]
    pub(super) fn set_task(&mut self, task: &Waker) {
        if !self.target.task.will_wake(task) {
            *self = Self::new(task);
        }
    }

    /// Returns the waker for the stream.
    #[inline]
    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Returns `true` if the stream has woken the task since this was called last, or has never been polled by it.
    #[inline]
    pub(super) fn take_woken(&self) -> bool {
        // The swap is paid for by those turns only that the stream has caused. It sees what the stream did before it woke.
        self.target.woken.load(Ordering::Relaxed) && self.target.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before the task is woken, which may run at once.
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::<Task>::default();
        (Arc::clone(&task), Waker::from(task))
    }

    #[test]
    fn stream_is_polled_first_and_when_it_has_woken_its_task() {
        let (task, waker) = task();
        let mut stream = StreamWaker::new(&waker);
        assert!(stream.take_woken());
        stream.set_task(&waker);
        assert!(!stream.take_woken());
        waker.wake_by_ref();
        assert!(!stream.take_woken(), "a caller has woken it");
        stream.waker().wake_by_ref();
        stream.waker().wake_by_ref();
        assert!(stream.take_woken());
        assert!(!stream.take_woken());
        assert_eq!(task.0.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn another_task_polls_the_stream_and_is_woken_by_it() {
        let ((first, one), (second, other)) = (task(), task());
        let mut stream = StreamWaker::new(&one);
        stream.take_woken();
        stream.set_task(&other);
        assert!(stream.take_woken(), "the stream has the waker of the first task");
        stream.waker().wake_by_ref();
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
    }
}
