//! [`Instance`]: the description with which a server registers.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall_protocol::text::excerpt;
use farcall_transport::{Address, AddressError, Scheme};
use serde::{Deserialize, Deserializer, Serialize};

use crate::endpoint::{AdvertisedState, Endpoint};

/// An instance of a service, as its server registers it, and as registries keep it.
///
/// With serde it is the JSON object of the registry's interface and of etcd's values; what is left
/// out or null has its default, and fields that are not known are ignored. Reading checks nothing but
/// types: [`Instance::check`] checks the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instance {
    /// The service; `""` is the plain list of servers.
    #[serde(default, deserialize_with = "or_default")]
    pub service: String,
    /// The instance's name within the service; empty stands for the address.
    #[serde(default, deserialize_with = "or_default")]
    pub id: String,
    /// The address to dial.
    pub addr: Address,
    /// The instance's share of the calls, 1 to 65535; 0 is drained.
    #[serde(default = "default_weight", deserialize_with = "or_default_weight")]
    pub weight: u16,
    /// The zone, such as part of a datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The version of what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Further pairs of metadata.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The time that it stays without a heartbeat, in milliseconds; `None` is the registry's default for
    /// instances without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

pub(crate) const fn default_weight() -> u16 {
    Endpoint::DEFAULT_WEIGHT
}

/// Reads null like a field that is left out: many encoders write it for a value that is not set.
pub(crate) fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a weight, or null as the default one.
pub(crate) fn or_default_weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_weight))
}

/// The characters of a name or an id that an error shows.
const MAX_SHOWN_CHARS: usize = 64;

/// An error in an instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// A name is empty, too long or has other characters.
    #[error("{field} `{}` must be 1 to {} letters, digits, `.`, `_` or `-`", excerpt(.name, MAX_SHOWN_CHARS), Instance::MAX_NAME)]
    Name {
        /// The name of the field.
        field: &'static str,
        /// The name that was given.
        name: String,
    },
    /// A service or an id that no path of a URL can carry: both are parts of paths in the registry's
    /// interface.
    #[error("{field} `{name}` is not allowed: it means another place in a path")]
    Dots {
        /// The name of the field.
        field: &'static str,
        /// `.` or `..`.
        name: String,
    },
    /// An id that is too long, or has control characters in it.
    #[error("id `{}` must be at most {} bytes, without control characters", excerpt(.id, MAX_SHOWN_CHARS), Instance::MAX_ID)]
    Id {
        /// The id that was given.
        id: String,
    },
    /// The address does not parse.
    #[error("addr: {0}")]
    Address(AddressError),
    /// The address cannot be dialed.
    #[error("addr `{address}`: {reason}: it cannot be dialed; give the address that clients reach")]
    Undialable {
        /// The address.
        address: Address,
        /// The reason.
        reason: &'static str,
    },
    /// The time to live is out of bounds.
    #[error("ttl_ms {ttl_ms} must be from {} (1 s) to {} (1 day)", Instance::MIN_TTL.as_millis(), Instance::MAX_TTL.as_millis())]
    Ttl {
        /// The time that was given.
        ttl_ms: u64,
    },
    /// Too many pairs of metadata, or too many bytes in them.
    #[error(
        "metadata has {pairs} pairs and {bytes} bytes; at most {} and {} are allowed",
        Instance::MAX_PAIRS,
        Instance::MAX_METADATA_BYTES
    )]
    Metadata {
        /// The number of pairs.
        pairs: usize,
        /// Bytes of keys and values.
        bytes: usize,
    },
}

