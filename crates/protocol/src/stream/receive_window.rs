//! [`ReceiveWindow`]: the credit that a side grants for items that it receives.

use std::time::Duration;

use thiserror::Error;
use web_time::Instant;

use super::credit::item_cost;
use super::credit_times::CreditTimes;
use crate::limits::StreamWindow;
use crate::time::later;

/// The time without a starved item after which a window that has grown is halved.
const SHRINK_AFTER: Duration = Duration::from_secs(10);
/// The size in bytes beyond which a window grows only while that helps.
const UNCONDITIONAL_SIZE: u64 = 1024 * 1024;

/// The sizes of a receiver's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// The size at the start, and the smallest.
    pub initial: StreamWindow,
    /// The largest size.
    pub max: StreamWindow,
}

/// An item for which the sender had no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an item was sent although {spent} of {granted} had been spent")]
#[non_exhaustive]
pub struct CreditExceeded {
    /// The credit spent before the item.
    pub spent: u64,
    /// The credit granted.
    pub granted: u64,
}

/// The credit that the receiver of one direction of a stream grants.
///
/// The receiver holds at most what it granted and one item more. The window doubles when its sender had to wait although the
/// application had taken everything, and halves after 10 s in which no item had to.
///
/// Beyond 1 MiB it doubles only if the last window was consumed within twice the delay of the path, or within 1 ms. The delay is the shortest time
/// from a credit to the item that waited for it.
#[derive(Clone, Debug)]
pub struct ReceiveWindow {
    limits: WindowLimits,
    size: u64,
    granted: u64,
    received: u64,
    consumed: u64,
    /// `consumed` when the window last grew.
    grown_at: u64,
    /// The time from which [`SHRINK_AFTER`] counts; `None` if the window has its initial size.
    last_starved: Option<Instant>,
    times: CreditTimes,
}

impl ReceiveWindow {
    /// Creates the window of a stream that begins.
    #[must_use]
    pub const fn new(limits: WindowLimits) -> Self {
        let size = limits.initial.get() as u64;
        Self {
            limits,
            size,
            granted: size,
            received: 0,
            consumed: 0,
            grown_at: 0,
            last_starved: None,
            times: CreditTimes::new(),
        }
    }

    /// Accounts for an item that arrived at `now`. Returns the credit to send, if the window grew: `grow` gets the number
    /// of bytes that it would grow by, and returns `true` if there is room for them.
    ///
    /// # Errors
    ///
    /// The sender had no credit.
    pub fn receive(
        &mut self,
        body_len: usize,
        starved: bool,
        now: Instant,
        grow: impl FnOnce(usize) -> bool,
    ) -> Result<Option<u64>, CreditExceeded> {
        if self.received >= self.granted {
            return Err(CreditExceeded { spent: self.received, granted: self.granted });
        }
        let all_taken = self.held() == 0;
        if starved {
            self.times.starved_item(self.received, now);
        }
        self.received = self.received.saturating_add(item_cost(body_len));
        if !starved {
            return Ok(None);
        }
        if self.last_starved.is_some() {
            self.last_starved = Some(now);
        }
        let max = self.limits.max.get() as u64;
        let max = if self.times.is_window_short() { max } else { max.min(UNCONDITIONAL_SIZE) };
        let more = self.size.min(max.saturating_sub(self.size));
        let due = all_taken && more > 0 && self.consumed - self.grown_at >= self.size;
        if !due || !grow(more as usize) {
            return Ok(None);
        }
        self.size += more;
        self.grown_at = self.consumed;
        self.last_starved = Some(now);
        Ok(self.raise(|| now))
    }

    /// Accounts for items that arrived one after the other, of which none was starved. `cost` is that of all, `last` that
    /// of the last.
    ///
    /// # Errors
    ///
    /// The sender had no credit for the last.
    pub const fn receive_batch(&mut self, cost: u64, last: u64) -> Result<(), CreditExceeded> {
        let before_last = self.received.saturating_add(cost - last);
        if before_last >= self.granted {
            return Err(CreditExceeded { spent: before_last, granted: self.granted });
        }
        self.received = self.received.saturating_add(cost);
        Ok(())
    }

    /// Accounts for items of this cost that were handed to the application. Returns the credit to send, if half of the
    /// window was consumed since the last. `now` is called if so.
    pub fn consume(&mut self, cost: u64, now: impl FnOnce() -> Instant) -> Option<u64> {
        self.consumed = self.consumed.saturating_add(cost);
        if self.until_credit() > 0 { None } else { self.raise(now) }
    }

