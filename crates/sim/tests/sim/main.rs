//! The tests of simulations: what their network does, and what they have found.

mod found;
mod goaways;
mod network;
mod registry;
mod soak;
