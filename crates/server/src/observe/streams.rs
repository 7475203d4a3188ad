//! [`StreamOverview`] and [`StreamMetrics`]: the open streams of a server and the counts of their items.

use serde::Serialize;

/// An open stream: a streaming call whose handler needs more than one poll.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StreamOverview {
    /// The full name of its method.
    pub method: String,
    /// The address of the caller, such as `tcp@127.0.0.1:50412`.
    pub peer: String,
    /// The connection that it came over; 0 if it came over none.
    pub connection: u64,
    /// The number of the call on its connection.
    pub seq: u64,
    /// The time since its request arrived, in milliseconds.
    pub age_ms: u64,
    /// Items that the handler has sent.
    pub items_sent: u64,
    /// The bytes of their bodies.
    pub bytes_sent: u64,
    /// Items that have arrived.
    pub items_received: u64,
    /// The bytes of their bodies.
    pub bytes_received: u64,
    /// The size of the window for items of the caller, in bytes; `None` if the method takes none.
    pub window: Option<u64>,
    /// The bytes of items that have arrived and wait for the handler.
    pub held_bytes: u64,
    /// The credit that the handler may still spend, in bytes; `None` if the method sends no items.
    pub credit: Option<u64>,
    /// The bytes of items that wait to be written.
    pub queued_bytes: usize,
    /// The number of times that an item of the handler had to wait for credit.
    pub stalls: u64,
    /// The side that the stream waits for: its `handler`, the peer's `credit`, the `socket`, or an item of the `peer`.
    pub waits_for: &'static str,
}

/// The items of all streams of a server since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamMetrics {
    /// Streaming calls that are in flight.
    pub open: u64,
    /// Items that handlers have sent.
    pub items_sent: u64,
    /// The bytes of their bodies as sent.
    pub bytes_sent: u64,
    /// Items that have arrived.
    pub items_received: u64,
    /// The bytes of their bodies as sent.
    pub bytes_received: u64,
    /// The number of times that an item of a handler had to wait for credit.
    pub stalls: u64,
}