    /// Returns the cost of the items after which credit has to be sent; 0 if it has to be sent now.
    #[must_use]
    pub const fn until_credit(&self) -> u64 {
        let unannounced = self.consumed.saturating_add(self.size).saturating_sub(self.granted);
        self.size.div_ceil(2).saturating_sub(unannounced)
    }

    fn raise(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        let limit = self.consumed.saturating_add(self.size);
        if limit <= self.granted {
            return None;
        }
        let before = std::mem::replace(&mut self.granted, limit);
        self.times.credit(before, limit, self.received, now());
        Some(limit)
    }

    /// Returns `true` if the sender has credit for another item.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.received < self.granted
    }

    /// Returns the cost of the items that were received and not yet consumed.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.received - self.consumed
    }

    /// Returns the bytes to reserve: what the sender may have sent, or may send, before it waits. What one item is larger
    /// than its credit is not in it.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        let outstanding = self.granted.saturating_sub(self.consumed);
        if outstanding > self.size { outstanding } else { self.size }
    }

    /// Returns the size of the window in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the time at which [`ReceiveWindow::shrink`] is due; `None` if the window has its initial size.
    #[must_use]
    pub fn shrink_at(&self) -> Option<Instant> {
        self.last_starved.map(|starved| later(starved, SHRINK_AFTER))
    }

    /// Halves the window if no item was starved for 10 s. What was granted stays granted: less is granted from now on.
    /// Returns the number of bytes that it lost, for the connection's growth.
    pub fn shrink(&mut self, now: Instant) -> usize {
        if self.shrink_at().is_none_or(|due| now < due) {
            return 0;
        }
        let initial = self.limits.initial.get() as u64;
        let smaller = (self.size / 2).max(initial);
        let lost = self.size - smaller;
        self.size = smaller;
        self.last_starved = (smaller > initial).then_some(now);
        lost as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const BODY: usize = KIB - 64;

    fn window() -> ReceiveWindow {
        ReceiveWindow::new(WindowLimits {
            initial: StreamWindow::new(4 * KIB),
            max: StreamWindow::new(16 * KIB),
        })
    }

    fn pass(window: &mut ReceiveWindow, starved: bool, now: Instant, grow: bool) -> [Option<u64>; 2] {
        let grown = window.receive(BODY, starved, now, |_| grow).unwrap();
        [grown, window.consume(item_cost(BODY), || now)]
    }

    #[test]
    fn item_without_credit_is_an_error() {
        let (mut window, now) = (window(), Instant::now());
        for _ in 0..4 {
            window.receive(BODY, false, now, |_| true).unwrap();
        }
        let error = window.receive(0, false, now, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "an item was sent although 4096 of 4096 had been spent");
        assert_eq!(window.held(), 4096);
    }

    #[test]
    fn credit_is_sent_when_half_of_the_window_was_consumed() {
        let (mut window, now) = (window(), Instant::now());
        assert_eq!(pass(&mut window, false, now, true), [None, None]);
        assert_eq!(pass(&mut window, false, now, true), [None, Some(6 * 1024)]);
        assert_eq!(pass(&mut window, false, now, true), [None, None]);
        assert_eq!(pass(&mut window, false, now, true), [None, Some(8 * 1024)]);
    }

    #[test]
    fn item_larger_than_the_window_passes() {
        let (mut window, now) = (window(), Instant::now());
        window.receive(100 * KIB, false, now, |_| true).unwrap();
        window.receive(0, false, now, |_| true).unwrap_err();
        assert_eq!(window.consume(item_cost(100 * KIB), || now), Some(100 * 1024 + 64 + 4096));
    }

    #[test]
    fn window_grows_once_for_each_window_that_was_consumed_and_starved() {
        let (mut window, now) = (window(), Instant::now());
        for _ in 0..4 {
            assert_eq!(pass(&mut window, true, now, true)[0], None);
            assert_eq!(window.size(), 4096);
        }
        assert_eq!(pass(&mut window, true, now, true)[0], Some(4096 + 2 * 4096));
        for _ in 0..20 {
            pass(&mut window, true, now, true);
        }
        assert_eq!(window.size(), 16 * 1024);
    }

    #[test]
    fn window_without_room_does_not_grow() {
        let (mut window, now) = (window(), Instant::now());
        for _ in 0..20 {
            pass(&mut window, true, now, false);
        }
        assert_eq!(window.size(), 4096);
    }

    #[test]
    fn window_does_not_grow_while_items_wait_for_the_application() {
        let (mut window, now) = (window(), Instant::now());
        window.receive(BODY, true, now, |_| true).unwrap();
        for _ in 0..20 {
            window.receive(BODY, true, now, |_| true).unwrap();
            window.consume(item_cost(BODY), || now);
        }
        assert_eq!(window.size(), 4096);
    }

    #[test]
    fn window_is_halved_after_10_s_without_starving() {
        let (mut window, now) = (window(), Instant::now());
        for _ in 0..20 {
            pass(&mut window, true, now, true);
        }
        assert_eq!(window.shrink(now + Duration::from_secs(9)), 0);
        assert_eq!(window.shrink(now + Duration::from_secs(10)), 8 * KIB);
        let granted = window.reserved();
        assert!(granted > 8 * 1024, "what was granted stays reserved: {granted}");
        assert_eq!(window.shrink(now + Duration::from_secs(19)), 0);
        assert_eq!(window.shrink(now + Duration::from_secs(20)), 4 * KIB);
        assert_eq!(window.shrink_at(), None);
        let mut credits = 0;
        for _ in 0..16 {
            credits += usize::from(pass(&mut window, false, now, true)[1].is_some());
        }
        assert!(credits > 0 && window.reserved() < 8 * 1024);
    }

    /// Passes items of 64 KiB from a sender at this distance, each of which takes this time, to an application that takes
    /// them at once. Every seventh credit is 10 ms late. Returns the size of the window.
    fn grow_at(delay: Duration, item: Duration) -> u64 {
        let initial = StreamWindow::new(64 * KIB);
        let mut window =
            ReceiveWindow::new(WindowLimits { initial, max: StreamWindow::new(16 * 1024 * KIB) });
        let mut credits = std::collections::VecDeque::new();
        let mut number = 0;
        let (mut limit, mut now, mut starved) = (window.granted, Instant::now(), false);
        for _ in 0..5000 {
            // The sender knows of the credits that have reached it.
            while credits.front().is_some_and(|(known, _)| *known <= now) {
                limit = credits.pop_front().unwrap().1;
            }
            if window.received >= limit {
                let (known, granted) = credits.pop_front().unwrap();
                (now, limit, starved) = (known, granted, true);
            }
            now += item;
            let grown = window.receive(64 * KIB - 64, std::mem::take(&mut starved), now, |_| true).unwrap();
            let due = window.consume(64 * 1024, || now);
            for granted in grown.into_iter().chain(due) {
                number += 1;
                let late = if number % 7 == 0 { Duration::from_millis(10) } else { Duration::ZERO };
                credits.push_back((now + delay + late, granted));
            }
        }
        window.size()
    }

    #[test]
    fn window_grows_beyond_1_mib_only_while_that_helps() {
        let micros = Duration::from_micros;
        // 655 MB/s: 1 MiB takes 1.6 ms.
        assert_eq!(grow_at(micros(50), micros(100)), 1024 * 1024);
        // 3.3 GB/s: 2 MiB take 0.64 ms.
        assert_eq!(grow_at(micros(200), micros(20)), 4 * 1024 * 1024);
        // 33 MB/s and 50 ms: 1.6 MB are on the way.
        assert_eq!(grow_at(micros(50_000), micros(2000)), 4 * 1024 * 1024);
        assert_eq!(grow_at(micros(50_000), micros(100)), 16 * 1024 * 1024);
    }

    #[test]
    fn window_is_open_up_to_the_last_byte_of_credit() {
        let (mut window, now) = (window(), Instant::now());
        window.receive(4 * KIB - 65, false, now, |_| true).unwrap();
        assert_eq!((window.is_open(), window.held()), (true, 4095));
        window.receive_batch(64, 64).unwrap();
        assert!(!window.is_open());
        let error = window.receive_batch(128, 64).unwrap_err();
        assert_eq!(error, CreditExceeded { spent: 4095 + 64 + 64, granted: 4096 });
    }

    #[test]
    fn batch_may_only_end_beyond_its_credit() {
        // The last item alone may go beyond, as a single one may.
        let mut one_left = window();
        one_left.receive_batch(4095 + 1000, 1000).unwrap();
        let mut none_left = window();
        let error = none_left.receive_batch(4096 + 1000, 1000).unwrap_err();
        assert_eq!(error, CreditExceeded { spent: 4096, granted: 4096 });
    }
}
