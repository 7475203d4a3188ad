//! Calls that are carried out once: their keys, the store of their answers, and the calls that run.
//!
//! A method that is declared `once` gets an [`OnceHandler`](handler::OnceHandler) around its own handler, within all
//! layers. It asks [`OnceCalls`](calls::OnceCalls) for a call with the same key that runs at this server, and joins it.
//! Otherwise an [`Execution`](execution::Execution) claims the key in the [`DedupStore`](store::DedupStore), calls the
//! handler, and has the store keep the answer.

pub(crate) mod answer;
pub(crate) mod calls;
pub(crate) mod execution;
pub(crate) mod handler;
pub(crate) mod memory_store;
pub(crate) mod once_call;
pub(crate) mod options;
pub(crate) mod running;
pub(crate) mod store;

#[cfg(test)]
mod tests;
