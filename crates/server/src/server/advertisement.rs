//! What a server says of itself where it registers: the builder's half of registering. Keeping it
//! registered while it runs is in `registrations`.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall_discovery::{Endpoint, Instance, Registrar};
use farcall_protocol::describe::ServiceInfo;
use farcall_transport::{Address, AddressError};

use crate::error::BuildError;
use crate::server::builder::ServerBuilder;
use crate::server::registrations::{Registrations, Target};

/// What a server says of itself, and where.
pub(crate) struct Advertisement {
    addresses: Vec<Result<Address, BuildError>>,
    /// In place of the names of the services, unless there is none.
    names: Vec<String>,
    id: Option<String>,
    weight: u16,
    zone: Option<String>,
    version: Option<String>,
    labels: BTreeMap<String, String>,
    ttl: Option<Duration>,
    targets: Vec<Target>,
}

impl Default for Advertisement {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            names: Vec::new(),
            id: None,
            weight: Endpoint::DEFAULT_WEIGHT,
            zone: None,
            version: None,
            labels: BTreeMap::new(),
            ttl: None,
            targets: Vec::new(),
        }
    }
}

/// Registering. Nothing of it has an effect without [`register_with`](ServerBuilder::register_with).
impl ServerBuilder {
    /// Registers the server at this place while it serves; call it again for further places.
    ///
    /// For each service that it offers, and for each address that it advertises, there is one
    /// [`Instance`]. They are registered when [`serve_until`](ServerBuilder::serve_until) begins,
    /// renewed for ever, and taken away as the first step of a graceful stop; see
    /// [`keep_registered`](farcall_discovery::keep_registered). A place that does not answer, or
    /// fails, or panics, keeps the server from nothing: it starts, serves and stops without it, and
    /// [`ServerHandle::registrations`](crate::ServerHandle::registrations) tells how it stands.
    #[must_use]
    pub fn register_with(mut self, registrar: impl Registrar) -> Self {
        self.advertisement.targets.push(Target::new(registrar));
        self
    }

    /// Adds an address that others dial, such as `tcp@10.0.0.5:7001`: one that leads to this server
    /// from where they are. Default: the addresses that it listens on, which must then be ones that
    /// can be dialed, and not `0.0.0.0`. Port 0 stands for the port that the first address with the
    /// same scheme listens on.
    #[must_use]
    pub fn advertise<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(|error| BuildError::Address(error.into()));
        self.advertisement.addresses.push(address);
        self
    }

    /// Registers under this name instead of the names of the services; call it again for further
    /// ones. `""` is the plain list of servers, of the registry's simple interface.
    #[must_use]
    pub fn register_as(mut self, name: impl Into<String>) -> Self {
        self.advertisement.names.push(name.into());
        self
    }

    /// Sets the id among the instances of a service, at most 512 bytes; a server that comes back
    /// with the same id takes its predecessor's place. Default: the advertised address. Two servers
    /// with one id push each other out; so do two addresses of one server, which is refused.
    #[must_use]
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.advertisement.id = Some(id.into());
        self
    }

    /// Sets the server's share of the calls, against the weights of the others. Default 100. With 0
    /// it is registered and gets none.
    #[must_use]
    pub const fn weight(mut self, weight: u16) -> Self {
        self.advertisement.weight = weight;
        self
    }

    /// Sets where the server stands, for clients that prefer their own zone: 1 to 128 letters,
    /// digits, `.`, `_`, `-`. Default: not said.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.advertisement.zone = Some(zone.into());
        self
    }

    /// Sets what the server runs, such as `1.4.2`; what may be in it is as for a zone. Default: not
    /// said.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.advertisement.version = Some(version.into());
        self
    }

    /// Says one thing more of the server, in its instances' metadata: at most 32 pairs, with 4 KiB
    /// in all. Everybody who can read the registry reads it.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.advertisement.labels.insert(key.into(), value.into());
        self
    }

    /// Sets how long the server stays registered without a heartbeat, 1 s to 1 day. Default: what
    /// the registry has for those that say nothing. Too low, and a server is gone from the lists
    /// whenever the network pauses; too high, and one that crashed stays in them as long.
    #[must_use]
    pub const fn registration_ttl(mut self, ttl: Duration) -> Self {
        self.advertisement.ttl = Some(ttl);
        self
    }
}

