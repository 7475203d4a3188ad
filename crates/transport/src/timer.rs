//! [`Timer`]: a connection's timer, which its task asks at each turn and which seldom expires.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use farcall_runtime::time::{Instant, Sleep, sleep_until};
use tokio::task::coop::unconstrained;

/// A timer for tasks that are woken far more often than it expires: between that, a poll costs two comparisons.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::time::Duration;
///
/// use farcall_transport::Timer;
/// use tokio::time::Instant;
///
/// let begin = Instant::now();
/// let mut timer = Timer::new(begin + Duration::from_secs(7));
/// std::future::poll_fn(|cx| timer.poll(cx)).await;
/// assert_eq!(begin.elapsed(), Duration::from_secs(7));
/// # }
/// ```
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// The waker that the runtime wakes when it expires; `None` if that has to be registered.
    registered: Option<Waker>,
}

impl Timer {
    /// Creates a timer that expires at `deadline`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)), registered: None }
    }

    /// Returns when it expires.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Sets when it expires. It has to be polled afterwards.
    pub fn reset(&mut self, deadline: Instant) {
        // If it expired meanwhile, the runtime has no waker any more.
        self.registered = None;
        self.sleep.as_mut().reset(deadline);
    }

    /// Ready when it has expired; otherwise the task is woken when it does.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_registered = self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && !self.sleep.is_elapsed() { Poll::Pending } else { self.register(cx) }
    }

    #[inline(never)]
    fn register(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Without a budget, it is registered whenever it is not ready.
        let polled = pin!(unconstrained(self.sleep.as_mut())).poll(cx);
        self.registered = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    #[tokio::test(start_paused = true)]
    async fn last_task_that_polled_is_woken() {
        let mut timer = Timer::new(Instant::now() + SECOND);
        let ((first, one), (second, other)) = (task(), task());
        for waker in [&one, &one, &other, &other] {
            assert!(timer.poll(&mut Context::from_waker(waker)).is_pending());
        }
        advance(2 * SECOND).await;
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
        assert!(timer.poll(&mut Context::from_waker(&other)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_is_reset_wakes_its_task_again() {
        let begin = Instant::now();
        let mut timer = Timer::new(begin + 9 * SECOND);
        let (woken, waker) = task();
        let mut cx = Context::from_waker(&waker);
        for seconds in [5, 1, 3] {
            assert!(timer.poll(&mut cx).is_pending());
            timer.reset(begin + seconds * SECOND);
        }
        assert!(timer.poll(&mut cx).is_pending());
        advance(3 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        // Before its task saw that it has expired.
        timer.reset(begin + 7 * SECOND);
        assert!(timer.poll(&mut cx).is_pending());
        advance(4 * SECOND).await;
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        assert!(timer.poll(&mut cx).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn task_without_budget_is_woken_when_it_expires() {
        let begin = Instant::now();
        let mut timer = Timer::new(begin + SECOND);
        poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            timer.poll(cx)
        })
        .await;
        assert_eq!(begin.elapsed(), SECOND);
    }
}
