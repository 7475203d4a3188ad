//! [`ZookeeperOptionsError`]: what can be wrong with options before anything is sent.

use std::time::Duration;

use farcall_discovery::InstanceError;
use farcall_protocol::EscapedText;

/// An error in [`ZookeeperOptions`](crate::ZookeeperOptions), or in the name of a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZookeeperOptionsError {
    /// One of the servers is not an address of ZooKeeper.
    #[error(
        "`{}` is no server of ZooKeeper: {reason}; write `host:2181`, several separated by commas",
        EscapedText(.server)
    )]
    #[non_exhaustive]
    Server {
        /// The text.
        server: String,
        /// The error in it.
        reason: &'static str,
    },
    /// The prefix cannot be the path of a node.
    #[error("`{}` is no prefix of nodes: it begins with `/`, does not end with one, and has no empty part", EscapedText(.0))]
    Prefix(String),
    /// The name of the user cannot be one of the scheme `digest`.
    #[error("`{}` is no user of ZooKeeper: the name has a character, and no colon", EscapedText(.0))]
    User(String),
    /// A time that is too short or too long.
    #[error("the {name} for ZooKeeper is {time:?}; it must be from {min:?} to {max:?}")]
    #[non_exhaustive]
    Time {
        /// The setting.
        name: &'static str,
        /// The time that was given.
        time: Duration,
        /// The shortest one.
        min: Duration,
        /// The longest one.
        max: Duration,
    },
    /// The name of the service is not allowed.
    #[error(transparent)]
    Service(#[from] InstanceError),
}
