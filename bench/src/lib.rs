//! What the benchmarks of `cargo bench` share: a session without a network, and counts of its instructions.
//!
//! The program that compares farcall with its peers is `main.rs`, and uses nothing of this.

pub mod callgrind;
pub mod instructions;
pub mod session;
