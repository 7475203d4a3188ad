//! The services of a demo server.

mod arith;
mod echo;
mod feed;
mod text;

use farcall::server::Service;

pub use self::arith::{Arith, ArithClient, ArithError};
pub use self::echo::{Echo, EchoClient, WhoAmI};
pub use self::feed::{Anything, Feed, FeedError};
pub(crate) use self::text::MAX_WORD;
pub use self::text::{Text, TextClient};

/// Creates all services; `instance` is the name that [`Echo::whoami`] returns.
pub(crate) fn all(instance: &str) -> [Service; 4] {
    let instance = instance.to_owned();
    [
        text::Counter::default().into_service(),
        arith::Calculator.into_service(),
        echo::Echoing { instance }.into_service(),
        feed::Feeding.into_service(),
    ]
}
