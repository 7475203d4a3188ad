//! Methods must have the form `async fn name(&self, ..)`. All mistakes of a trait are reported at once.

#[farcall::service]
trait Arith {
    fn not_async(&self) -> i64;
    async fn no_receiver(a: i64) -> i64;
    async fn exclusive(&mut self);
    async fn consuming(self);
    async fn shared(self: std::sync::Arc<Self>);
    async fn generic<T>(&self, a: T) -> T;
    async fn bounded(&self)
    where
        Self: Clone;
    async unsafe fn dangerous(&self);
    async extern "C" fn foreign(&self);
}

fn main() {}
