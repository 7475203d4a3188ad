//! [`StreamState`]: both directions of a streaming call, as one side sees them.

use web_time::Instant;

use super::item_batch::ItemBatch;
use super::receive_window::{ReceiveWindow, WindowLimits};
use super::send_window::SendWindow;
use crate::header::Flags;
use crate::limits::{Seq, StreamWindow};
use crate::session::ProtocolError;

/// The state of the direction on which this side receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    /// Items are handed to the application.
    Open,
    /// The client said that no more items come.
    Ended,
    /// This side reads no more items; those that are on their way are dropped.
    Stopped,
}

/// The credit and the ends of one streaming call. Items and results are left to its owner, who drops the state with the
/// call.
#[derive(Clone, Debug)]
pub struct StreamState {
    seq: Seq,
    inbound: Inbound,
    receive: ReceiveWindow,
    send: SendWindow,
    /// `true` once the peer reads no more items, or this side said that it sends none.
    send_closed: bool,
}

/// The handling of an item that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemAction {
    /// Hand the item to the application, and send this credit if there is one.
    Deliver {
        /// The limit of a credit message to send now.
        credit: Option<u64>,
    },
    /// Drop the item: this side reads no more.
    Discard,
}

impl StreamState {
    /// Creates the state of a call that begins: the peer grants `send`, this side `receive`.
    #[must_use]
    pub const fn new(seq: Seq, send: StreamWindow, receive: WindowLimits) -> Self {
        Self {
            seq,
            inbound: Inbound::Open,
            receive: ReceiveWindow::new(receive),
            send: SendWindow::new(send),
            send_closed: false,
        }
    }

    /// Handles an item with a body of `body_len` bytes as sent. See [`ReceiveWindow::receive`] for `grow`.
    ///
    /// # Errors
    ///
    /// The peer had no credit, or had said that no more items come.
    pub fn receive_item(
        &mut self,
        body_len: usize,
        flags: Flags,
        now: Instant,
        grow: impl FnOnce(usize) -> bool,
    ) -> Result<ItemAction, ProtocolError> {
        let seq = self.seq;
        let open = match self.inbound {
            Inbound::Open => true,
            Inbound::Stopped => false,
            Inbound::Ended => return Err(ProtocolError::ItemAfterEnd { seq }),
        };
        let starved = open && flags.contains(Flags::STARVED);
        let credit = self
            .receive
            .receive(body_len, starved, now, grow)
            .map_err(|error| ProtocolError::CreditExceeded { seq, error })?;
        Ok(if open { ItemAction::Deliver { credit } } else { ItemAction::Discard })
    }

    /// Handles items that arrived one after the other, and that were not starved. See [`ReceiveWindow::receive_batch`]. Returns
    /// `true` if they are to be handed to the application.
    ///
    /// # Errors
    ///
    /// As for [`StreamState::receive_item`].
    pub(super) fn receive_batch(&mut self, batch: &ItemBatch) -> Result<bool, ProtocolError> {
        let seq = self.seq;
        if self.inbound == Inbound::Ended {
            return Err(ProtocolError::ItemAfterEnd { seq });
        }
        self.receive
            .receive_batch(batch.cost(), batch.last_cost())
            .map_err(|error| ProtocolError::CreditExceeded { seq, error })?;
        Ok(self.inbound == Inbound::Open)
    }

    /// Handles the peer's notice that no more items come. Returns `true` if the application has to be told.
    pub fn receive_end(&mut self) -> bool {
        let told = self.inbound == Inbound::Open;
        // Behind a stop of this side, too: an item after the end is an error whoever reads.
        self.inbound = Inbound::Ended;
        told
    }

    /// Handles a credit message. Returns `true` if a sender that waits may go on.
    pub const fn receive_credit(&mut self, limit: u64) -> bool {
        self.send.grant(limit) && !self.send_closed
    }

    /// Handles the peer's notice that it reads no more items. Returns `true` if the application has to be told.
    pub const fn receive_stop(&mut self) -> bool {
        !std::mem::replace(&mut self.send_closed, true)
    }

    /// Accounts for items of this cost that were handed to the application. Returns the credit to send, if one is due; `now`
    /// is called for it.
    pub fn consume(&mut self, cost: u64, now: impl FnOnce() -> Instant) -> Option<u64> {
        let credit = self.receive.consume(cost, now);
        // A peer that sends nothing more needs none.
        credit.filter(|_| self.inbound == Inbound::Open)
    }

    /// Reads no more items. Returns `true` if a stop has to be sent.
    pub fn stop(&mut self) -> bool {
        if self.inbound != Inbound::Open {
            return false;
        }
        self.inbound = Inbound::Stopped;
        true
    }

    /// Sends no more items. Returns `true` if an end has to be sent, by a client.
    pub const fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.send_closed, true)
    }

    /// Returns `true` if items can still be sent, with credit or after a wait for it.
    #[must_use]
    pub const fn sends(&self) -> bool {
        !self.send_closed
    }

    /// Returns `true` if items may still arrive.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.inbound == Inbound::Open
    }

    /// Returns both windows, to look at: that of this side as receiver, and that as sender.
    #[must_use]
    pub const fn windows(&self) -> (&ReceiveWindow, &SendWindow) {
        (&self.receive, &self.send)
    }

    /// Returns the window of the direction on which this side sends.
    pub const fn send_window(&mut self) -> &mut SendWindow {
        &mut self.send
    }

    /// Returns the window of the direction on which this side receives.
    pub const fn receive_window(&mut self) -> &mut ReceiveWindow {
        &mut self.receive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StreamState {
        let window = StreamWindow::new(1000);
        StreamState::new(Seq(3), window, WindowLimits { initial: window, max: window })
    }

    fn item(state: &mut StreamState) -> Result<ItemAction, ProtocolError> {
        state.receive_item(100, Flags::NONE, Instant::now(), |_| false)
    }

    #[test]
    fn item_after_the_end_is_a_protocol_error() {
        for stopped in [false, true] {
            let mut state = state();
            assert_eq!(item(&mut state), Ok(ItemAction::Deliver { credit: None }));
            if stopped {
                assert!(state.stop());
            }
            assert_eq!(state.receive_end(), !stopped);
            let error = item(&mut state).unwrap_err();
            assert_eq!(error, ProtocolError::ItemAfterEnd { seq: Seq(3) });
        }
    }

    #[test]
    fn items_on_their_way_after_a_stop_are_dropped_within_the_credit() {
        let mut state = state();
        assert!(state.stop());
        assert!(!state.stop());
        for _ in 0..7 {
            assert_eq!(item(&mut state), Ok(ItemAction::Discard));
        }
        assert!(matches!(item(&mut state), Err(ProtocolError::CreditExceeded { seq: Seq(3), .. })));
    }

    #[test]
    fn no_credit_is_sent_to_a_peer_that_sends_nothing_more() {
        let mut state = state();
        for _ in 0..7 {
            item(&mut state).unwrap();
        }
        state.receive_end();
        for _ in 0..7 {
            assert_eq!(state.consume(164, Instant::now), None);
        }
        assert_eq!(state.receive_window().held(), 0);
    }

    #[test]
    fn stop_of_the_peer_is_told_once_and_ends_the_sending() {
        let mut state = state();
        assert!(state.sends());
        assert!(state.receive_stop());
        assert!(!state.receive_stop());
        assert!(!state.sends());
        assert!(!state.end(), "a peer that reads nothing needs no end");
        assert!(!state.receive_credit(u64::MAX));
    }
}
