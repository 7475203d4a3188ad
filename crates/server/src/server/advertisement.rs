//! [`Advertisement`]: what a server registers of itself, and where. To keep it registered while it runs
//! is for `registrations`.

use std::collections::BTreeMap;
use std::time::Duration;

use farcall_discovery::{Endpoint, Instance};
use farcall_protocol::describe::ServiceInfo;
use farcall_protocol::time::millis;
use farcall_transport::Address;

use crate::error::BuildError;
use crate::server::registrations::{Registrations, Target};

/// The description of a server for registries, and the registries.
pub(crate) struct Advertisement {
    pub(super) addresses: Vec<Result<Address, BuildError>>,
    /// The address at which others reach a server that neither listens nor advertises.
    pub(super) reached_at: Option<Address>,
    /// Registered in place of the names of the services, unless empty.
    pub(super) names: Vec<String>,
    pub(super) id: Option<String>,
    pub(super) weight: u16,
    pub(super) zone: Option<String>,
    pub(super) version: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ttl: Option<Duration>,
    pub(super) targets: Vec<Target>,
}

impl Default for Advertisement {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            reached_at: None,
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

impl Advertisement {
    /// Returns what to register where: nothing without targets.
    ///
    /// # Errors
    ///
    /// There is no address that can be dialed, or nothing to register, or an instance is malformed.
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
        let reached_at = self.reached_at.take();
        let listening = if listening.is_empty() { reached_at.as_slice() } else { listening };
        let addresses = addresses_to_dial(addresses, listening)?;
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
        Instance::new(name, address.clone())
            .id(self.id.clone().unwrap_or_default())
            .weight(self.weight)
            .zone(self.zone.clone())
            .version(self.version.clone())
            .metadata(self.labels.clone())
            .ttl_ms(self.ttl.map(millis))
    }
}

/// Returns the addresses that others dial, without duplicates.
fn addresses_to_dial(advertised: Vec<Address>, listening: &[Address]) -> Result<Vec<Address>, BuildError> {
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

/// Replaces port 0 by the port of a bound address with the same scheme.
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
        addresses_to_dial(addresses(advertised), &addresses(listening))
    }

    #[test]
    fn bound_addresses_are_dialed_unless_others_are_advertised() {
        let dialable = ["tcp@10.0.0.5:1", "unix@/run/arith.sock"];
        assert_eq!(dialed(&[], &dialable).unwrap(), addresses(&dialable));
        assert_eq!(dialed(&["a:1", "a:1"], &dialable).unwrap(), addresses(&["a:1"]));
        assert_eq!(dialed(&["a:1"], &["0.0.0.0:1"]).unwrap(), addresses(&["a:1"]));
        assert_eq!(dialed(&[], &[]), Err(BuildError::NothingToDial));
    }

    #[test]
    fn unspecified_addresses_are_refused_and_the_error_names_the_remedy() {
        for listening in ["0.0.0.0:7001", "[::]:7001", "[::ffff:0.0.0.0]:7001"] {
            let error = dialed(&[], &["tcp@127.0.0.1:1", listening]).unwrap_err();
            let expected = "can be listened on, but not dialed: say with `advertise` what others are to dial";
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }

    #[test]
    fn port_0_becomes_the_port_of_the_first_address_with_the_same_scheme() {
        let listening = ["unix@/run/arith.sock", "tcp@0.0.0.0:7001", "tcp@0.0.0.0:7002"];
        assert_eq!(dialed(&["10.0.0.5:0"], &listening).unwrap(), addresses(&["10.0.0.5:7001"]));
        let error = dialed(&["tls@10.0.0.5:0"], &listening).unwrap_err();
        assert!(matches!(error, BuildError::NoBoundPort { .. }), "{error}");
    }
}
