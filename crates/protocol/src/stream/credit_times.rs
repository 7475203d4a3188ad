//! [`CreditTimes`]: what the times of its credits tell a receiver of the path to the sender.

use std::time::Duration;

use web_time::Instant;

/// Shorter delays of a path, there and back, count as this one: a thread may be late for as long.
const MIN_DELAY: Duration = Duration::from_micros(500);

/// The times of the credits of one stream.
///
/// A sender that waits for credit is idle for the delay of the path in each window. A larger window helps as long as the
/// window passes in about that time; beyond, it only puts more bytes in front of whatever else the connection
/// carries.
#[derive(Clone, Debug)]
pub(super) struct CreditTimes {
    /// The times of the last credit and of the one before it, between which half of a window was consumed.
    sent: [Option<Instant>; 2],
    /// The time in which the last window was consumed.
    window: Option<Duration>,
    pending: Option<PendingCredit>,
    /// The shortest time from a credit to the item that waited for it.
    delay: Option<Duration>,
}

/// A credit that no item has needed yet.
#[derive(Clone, Copy, Debug)]
struct PendingCredit {
    /// The limit before it.
    before: u64,
    limit: u64,
    sent: Instant,
}

impl CreditTimes {
    pub(super) const fn new() -> Self {
        Self { sent: [None; 2], window: None, pending: None, delay: None }
    }

    /// Notes that the limit is raised, after items of the cost `received`.
    pub(super) fn credit(&mut self, before: u64, limit: u64, received: u64, now: Instant) {
        self.window = self.sent[1].map(|sent| now.saturating_duration_since(sent));
        self.sent = [Some(now), self.sent[0]];
        if self.pending.is_none_or(|pending| pending.limit <= received) {
            self.pending = Some(PendingCredit { before, limit, sent: now });
        }
    }

    /// Notes that an item that had waited arrived, after others of the cost `received`.
    pub(super) fn starved_item(&mut self, received: u64, now: Instant) {
        let Some(pending) = self.pending.filter(|pending| pending.before <= received) else { return };
        self.pending = None;
        // If not, a later credit let this item through.
        if received < pending.limit {
            let delay = now.saturating_duration_since(pending.sent);
            self.delay = Some(self.delay.map_or(delay, |shortest| shortest.min(delay)));
        }
    }

    /// Returns `true` if the last window was consumed within twice the delay.
    pub(super) fn is_window_short(&self) -> bool {
        let delays = self.window.zip(self.delay);
        delays.is_some_and(|(window, delay)| window <= delay.max(MIN_DELAY) * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn delay_is_that_of_the_credit_that_let_the_item_through() {
        let (mut times, start) = (CreditTimes::new(), Instant::now());
        times.credit(100, 150, 0, start);
        times.credit(150, 200, 149, start + millis(49));
        times.starved_item(149, start + millis(50));
        assert_eq!(times.delay, Some(millis(50)));
        // An item that came without a wait had used the credit; the next one is timed.
        times.credit(200, 250, 160, start + millis(60));
        times.credit(250, 300, 260, start + millis(70));
        times.starved_item(260, start + millis(110));
        assert_eq!(times.delay, Some(millis(40)));
        // A credit that the item did not need says nothing.
        times.credit(300, 350, 260, start + millis(120));
        times.starved_item(299, start + millis(121));
        assert_eq!(times.delay, Some(millis(40)));
    }

    #[test]
    fn window_is_short_up_to_twice_the_delay() {
        for (delay, window, short) in [(20, 40, true), (20, 41, false), (0, 1, true), (0, 2, false)] {
            let (mut times, start) = (CreditTimes::new(), Instant::now());
            assert!(!times.is_window_short(), "nothing is known");
            times.credit(100, 150, 0, start);
            times.starved_item(100, start + millis(delay));
            assert!(!times.is_window_short(), "no window was consumed");
            times.credit(150, 200, 110, start + millis(delay));
            times.credit(200, 250, 160, start + millis(window));
            assert_eq!(times.is_window_short(), short, "{delay} {window}");
        }
    }
}
