//! [`SendWindow`]: the credit of a side that sends items.

use super::credit::item_cost;
use crate::header::Flags;
use crate::limits::StreamWindow;

/// The credit of the sender of one direction of a stream.
///
/// An item may be sent while less than the limit was spent, so that one of any size passes any window.
///
/// ```
/// use farcall_protocol::StreamWindow;
/// use farcall_protocol::stream::SendWindow;
///
/// let mut window = SendWindow::new(StreamWindow::new(100));
/// window.spend(1000);
/// assert!(!window.is_open());
/// window.grant(1064);
/// assert!(!window.is_open());
/// window.grant(1065);
/// assert!(window.is_open());
/// ```
#[derive(Clone, Debug)]
pub struct SendWindow {
    spent: u64,
    limit: u64,
    waited: bool,
}

impl SendWindow {
    /// Creates the credit that the receiver grants from the start.
    #[must_use]
    pub const fn new(window: StreamWindow) -> Self {
        Self { spent: 0, limit: window.get() as u64, waited: false }
    }

    /// Returns `true` if an item may be sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.spent < self.limit
    }

    /// Returns `true` if an item may be sent; if not, the next item is marked as starved. Called for a sender that has an
    /// item.
    pub const fn poll_open(&mut self) -> bool {
        let open = self.is_open();
        self.waited |= !open;
        open
    }

    /// Accounts for an item that is sent, and returns its flags: [`Flags::STARVED`] if it had to wait.
    ///
    /// # Panics
    ///
    /// The window is not open, in debug builds.
    pub const fn spend(&mut self, body_len: usize) -> Flags {
        debug_assert!(self.is_open());
        self.spent = self.spent.saturating_add(item_cost(body_len));
        if std::mem::replace(&mut self.waited, false) { Flags::STARVED } else { Flags::NONE }
    }

    /// Raises the limit to that of a credit message. Returns `true` if that opened the window. A limit below the one in force
    /// changes nothing.
    pub const fn grant(&mut self, limit: u64) -> bool {
        let was_open = self.is_open();
        if limit > self.limit {
            self.limit = limit;
        }
        !was_open && self.is_open()
    }

    /// Returns what was spent since the call began.
    #[must_use]
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// Returns the limit in force.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_after_a_wait_is_starved_and_the_next_is_not() {
        let mut window = SendWindow::new(StreamWindow::new(1));
        assert!(window.poll_open());
        assert_eq!(window.spend(0), Flags::NONE);
        assert!(!window.poll_open());
        assert!(window.grant(1000));
        assert_eq!(window.spend(0), Flags::STARVED);
        assert_eq!(window.spend(0), Flags::NONE);
    }

    #[test]
    fn limit_never_falls() {
        let mut window = SendWindow::new(StreamWindow::new(500));
        window.grant(100);
        assert_eq!(window.limit(), 500);
        assert!(window.grant(u64::MAX) != window.is_open());
        window.spend(usize::MAX - 64);
        assert_eq!(window.spent(), u64::MAX);
    }

    #[test]
    fn window_is_closed_once_its_last_byte_is_spent() {
        let mut window = SendWindow::new(StreamWindow::new(64));
        assert!(window.is_open());
        window.spend(0);
        assert!(!window.is_open());
        assert!(!window.grant(64), "no more than before");
        assert!(window.grant(65) && window.is_open());
    }
}
