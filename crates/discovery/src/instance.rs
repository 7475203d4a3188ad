//! [`Instance`], what a server says of itself where it registers.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall_transport::{Address, AddressError, Scheme};
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, State};

/// An instance of a service, as its server registers it, and as registries keep it.
///
/// With serde it is the JSON object of the registry's interface and of etcd's values; what is left
/// out has its default, and fields that are not known are ignored. Reading checks nothing but
/// types: [`Instance::check`] checks the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The service; `""` is the plain list of servers.
    #[serde(default)]
    pub service: String,
    /// Its name among the instances of the service; empty stands for the address.
    #[serde(default)]
    pub id: String,
    /// What is dialed.
    pub addr: Address,
    /// Its share of the calls, 1 to 65535; 0 is drained.
    #[serde(default = "default_weight")]
    pub weight: u16,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What else is to be said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How long it stays without a heartbeat, in milliseconds; none is what the registry has for
    /// those that say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

const fn default_weight() -> u16 {
    Endpoint::DEFAULT_WEIGHT
}

/// What is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// A name that is none.
    #[error("{field} `{}` must be 1 to {} letters, digits, `.`, `_` or `-`", excerpt(.name), Instance::MAX_NAME)]
    Name {
        /// Which.
        field: &'static str,
        /// What it was given.
        name: String,
    },
    /// An id that is too long, or has control characters in it.
    #[error("id `{}` must be at most {} bytes, without control characters", excerpt(.id), Instance::MAX_ID)]
    Id {
        /// What was given.
        id: String,
    },
    /// The address does not parse.
    #[error("addr: {0}")]
    Address(#[from] AddressError),
    /// Nobody can dial the address.
    #[error("addr `{address}`: {why}: nobody can dial it; say the address that others reach")]
    Undialable {
        /// The address.
        address: Address,
        /// Why not.
        why: &'static str,
    },
    /// The time to live is out of bounds.
    #[error("ttl_ms {ttl_ms} must be from {} (1 s) to {} (1 day)", Instance::MIN_TTL.as_millis(), Instance::MAX_TTL.as_millis())]
    Ttl {
        /// What was given.
        ttl_ms: u64,
    },
    /// Too many pairs of metadata, or too many bytes in them.
    #[error(
        "metadata has {pairs} pairs and {bytes} bytes; at most {} and {} are allowed",
        Instance::MAX_PAIRS,
        Instance::MAX_METADATA_BYTES
    )]
    Metadata {
        /// How many pairs.
        pairs: usize,
        /// Bytes of keys and values.
        bytes: usize,
    },
}

impl Instance {
    /// The longest name of a service, a zone or a version, in bytes.
    pub const MAX_NAME: usize = 128;
    /// The longest id, in bytes: that of an address.
    pub const MAX_ID: usize = Address::MAX_LEN;
    /// The shortest time to live.
    pub const MIN_TTL: Duration = Duration::from_secs(1);
    /// The longest time to live.
    pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
    /// The most pairs of metadata.
    pub const MAX_PAIRS: usize = 32;
    /// The most bytes of metadata, keys and values together.
    pub const MAX_METADATA_BYTES: usize = 4096;

    /// An instance of `service` at `address`, which is its id, too. All else has its default.
    #[must_use]
    pub fn new(service: impl Into<String>, address: Address) -> Self {
        Self {
            service: service.into(),
            id: address.to_string(),
            addr: address,
            weight: Endpoint::DEFAULT_WEIGHT,
            zone: None,
            version: None,
            metadata: BTreeMap::new(),
            ttl_ms: None,
        }
    }

    /// The same, with the address for an id where it has none.
    ///
    /// # Errors
    ///
    /// What is wrong with it: a name, the address, a bound.
    pub fn check(mut self) -> Result<Self, InstanceError> {
        if self.id.is_empty() {
            self.id = self.addr.to_string();
        }
        if !self.service.is_empty() {
            check_name("service", &self.service)?;
        }
        if self.id.len() > Self::MAX_ID || self.id.chars().any(char::is_control) {
            return Err(InstanceError::Id { id: self.id });
        }
        for (field, name) in [("zone", &self.zone), ("version", &self.version)] {
            if let Some(name) = name {
                check_name(field, name)?;
            }
        }
        check_dialable(&self.addr)?;
        if let Some(ttl_ms) = self.ttl_ms
            && !(Self::MIN_TTL..=Self::MAX_TTL).contains(&Duration::from_millis(ttl_ms))
        {
            return Err(InstanceError::Ttl { ttl_ms });
        }
        let pairs = self.metadata.len();
        let bytes = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if pairs > Self::MAX_PAIRS || bytes > Self::MAX_METADATA_BYTES {
            return Err(InstanceError::Metadata { pairs, bytes });
        }
        Ok(self)
    }

    /// Checks the name of a service; `""` is one, the plain list.
    ///
    /// # Errors
    ///
    /// It is too long, or has other characters than letters, digits, `.`, `_`, `-`.
    pub fn check_service(name: &str) -> Result<(), InstanceError> {
        if name.is_empty() { Ok(()) } else { check_name("service", name) }
    }

    /// The endpoint that a client sees of it.
    #[must_use]
    pub fn endpoint(&self, state: State) -> Endpoint {
        Endpoint {
            address: self.addr.clone(),
            weight: self.weight,
            zone: self.zone.clone(),
            version: self.version.clone(),
            metadata: self.metadata.clone(),
            state,
        }
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), InstanceError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=Instance::MAX_NAME).contains(&name.len()) && name.bytes().all(known) {
        Ok(())
    } else {
        Err(InstanceError::Name { field, name: name.to_owned() })
    }
}

/// Refuses what can be listened on, but not dialed.
fn check_dialable(address: &Address) -> Result<(), InstanceError> {
    let why = if address.port() == Some(0) {
        "port 0 is any port"
    } else if address.socket_addr().is_some_and(|socket| socket.ip().to_canonical().is_unspecified()) {
        "it is every address of a machine"
    } else if address.to_string().contains(',') {
        // Lists of addresses are separated by them.
        "it has a comma in it"
    } else {
        debug_assert!(address.scheme() == Scheme::Unix || address.host().is_some());
        return Ok(());
    };
    Err(InstanceError::Undialable { address: address.clone(), why })
}

/// The beginning of what somebody else wrote, safe to show.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
