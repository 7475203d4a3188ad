//! [`HangUpCheck`]: notices that the peer of a stream has left while nothing is read from it.
//!
//! hyper does not read while a response is being made and the bytes of another request are there already. The end of the
//! stream stays behind those, and what waits for an event, such as a long poll, would keep its place for as long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The time between two checks. It begins with the first flush at which nothing is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// The checks of one stream.
#[derive(Debug)]
pub(crate) struct HangUpCheck<S> {
    /// Returns `true` once the peer has closed the stream. `None` if that cannot be told.
    has_left: Option<fn(&S) -> bool>,
    /// `true` while a read waits for data: it tells the end by itself.
    is_reading: bool,
    /// Runs on when reading goes on: it is set once in an interval, however many requests there are.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> HangUpCheck<S> {
    pub(crate) const fn new(has_left: Option<fn(&S) -> bool>) -> Self {
        Self { has_left, is_reading: false, timer: None }
    }

    /// Notes the outcome of a read.
    pub(crate) const fn read<T>(&mut self, read: &Poll<T>) {
        self.is_reading = read.is_pending();
    }

    /// Returns `true` if the peer has left and no read tells so. Otherwise the task is woken for the next check.
    pub(crate) fn poll(&mut self, stream: &S, cx: &mut Context<'_>) -> bool {
        let Some(has_left) = self.has_left else { return false };
        loop {
            if self.is_reading && self.timer.is_none() {
                return false;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(INTERVAL)));
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.timer = None;
            if !self.is_reading && has_left(stream) {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

    use super::*;

    /// Polls once in each wake-up until the peer has left; returns the time until then.
    async fn left_after(check: &mut HangUpCheck<bool>, stream: bool) -> Duration {
        let began = Instant::now();
        poll_fn(|cx| if check.poll(&stream, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_has_left_is_noticed_though_nothing_is_read() {
        let mut check = HangUpCheck::new(Some(|left: &bool| *left));
        check.read(&Poll::Ready(()));
        let staying = timeout(INTERVAL * 100, left_after(&mut check, false)).await;
        staying.expect_err("it is there");
        assert!(left_after(&mut check, true).await <= INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_tells_the_end_by_itself() {
        let mut check = HangUpCheck::new(Some(|left: &bool| *left));
        check.read(&Poll::<()>::Pending);
        timeout(INTERVAL * 100, left_after(&mut check, true)).await.expect_err("the read ends");
        assert!(check.timer.is_none(), "an idle connection is not woken");
    }

    #[tokio::test(start_paused = true)]
    async fn timer_is_set_once_in_an_interval() {
        let mut check = HangUpCheck::new(Some(|left: &bool| *left));
        for _ in 0..10 {
            check.read(&Poll::Ready(()));
            let brief = timeout(INTERVAL / 20, left_after(&mut check, false)).await;
            brief.expect_err("it is there");
            check.read(&Poll::<()>::Pending);
        }
        let began = Instant::now();
        check.read(&Poll::Ready(()));
        left_after(&mut check, true).await;
        assert_eq!(began.elapsed(), INTERVAL / 2);
    }
}
