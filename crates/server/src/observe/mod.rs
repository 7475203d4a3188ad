//! Observation of a running server: statistics per method, recent calls, spans, snapshots.

pub(crate) mod collect;
pub(crate) mod collect_streams;
pub(crate) mod history;
pub(crate) mod items;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod overview;
pub(crate) mod recent;
pub(crate) mod refusals;
pub(crate) mod span;
pub(crate) mod stats;
pub(crate) mod streams;
