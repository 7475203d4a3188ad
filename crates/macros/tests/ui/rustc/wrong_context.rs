//! A `Context` that is not farcall's is reported at its location.

use std::task::Context;

#[farcall::service]
trait Arith {
    async fn count(&self, cx: &Context<'_>) -> i64;
}

fn main() {}
