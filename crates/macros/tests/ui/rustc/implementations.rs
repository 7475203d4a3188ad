//! Implementations must be `Sync`, with futures that are `Send`.

use std::rc::Rc;

#[farcall::service]
trait Arith {
    async fn count(&self) -> i64;
}

struct Local(Rc<i64>);

impl Arith for Local {
    async fn count(&self) -> i64 {
        *self.0
    }
}

struct Holding;

impl Arith for Holding {
    async fn count(&self) -> i64 {
        let held = Rc::new(1);
        std::future::ready(()).await;
        *held
    }
}

fn main() {}
