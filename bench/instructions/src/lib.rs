//! A session without a network, and counts of its instructions.

pub mod callgrind;
pub mod kept;
pub mod session;
