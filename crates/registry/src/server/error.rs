//! The errors of the registry's public interface: [`OpenError`], [`OptionsError`], [`RegisterError`].

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::InstanceError;

/// The reason why a registry cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option is invalid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another registry, in this process or in another, uses the snapshot.
    #[error(
        "the snapshot `{}` is in use by another registry: of two that write one file, the content of the last writer \
         alone would remain, so each needs a separate file",
        path.display()
    )]
    SnapshotInUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer registry has written the snapshot, which is left as it is.
    #[error(
        "the snapshot `{}` has version {version}, and this registry reads versions 1 to {supported}: a newer one has \
         written it; start that one, or name another file",
        path.display()
    )]
    SnapshotVersion {
        /// The file.
        path: PathBuf,
        /// The version of the snapshot.
        version: u64,
        /// The newest version that can be read.
        supported: u32,
    },
    /// The snapshot exists and cannot be read, or its directory does not exist. A snapshot that can be read but
    /// is damaged is no error: it is renamed.
    #[error("the snapshot `{}` cannot be used: {error}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
}

/// An invalid value in [`RegistryOptions`](super::RegistryOptions).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The time to live is out of its range.
    #[error("the time to live {ttl:?} must be from 1 s to 1 day")]
    Ttl {
        /// The value.
        ttl: Duration,
    },
    /// The heartbeat interval is zero, or not below the time to live.
    #[error(
        "the time between heartbeats {heartbeat:?} must be above zero and below the time to live {ttl:?}"
    )]
    Heartbeat {
        /// The value.
        heartbeat: Duration,
        /// The time to live.
        ttl: Duration,
    },
    /// The path of the simple interface is malformed, or belongs to the full interface.
    #[error(
        "the path of the simple interface `{path}` must begin with `/`, have only letters, digits, `.`, `_`, `-` \
         and `/`, and be none of the other paths"
    )]
    SimplePath {
        /// The value.
        path: String,
    },
    /// A token is too short. See `Tokens::MIN_LEN`.
    #[error("a token has fewer than {min} characters, the minimum: make one with `openssl rand -hex 32`")]
    ShortToken {
        /// The minimum.
        min: usize,
    },
    /// The maximum number of instances is zero.
    #[error("the maximum number of instances must be 1 or more")]
    MaxInstances,
    /// The maximum number of watches is zero.
    #[error("the maximum number of watches and long polls must be 1 or more")]
    MaxWatchers,
    /// The maximum size of a body is so small that no instance fits.
    #[error("the maximum size of a request's body must be {min} bytes or more")]
    MaxBodyBytes {
        /// The lowest value.
        min: usize,
    },
    /// An allowed host is malformed.
    #[error(
        "the allowed host `{}` is malformed: it must be a name or an IP address, one of version 6 in brackets, and \
         may be followed by a port, such as `registry.example.com:7100`",
        host.escape_debug()
    )]
    AllowedHost {
        /// The value.
        host: String,
    },
}

/// The reason why an instance cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The instance is invalid.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The registry is full. See [`RegistryOptions::max_instances`](super::RegistryOptions::max_instances).
    #[error("the registry has {0} instances, and no room for another")]
    Full(usize),
}
