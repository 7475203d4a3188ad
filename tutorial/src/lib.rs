//! The tea shop of the tutorial: a service of prices, and a shop that calls it.
//!
//! `docs/tutorial` builds it step by step; this is what stands at its end. `prices-server` and `shop-server`
//! are its two servers, and `buy` is its client.

pub mod prices;
pub mod process;
pub mod shop;
