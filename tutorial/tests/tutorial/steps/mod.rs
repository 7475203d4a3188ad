//! The states of the tea shop that its own sources have left behind: they compile, and the chapters show them.

pub mod deadlines;
pub mod errors;
pub mod service;
