//! `Arith`: integers, and methods with an error type.

use serde::{Deserialize, Serialize};

/// Integer arithmetic.
#[farcall::service]
pub trait Arith {
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
#[non_exhaustive]
pub enum ArithError {
    /// The divisor was zero.
    #[error("division by zero")]
    DivisionByZero,
    /// The result does not fit into an i64.
    #[error("the result does not fit into 64 bits")]
    Overflow,
}

/// The stateless implementation.
#[derive(Debug)]
pub(crate) struct Calculator;

impl Arith for Calculator {
    async fn multiply(&self, a: i64, b: i64) -> Result<i64, ArithError> {
        a.checked_mul(b).ok_or(ArithError::Overflow)
    }

    async fn divide(&self, a: i64, b: i64) -> Result<i64, ArithError> {
        match b {
            0 => Err(ArithError::DivisionByZero),
            _ => a.checked_div(b).ok_or(ArithError::Overflow),
        }
    }
}