impl Advertisement {
    /// What is to be registered, and where: nothing where nobody asked for it.
    ///
    /// # Errors
    ///
    /// There is no address that can be dialed, or nothing to register, or an instance is not
    /// well-formed.
    pub(crate) fn registrations(
        mut self,
        services: &[ServiceInfo],
        listening: &[Address],
    ) -> Result<Registrations, BuildError> {
        let addresses = std::mem::take(&mut self.addresses).into_iter().collect::<Result<Vec<_>, _>>()?;
        if self.targets.is_empty() {
            return Ok(Registrations::default());
        }
        if self.names.is_empty() {
            self.names = services.iter().map(|service| service.name.clone()).collect();
        }
        if self.names.is_empty() {
            return Err(BuildError::NothingToRegister);
        }
        self.names.sort_unstable();
        self.names.dedup();
        let addresses = to_dial(addresses, listening)?;
        if let (Some(id), [_, _, ..]) = (&self.id, &*addresses) {
            return Err(BuildError::SharedId { id: id.clone() });
        }
        let mut instances = Vec::with_capacity(self.names.len() * addresses.len());
        for name in &self.names {
            for address in &addresses {
                instances.push(self.instance(name, address).check()?);
            }
        }
        Ok(Registrations::new(self.targets, &instances))
    }

    fn instance(&self, name: &str, address: &Address) -> Instance {
        Instance {
            id: self.id.clone().unwrap_or_default(),
            weight: self.weight,
            zone: self.zone.clone(),
            version: self.version.clone(),
            metadata: self.labels.clone(),
            ttl_ms: self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            ..Instance::new(name, address.clone())
        }
    }
}

/// What others are to dial: each address once.
fn to_dial(advertised: Vec<Address>, listening: &[Address]) -> Result<Vec<Address>, BuildError> {
    let mut addresses = if advertised.is_empty() {
        if let Some(address) = listening.iter().find(|address| address.is_unspecified()) {
            return Err(BuildError::NotDialable { address: address.clone() });
        }
        listening.to_vec()
    } else {
        advertised.into_iter().map(|address| with_bound_port(address, listening)).collect::<Result<_, _>>()?
    };
    if addresses.is_empty() {
        return Err(BuildError::NothingToDial);
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn with_bound_port(address: Address, listening: &[Address]) -> Result<Address, BuildError> {
    if address.port() != Some(0) {
        return Ok(address);
    }
    let of_same_scheme = listening.iter().find(|bound| bound.scheme() == address.scheme());
    match of_same_scheme.and_then(Address::port) {
        Some(port) => Ok(address.with_port(port)),
        None => Err(BuildError::NoBoundPort { address }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).unwrap()).collect()
    }

    fn dialed(advertised: &[&str], listening: &[&str]) -> Result<Vec<Address>, BuildError> {
        to_dial(addresses(advertised), &addresses(listening))
    }

    #[test]
    fn what_is_listened_on_is_dialed_unless_something_else_is_said() {
        let dialable = ["tcp@10.0.0.5:1", "unix@/run/arith.sock"];
        assert_eq!(dialed(&[], &dialable).unwrap(), addresses(&dialable));
        assert_eq!(dialed(&["a:1", "a:1"], &dialable).unwrap(), addresses(&["a:1"]));
        assert_eq!(dialed(&["a:1"], &["0.0.0.0:1"]).unwrap(), addresses(&["a:1"]));
        assert_eq!(dialed(&[], &[]), Err(BuildError::NothingToDial));
    }

    #[test]
    fn what_can_only_be_listened_on_is_refused_with_a_word_on_what_to_do() {
        for listening in ["0.0.0.0:7001", "[::]:7001", "[::ffff:0.0.0.0]:7001"] {
            let error = dialed(&[], &["tcp@127.0.0.1:1", listening]).unwrap_err();
            let expected = "can be listened on, but not dialed: say with `advertise` what others are to dial";
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }

    #[test]
    fn port_0_is_that_of_the_first_address_with_the_same_scheme() {
        let listening = ["unix@/run/arith.sock", "tcp@0.0.0.0:7001", "tcp@0.0.0.0:7002"];
        assert_eq!(dialed(&["10.0.0.5:0"], &listening).unwrap(), addresses(&["10.0.0.5:7001"]));
        let error = dialed(&["tls@10.0.0.5:0"], &listening).unwrap_err();
        assert!(matches!(error, BuildError::NoBoundPort { .. }), "{error}");
    }
}
