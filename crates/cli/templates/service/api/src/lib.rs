//! The interface of my-service: its server implements it, and its callers depend on this crate alone.

use serde::{Deserialize, Serialize};

/// Greets people. Replace it by what this service is for.
#[farcall::service]
pub trait MyService {
    /// Returns a greeting.
    // Idempotent: two calls have the effect of one, also at two servers. farcall may repeat a call
    // whose connection broke.
    #[rpc(idempotent)]
    async fn greet(&self, name: String) -> Result<Greeting, GreetError>;
}

/// The answer of [`MyService::greet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The greeting itself.
    pub text: String,
    /// The process that made it: callers see how they are spread over several.
    pub process: u32,
}

/// The reasons why nothing is greeted. Callers get them back with their type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GreetError {
    /// There is no name.
    #[error("there is no name to greet")]
    NoName,
    /// The name is too long.
    #[error("the name has {bytes} bytes, over {max}")]
    TooLong {
        /// The bytes of the name.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}