impl From<AddressError> for InstanceError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
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

    /// Creates an instance of `service` at `address`, which is its id, too. All else has its default.
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

    /// Sets the service; `""` is the plain list of servers.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }

    /// Sets the name within the service; empty stands for the address.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the share of the calls, 1 to 65535; 0 is drained. Default: 100.
    #[must_use]
    pub const fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the zone. Default: none.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Option<String>>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Sets the version of what it runs. Default: none.
    #[must_use]
    pub fn version(mut self, version: impl Into<Option<String>>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the metadata: at most 32 pairs and 4,096 bytes. Default: none.
    #[must_use]
    pub fn metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the time that it stays without a heartbeat, in milliseconds. Default: the registry's own.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: impl Into<Option<u64>>) -> Self {
        self.ttl_ms = ttl_ms.into();
        self
    }

    /// Checks all fields, and sets the id to the address if it is empty.
    ///
    /// # Errors
    ///
    /// A name, the id or the address is invalid, or a bound is exceeded; the error names it.
    pub fn check(mut self) -> Result<Self, InstanceError> {
        if self.id.is_empty() {
            self.id = self.addr.to_string();
        }
        Self::check_service(&self.service)?;
        if self.id.len() > Self::MAX_ID || self.id.chars().any(char::is_control) {
            return Err(InstanceError::Id { id: self.id });
        }
        check_dots("id", &self.id)?;
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
    /// It is too long, has other characters than letters, digits, `.`, `_`, `-`, or is `.` or `..`.
    pub fn check_service(name: &str) -> Result<(), InstanceError> {
        if name.is_empty() {
            return Ok(());
        }
        check_name("service", name)?;
        check_dots("service", name)
    }

    /// Returns the endpoint that clients see.
    #[must_use]
    pub fn endpoint(&self, state: AdvertisedState) -> Endpoint {
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

/// Refuses what every client and proxy takes out of a path, percent-encoded or not.
fn check_dots(field: &'static str, name: &str) -> Result<(), InstanceError> {
    match name {
        "." | ".." => Err(InstanceError::Dots { field, name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Refuses what can be listened on, but not dialed.
fn check_dialable(address: &Address) -> Result<(), InstanceError> {
    let reason = if address.port() == Some(0) {
        "port 0 is any port"
    } else if address.is_unspecified() {
        "it is every address of a machine"
    } else if address.to_string().contains(',') {
        // Lists of addresses are separated by them.
        "it has a comma in it"
    } else {
        debug_assert!(address.scheme() == Scheme::Unix || address.host().is_some());
        return Ok(());
    };
    Err(InstanceError::Undialable { address: address.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Instance {
        Instance::new("Arith", address.parse().unwrap())
    }

    #[test]
    fn null_is_a_field_that_is_left_out() {
        let read = |text: &str| serde_json::from_str::<Instance>(text).unwrap();
        let nulls = r#"{
            "service": null, "id": null, "addr": "a:1", "weight": null, "zone": null, "version": null,
            "metadata": null, "ttl_ms": null
        }"#;
        assert_eq!(read(nulls), read(r#"{"addr": "a:1"}"#));
        assert_eq!(read(r#"{"addr": "a:1", "weight": 7}"#).weight, 7);
        serde_json::from_str::<Instance>(r#"{"addr": null}"#).unwrap_err();
    }

    #[test]
    fn empty_id_becomes_the_address() {
        let checked = at("tcp@10.0.0.5:7001").id(String::new()).check().unwrap();
        assert_eq!(checked.id, "tcp@10.0.0.5:7001");
    }

    #[test]
    fn dot_segments_are_no_services_and_no_ids() {
        for dots in [".", ".."] {
            let field = |error| match error {
                InstanceError::Dots { field, name } if name == dots => field,
                other => panic!("{other}"),
            };
            let service = at("a:1").service(dots.to_owned());
            let id = at("a:1").id(dots.to_owned());
            assert_eq!(field(service.check().unwrap_err()), "service");
            assert_eq!(field(id.check().unwrap_err()), "id");
            assert_eq!(field(Instance::check_service(dots).unwrap_err()), "service");
        }
        for name in ["...", ".a", "a..", ".-"] {
            let named = at("a:1").service(name.to_owned()).id(name.to_owned());
            named.check().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn names_have_a_length_and_some_characters() {
        let longest = "x".repeat(Instance::MAX_NAME);
        for name in ["a", "Z9", "a.b_c-d", longest.as_str()] {
            Instance::check_service(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(at("a:1").service(name.to_owned()).check().unwrap().service, name);
        }
        let too_long = format!("{longest}x");
        for wrong in ["a b", "a/b", "\u{e9}", "a\n", "a:b", too_long.as_str()] {
            let error = Instance::check_service(wrong).unwrap_err();
            assert!(
                matches!(&error, InstanceError::Name { field: "service", name } if name == wrong),
                "{error}"
            );
        }
    }

    #[test]
    fn addresses_that_cannot_be_dialed_are_refused_with_the_reason() {
        for (address, reason) in [
            ("0.0.0.0:1", "every address"),
            ("[::]:1", "every address"),
            ("[::ffff:0.0.0.0]:1", "every address"),
            ("[::%eth0]:1", "every address"),
            ("tls@[::%1]:1", "every address"),
            ("a:0", "port 0"),
            ("[::%eth0]:0", "port 0"),
        ] {
            let error = at(address).check().unwrap_err();
            assert!(matches!(error, InstanceError::Undialable { .. }), "{address}: {error}");
            assert!(error.to_string().contains(reason), "{address}: {error}");
        }
        for address in ["a:1", "10.0.0.5:1", "[::1]:1", "[fe80::1%eth0]:1", "unix@/run/a.sock"] {
            at(address).check().unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }

    #[test]
    fn limits_of_an_instance_are_inclusive() {
        let longest = "x".repeat(Instance::MAX_ID);
        at("a:1").id(longest.clone()).check().unwrap();
        for id in [format!("{longest}x"), "a\u{7}".to_owned()] {
            let error = at("a:1").id(id.clone()).check().unwrap_err();
            assert!(matches!(&error, InstanceError::Id { id: found } if *found == id), "{error}");
        }
        for ttl_ms in [1_000, 86_400_000] {
            at("a:1").ttl_ms(ttl_ms).check().unwrap();
        }
        for ttl_ms in [0, 999, 86_400_001, u64::MAX] {
            assert_eq!(at("a:1").ttl_ms(ttl_ms).check(), Err(InstanceError::Ttl { ttl_ms }));
        }
        let pairs = |count: usize| (0..count).map(|key| (key.to_string(), String::new())).collect();
        at("a:1").metadata(pairs(32)).check().unwrap();
        let error = at("a:1").metadata(pairs(33)).check().unwrap_err();
        assert_eq!(error, InstanceError::Metadata { pairs: 33, bytes: 10 + 2 * 23 });
        let of_bytes = |bytes: usize| BTreeMap::from([("key".to_owned(), "v".repeat(bytes - 3))]);
        at("a:1").metadata(of_bytes(4096)).check().unwrap();
        let error = at("a:1").metadata(of_bytes(4097)).check().unwrap_err();
        assert_eq!(error, InstanceError::Metadata { pairs: 1, bytes: 4097 });
    }

    #[test]
    fn zones_and_versions_are_names() {
        at("a:1").zone("eu-1".to_owned()).version("1.2_a".to_owned()).check().unwrap();
        for (field, instance) in
            [("zone", at("a:1").zone("eu 1".to_owned())), ("version", at("a:1").version(String::new()))]
        {
            let error = instance.check().unwrap_err();
            assert!(matches!(error, InstanceError::Name { field: of, .. } if of == field), "{error}");
        }
    }

    #[test]
    fn endpoint_has_what_the_instance_says() {
        let metadata = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
        let instance = at("a:1").weight(7).zone("z".to_owned()).version("v".to_owned()).metadata(metadata);
        let expected = Endpoint::new("a:1".parse().unwrap()).with_weight(7).with_zone("z").with_version("v");
        let expected = expected.with_metadata("rack", "7").with_state(AdvertisedState::Stale);
        assert_eq!(instance.endpoint(AdvertisedState::Stale), expected);
        let written = r#"{"addr":"a:1"}"#;
        let read: Instance = serde_json::from_str(written).unwrap();
        assert_eq!((read.weight, read.id.as_str(), read.ttl_ms), (Endpoint::DEFAULT_WEIGHT, "", None));
    }
}
