//! Names that clash.

#[farcall::service]
trait Arith {
    async fn add(&self, a: i64, b: i64) -> i64;
    #[rpc(name = "add")]
    async fn plus(&self, a: i64, b: i64) -> i64;
    async fn new(&self);
    async fn channel(&self);
    async fn into_service(&self);
}

fn main() {}
