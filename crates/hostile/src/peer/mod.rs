//! Raw connections, which follow no rules but those that an attack wants.

pub(crate) use farcall_test_support::mutator::Mutator;

pub(crate) mod calls;
pub(crate) mod http;
pub(crate) mod socket;
pub(crate) mod websocket;

pub(crate) use self::calls::{Offer, Peer, Request};
