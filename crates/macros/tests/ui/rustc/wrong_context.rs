//! A `Context` that is not farcall's is pointed at.

use std::task::Context;

#[farcall::service]
trait Arith {
    async fn count(&self, cx: &Context<'_>) -> i64;
}

fn main() {}
