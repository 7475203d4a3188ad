//! The items of streaming calls: what all calls of a connection share, and the halves that handlers have.

pub(crate) mod call_stream;
pub(crate) mod connection_streams;
pub(crate) mod counters;
pub(crate) mod error;
mod item_turn;
pub(crate) mod receiver;
pub(crate) mod sender;
