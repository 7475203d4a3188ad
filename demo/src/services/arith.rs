//! `Arith`: integers, and errors of a method's own.

use serde::{Deserialize, Serialize};

/// Integer arithmetic.
#[farcall::service]
pub trait Arith {
    /// Multiplies two numbers; fails where the product is no i64.
    #[rpc(idempotent)]
    async fn multiply(&self, a: i64, b: i64) -> Result<i64, ArithError>;
    /// Divides `a` by `b`, towards zero; fails on zero, and where the quotient is no i64.
    #[rpc(idempotent)]
    async fn divide(&self, a: i64, b: i64) -> Result<i64, ArithError>;
}

/// Why there is no result.
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

/// The implementation. It holds no state.
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
