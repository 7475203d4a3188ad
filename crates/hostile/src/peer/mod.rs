//! Raw connections, which follow no rules but those that an attack wants.

pub(crate) mod calls;
pub(crate) mod http;
mod mutator;
pub(crate) mod socket;
pub(crate) mod websocket;

pub(crate) use self::calls::{Offer, Peer, Request};
pub(crate) use self::mutator::Mutator;
