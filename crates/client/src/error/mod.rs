//! The errors of calls and of channels that cannot be built.

use farcall_transport::AddressError;

pub use self::call_error::CallError;
pub use self::phase::Phase;
pub use self::rpc_error::RpcError;

pub(crate) mod attempt_log;
mod call_error;
mod method_error;
mod phase;
mod rpc_error;

/// Mistakes in the description of a channel.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The address does not parse.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no address and no source of addresses.
    #[error("no address: give one with `Channel::to` or `ChannelBuilder::to`, or a source of them")]
    NoAddress,
    /// There are both addresses and a source of them.
    #[error("addresses and a source of addresses: give one or the other")]
    AddressesAndDiscovery,
}
