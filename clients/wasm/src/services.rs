//! The part of the demo's services that the page calls. A real system has its traits in a crate that server and page
//! share.

use farcall::Sender;
use serde::{Deserialize, Serialize};

/// Integer arithmetic.
#[farcall::service]
pub(crate) trait Arith {
    /// Multiplies two numbers; fails if the product does not fit into an i64.
    #[rpc(idempotent)]
    async fn multiply(&self, a: i64, b: i64) -> Result<i64, ArithError>;
    /// Divides `a` by `b`, rounding towards zero; fails if `b` is zero or the quotient does not fit into an i64.
    #[rpc(idempotent)]
    async fn divide(&self, a: i64, b: i64) -> Result<i64, ArithError>;
}

/// An error of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArithError {
    /// The divisor was zero.
    #[error("division by zero")]
    DivisionByZero,
    /// The result does not fit into an i64.
    #[error("the result does not fit into 64 bits")]
    Overflow,
}

/// A stream to watch.
#[farcall::service]
pub(crate) trait Feed {
    /// Sends 0, 1, 2 and so on, one every `every_ms` milliseconds, until it is cancelled.
    #[rpc(idempotent)]
    async fn ticks(&self, every_ms: u64, out: Sender<u64>);
}
