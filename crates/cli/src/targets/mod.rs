//! Targets: which servers a command talks to, and with which credentials. One grammar for all commands.
//!
//! [`place`] parses a target, [`context`] reads the named ones, [`secret`] has tokens. `Settings` is what results of
//! the command line and a context together, [`registry`] has it in the form of each
//! registry, and [`source`] follows servers.

pub(crate) mod args;
pub(crate) mod context;
pub(crate) mod place;
pub(crate) mod registry;
mod secret;
pub(crate) mod settings;
pub(crate) mod source;
