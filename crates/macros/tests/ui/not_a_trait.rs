//! The attribute goes on a trait.

struct Calculator;

#[farcall::service]
impl Calculator {
    async fn multiply(&self, a: i64, b: i64) -> i64 {
        a * b
    }
}

#[farcall::service]
struct Other;

fn main() {}
