//! Traits must have no items other than methods.

#[farcall::service]
trait Generic<T> {
    type Item;
    const LIMIT: usize;
    async fn get(&self) -> i64;
    some_macro!();
}

#[farcall::service]
unsafe trait Dangerous {}

fn main() {}
