//! Overload: the calls that a server with [`Limits::adaptive`](crate::Limits::adaptive) starts, has wait, and refuses.
//!
//! [`law`] finds out how many may run at once from what [`latency`] knows of methods, [`queue`] orders those that wait,
//! [`shedding`] tells overload from a short rush, and [`control`] decides. They have no clock, lock or task: [`admission`] has.

pub(crate) mod admission;
pub(crate) mod control;
mod latency;
mod law;
mod queue;
pub(crate) mod refusal;
mod shedding;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod under_load;
