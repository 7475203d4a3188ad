//! Overload: the calls that a server with [`Limits::adaptive`](crate::Limits::adaptive) starts, has wait, and refuses.
//!
//! [`law`] finds out how many may run at once, [`queue`] orders those that wait, and [`admission`] has the lock, the clock
//! and the waiters. The first two have neither.

pub(crate) mod admission;
mod law;
mod queue;
pub(crate) mod refusal;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod under_load;
