//! Streams: the credit and the ends of calls that send or take items, for both sides. The items, the tasks that wait
//! and the clock are left to the server and the client.
//!
//! [`StreamTable`] has all streams of a connection. [`SendWindow`] and [`ReceiveWindow`] are the two ends of one direction, [`StreamState`] joins the two directions of a
//! call, and [`ItemScheduler`] chooses the stream whose item is sent next.

pub use self::credit::{ITEM_OVERHEAD, decode_credit, encode_credit, item_cost};
pub use self::entry::Traffic;
pub use self::item::{EncodedItem, ItemEncoder, MAX_SMALL_ITEM, decode_item};
pub use self::item_batch::{ItemBatch, ItemBody, ReceivedItem, TakenItems};
pub use self::receive_window::{CreditExceeded, ReceiveWindow, WindowLimits};
pub use self::scheduler::{ITEM_QUANTUM, ItemScheduler};
pub use self::send_window::SendWindow;
pub use self::snapshot::{StreamSnapshot, StreamWait};
pub use self::state::{ItemAction, StreamState};
pub use self::table::{StreamClosed, StreamSettings, StreamTable, StreamTotals};

mod credit;
mod credit_times;
mod entry;
mod item;
mod item_batch;
mod receive_window;
mod scheduler;
mod send_queue;
mod send_window;
mod snapshot;
mod state;
mod table;

#[cfg(test)]
mod tests;

/// The most bytes of items that wait in a connection's outgoing buffer, so that nothing else waits for more.
pub const MAX_BUFFERED_ITEMS: usize = 128 * 1024;
