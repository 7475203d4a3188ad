//! The clock and the timers of the page.
//!
//! The clock is `performance.now()`, which stands still on some systems while the machine sleeps. Timers are those of
//! `setTimeout`: at least 1 ms, at least 4 ms where they are nested, and at least 1 s in a page that is hidden.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
pub use std::time::Duration;

use gloo_timers::future::TimeoutFuture;
use pin_project_lite::pin_project;
use send_wrapper::SendWrapper;

/// The longest time for which one timer is set; those of a browser take 31 bits of milliseconds.
const MAX_TIMER: Duration = Duration::from_secs(24 * 3600);

/// A point in time on the clock of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(web_time::Instant);

impl Instant {
    /// Returns the time now.
    pub fn now() -> Instant {
        Instant(web_time::Instant::now())
    }

    /// Wraps an instant of the same clock.
    pub fn from_std(instant: web_time::Instant) -> Instant {
        Instant(instant)
    }

    /// Returns the instant that it wraps.
    pub fn into_std(self) -> web_time::Instant {
        self.0
    }

    /// Returns the time since then; zero if it is in the future.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(*self)
    }

    /// Returns the time since `earlier`; zero if that is later.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the time since `earlier`; zero if that is later.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the time since `earlier`; `None` if that is later.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// Adds a duration; `None` if the clock does not reach so far.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    /// Subtracts a duration; `None` if the clock does not reach so far back.
    pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(duration).map(Instant)
    }
}

impl From<web_time::Instant> for Instant {
    fn from(instant: web_time::Instant) -> Instant {
        Instant::from_std(instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0 - duration)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

/// Waits for a duration.
pub fn sleep(duration: Duration) -> Sleep {
    // Beyond what the clock reaches, as far as it surely does.
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    sleep_until(Instant::now().checked_add(duration).unwrap_or_else(|| Instant::now() + FAR))
}

/// Waits until a point in time.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// Waits until its deadline. It is set to the timers of the page by its first poll.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<SendWrapper<TimeoutFuture>>,
}

impl Sleep {
    /// Returns the point in time until which it waits.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns `true` if that has come.
    pub fn is_elapsed(&self) -> bool {
        self.deadline <= Instant::now()
    }

    /// Waits until another point in time, even if it had ended before.
    pub fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        *self = sleep_until(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.timer = None;
                return Poll::Ready(());
            }
            let timer =
                self.timer.get_or_insert_with(|| SendWrapper::new(TimeoutFuture::new(milliseconds(left))));
            ready!(Pin::new(&mut **timer).poll(cx));
            // A timer may come a moment early, or have been set for a part of the time.
            self.timer = None;
        }
    }
}

/// Returns a duration as a timer takes it: rounded up, and at most a day.
fn milliseconds(duration: Duration) -> u32 {
    let rounded = duration.min(MAX_TIMER) + Duration::from_nanos(999_999);
    u32::try_from(rounded.as_millis()).unwrap_or(u32::MAX)
}

/// Awaits a future for a limited time.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(limit) }
}

/// Awaits a future until a point in time.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline) }
}

pin_project! {
    /// A future with a limit of time.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, error::Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(error::Elapsed))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("sleep", &self.sleep).finish_non_exhaustive()
    }
}

/// The errors of timers.
pub mod error {
    use std::fmt;

    /// The time of a [`timeout`](super::timeout) is over.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Elapsed;

    impl fmt::Display for Elapsed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the time is over")
        }
    }

    impl std::error::Error for Elapsed {}
}
