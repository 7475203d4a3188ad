//! Targets: which servers a command talks to, and with which credentials. One grammar for all commands.
//!
//! [`place`] parses a target, [`context`] reads the named ones, [`secret`] has tokens. `Settings` is what results of
//! the command line and a context together.

pub(crate) mod args;
pub(crate) mod context;
pub(crate) mod place;
mod secret;
pub(crate) mod settings;
