//! Types that cannot be sent are reported at their location.

use serde::{Deserialize, Serialize};

struct Mute;

#[derive(Serialize, Deserialize)]
struct Unspoken;

#[farcall::service]
trait Arguments {
    async fn argument(&self, value: Vec<Mute>);
}

#[farcall::service]
trait Results {
    async fn result(&self) -> Mute;
}

#[farcall::service]
trait Errors {
    async fn error(&self) -> Result<i64, Unspoken>;
}

fn main() {}
