//! An argument without serde is one sentence at its type.

struct Mute;

#[farcall::service]
trait Arguments {
    async fn argument(&self, number: u32, value: Vec<Mute>, flag: Option<bool>) -> u32;
}

fn main() {}
