//! Figures and snapshots of a running server: per method, per call, per connection.

pub(crate) mod collect;
pub(crate) mod history;
pub(crate) mod metrics;
pub(crate) mod overview;
pub(crate) mod recent;
pub(crate) mod span;
pub(crate) mod stats;
