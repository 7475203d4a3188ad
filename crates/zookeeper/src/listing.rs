//! [`Listing`]: the nodes of one service, and the endpoints in them. It requests nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use farcall_discovery::{AdvertisedState, Endpoint, Instance};
use farcall_protocol::text::{excerpt, parse_error};
use farcall_transport::log::LogThrottle;
use tracing::warn;

use crate::paths::id_of;

/// The longest data that is looked at. The largest instance allowed takes half of it, were all its bytes written as escapes.
const MAX_DATA_BYTES: usize = 64 * 1024;
/// The characters of foreign text in the log.
const MAX_SHOWN: usize = 160;

/// The nodes of a service, by their names.
#[derive(Debug)]
pub(crate) struct Listing {
    service: String,
    nodes: BTreeMap<String, Node>,
    log: LogThrottle,
}

#[derive(Debug)]
struct Node {
    /// The transaction that created it.
    created: i64,
    /// The transaction that changed it last.
    changed: i64,
    /// `None` if the data is ill-formed: the node gets no calls.
    endpoint: Option<Endpoint>,
}

impl Listing {
    pub(crate) const fn new(service: String) -> Self {
        Self { service, nodes: BTreeMap::new(), log: LogThrottle::new() }
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Keeps only the nodes with these names.
    pub(crate) fn keep(&mut self, names: &[String]) {
        let names: std::collections::HashSet<&str> = names.iter().map(|name| &**name).collect();
        self.nodes.retain(|name, _| names.contains(&**name));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Puts the data of a node there, as of the transactions that created and changed it.
    pub(crate) fn put(&mut self, name: &str, data: &[u8], created: i64, changed: i64) {
        if self.nodes.get(name).is_some_and(|known| (known.created, known.changed) == (created, changed)) {
            return;
        }
        let endpoint = match self.instance(name, data) {
            Ok(instance) => Some(instance.endpoint(AdvertisedState::Up)),
            Err(reason) => {
                if let Some(line) = self.log.permit() {
                    let (node, suppressed) = (excerpt(name, MAX_SHOWN), line.suppressed);
                    warn!(node, reason, suppressed, "a node of ZooKeeper holds no instance; it is left out");
                }
                None
            }
        };
        self.nodes.insert(name.to_owned(), Node { created, changed, endpoint });
    }

    /// Returns the endpoints, the last created first: of several with one address that one counts.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        nodes.sort_by_key(|node| Reverse(node.created));
        nodes.into_iter().filter_map(|node| node.endpoint.clone()).collect()
    }

    /// Returns the instance in the data of a node, whose path tells its service and its id.
    fn instance(&self, name: &str, data: &[u8]) -> Result<Instance, String> {
        if data.len() > MAX_DATA_BYTES {
            return Err(format!("it has {} bytes; at most {MAX_DATA_BYTES} are read", data.len()));
        }
        let mut instance: Instance = serde_json::from_slice(data).map_err(|error| parse_error(&error))?;
        self.service.clone_into(&mut instance.service);
        instance.id = id_of(name);
        instance.check().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(listing: &Listing) -> Vec<String> {
        listing.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn last_registered_of_one_address_is_first() {
        let mut listing = Listing::new("Arith".to_owned());
        listing.put("a#1", br#"{"addr":"h:1","weight":1}"#, 5, 5);
        listing.put("a#2", br#"{"addr":"h:1","weight":2}"#, 9, 9);
        listing.put("b#1", br#"{"addr":"h:2"}"#, 7, 7);
        let weights: Vec<_> = listing.endpoints().iter().map(|endpoint| endpoint.weight).collect();
        assert_eq!(weights, [2, 100, 1]);
        listing.put("a#2", br#"{"addr":"h:1","weight":3}"#, 9, 10);
        assert_eq!(listing.endpoints()[0].weight, 3);
        listing.remove("a#2");
        assert_eq!(addresses(&listing), ["tcp@h:2", "tcp@h:1"]);
        listing.keep(&["a#1".to_owned()]);
        assert_eq!((addresses(&listing), listing.len()), (vec!["tcp@h:1".to_owned()], 1));
    }

    #[test]
    fn malformed_data_leaves_out_only_its_own_node() {
        let long = format!(r#"{{"addr":"h:1","version":"{}"}}"#, "x".repeat(MAX_DATA_BYTES));
        for wrong in ["", "nothing", "{}", r#"{"addr":"0.0.0.0:1"}"#, r#"{"addr":"h:1","zone":"a b"}"#, &long]
        {
            let mut listing = Listing::new("Arith".to_owned());
            listing.put("a", wrong.as_bytes(), 1, 1);
            listing.put("b", br#"{"addr":"h:2","service":"other","id":"other"}"#, 2, 2);
            assert_eq!(addresses(&listing), ["tcp@h:2"], "{wrong}");
            listing.put("a", br#"{"addr":"h:1"}"#, 1, 3);
            assert_eq!(addresses(&listing), ["tcp@h:2", "tcp@h:1"], "{wrong}");
        }
    }
}
