//! [`Listing`], what is known of the keys of one service. It knows keys and values; how they are
//! requested is left to the discovery.

use std::collections::BTreeMap;

use farcall_discovery::{AdvertisedState, Endpoint, Instance};
use farcall_protocol::text::parse_error;
use farcall_transport::log::LogThrottle;
use tracing::warn;

use crate::call_error::excerpt;
use crate::keys::Keys;
use crate::wire::{Event, EventKind, KeyValue};

/// The most keys of one service that are read: as many as the registry keeps in all.
pub(crate) const MAX_KEYS: usize = 100_000;
/// The longest value that is looked at. The largest instance allowed takes half of it, were all
/// its bytes written as escapes.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// As much of a key as is kept: more than any instance's. Of others that are longer and begin alike
/// one is kept, so that the list seems to lack some and is read again now and then.
const MAX_KEY_BYTES: usize = 4096;

/// The keys under a service's directory, as of one revision and in their order.
#[derive(Debug)]
pub(crate) struct Listing {
    keys: Keys,
    entries: Entries,
    /// All changes up to here are in it.
    revision: i64,
    log: LogThrottle,
}

pub(crate) type Entries = BTreeMap<Vec<u8>, Entry>;

#[derive(Debug)]
pub(crate) struct Entry {
    mod_revision: i64,
    /// `None` if the value is ill-formed: the key counts, but gets no calls.
    endpoint: Option<Endpoint>,
}

impl Listing {
    pub(crate) const fn new(keys: Keys) -> Self {
        Self { keys, entries: BTreeMap::new(), revision: 0, log: LogThrottle::new() }
    }

    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The revision of the change that was last of those that can be seen in the list.
    pub(crate) fn newest(&self) -> i64 {
        self.entries.values().map(|entry| entry.mod_revision).max().unwrap_or_default()
    }

    /// Returns the endpoints that can be called, in the order of the keys.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.entries.values().filter_map(|entry| entry.endpoint.clone()).collect()
    }

    /// Nothing changed up to this revision, but what is in it already.
    pub(crate) fn nothing_until(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// Parses the values of these keys, with the help of those that are known.
    pub(crate) fn entries(&self, kvs: Vec<KeyValue>) -> impl Iterator<Item = (Vec<u8>, Entry)> {
        kvs.into_iter().map(|kv| {
            let entry = self.entry(&kv);
            (kept(kv.key.0), entry)
        })
    }

    /// Puts all that was read in place of what was known, which it returns.
    pub(crate) fn replace(&mut self, entries: Entries, revision: i64) -> Entries {
        self.revision = revision;
        std::mem::replace(&mut self.entries, entries)
    }

    /// Applies the changes that a watch reports.
    pub(crate) fn apply(&mut self, events: Vec<Event>) {
        for Event { kind, kv } in events {
            self.revision = self.revision.max(kv.mod_revision.0);
            match kind {
                EventKind::Put => {
                    let entry = self.entry(&kv);
                    self.entries.insert(kept(kv.key.0), entry);
                }
                EventKind::Delete => {
                    self.entries.remove(&kept(kv.key.0));
                }
            }
        }
    }

    fn entry(&self, kv: &KeyValue) -> Entry {
        let endpoint = match self.instance(kv) {
            Ok(instance) => Some(instance.endpoint(AdvertisedState::Up)),
            Err(reason) => {
                // Logged once for each value, not each time that it is read.
                let known = self.entries.get(&kv.key.0);
                if known
                    .is_none_or(|known| known.endpoint.is_some() || known.mod_revision != kv.mod_revision.0)
                    && let Some(line) = self.log.permit()
                {
                    let key = excerpt(&String::from_utf8_lossy(&kv.key.0));
                    let suppressed = line.suppressed;
                    warn!(key, reason, suppressed, "a key of etcd holds no instance; it is left out");
                }
                None
            }
        };
        Entry { mod_revision: kv.mod_revision.0, endpoint }
    }

    /// Returns the instance in a value. The key determines its service and id: a value may leave both out.
    fn instance(&self, kv: &KeyValue) -> Result<Instance, String> {
        let id = self.keys.id(&kv.key.0).ok_or("the key ends with no id")?;
        let value = &kv.value.0;
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!("the value has {} bytes; at most {MAX_VALUE_BYTES} are read", value.len()));
        }
        let mut instance: Instance = serde_json::from_slice(value).map_err(|error| parse_error(&error))?;
        instance.service = self.keys.service().to_owned();
        instance.id = id;
        instance.check().map_err(|error| error.to_string())
    }
}

/// The part of a key that it is kept under.
fn kept(mut key: Vec<u8>) -> Vec<u8> {
    key.truncate(MAX_KEY_BYTES);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Base64, Int64};

    fn listing() -> Listing {
        Listing::new(Keys::new("/farcall/v1", "Arith"))
    }

    fn kv(id: &str, mod_revision: i64, value: &str) -> KeyValue {
        let key = format!("/farcall/v1/Arith/{id}").into_bytes();
        KeyValue { key: Base64(key), mod_revision: Int64(mod_revision), value: value.into() }
    }

    fn replace(listing: &mut Listing, all: Vec<KeyValue>, revision: i64) {
        let entries = listing.entries(all).collect();
        listing.replace(entries, revision);
    }

    fn put(id: &str, mod_revision: i64, value: &str) -> Event {
        Event { kind: EventKind::Put, kv: kv(id, mod_revision, value) }
    }

    fn delete(id: &str, mod_revision: i64) -> Event {
        Event { kind: EventKind::Delete, kv: kv(id, mod_revision, "") }
    }

    fn addresses(listing: &Listing) -> Vec<String> {
        listing.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn changes_lead_to_the_same_list_as_reading_it_again() {
        let mut listing = listing();
        replace(&mut listing, vec![kv("a", 2, r#"{"addr":"h:1"}"#), kv("b", 3, r#"{"addr":"h:2"}"#)], 5);
        listing.apply(vec![delete("a", 6)]);
        listing.apply(vec![put("c", 7, r#"{"addr":"h:3","weight":7,"zone":"z"}"#)]);
        assert_eq!(addresses(&listing), ["tcp@h:2", "tcp@h:3"]);
        assert_eq!((listing.revision(), listing.newest(), listing.len()), (7, 7, 2));
        assert_eq!((listing.endpoints()[1].weight, listing.endpoints()[1].zone.as_deref()), (7, Some("z")));

        replace(&mut listing, vec![kv("c", 7, r#"{"addr":"h:3"}"#)], 9);
        assert_eq!(addresses(&listing), ["tcp@h:3"]);
        assert_eq!(listing.revision(), 9);
    }

    #[test]
    fn malformed_value_leaves_out_only_its_own_key() {
        let long = format!(r#"{{"addr":"h:1","version":"{}"}}"#, "x".repeat(MAX_VALUE_BYTES));
        for wrong in [
            "",
            "nothing",
            "[]",
            "{}",
            r#"{"addr":"0.0.0.0:1"}"#,
            r#"{"addr":"h:1","zone":"a b"}"#,
            &long,
            "[[[[",
        ] {
            let mut listing = listing();
            replace(&mut listing, vec![kv("a", 2, wrong), kv("b", 2, r#"{"addr":"h:2"}"#)], 2);
            assert_eq!((addresses(&listing).len(), listing.len()), (1, 2), "{wrong}");
            listing.apply(vec![put("a", 3, r#"{"addr":"h:1"}"#)]);
            assert_eq!(addresses(&listing).len(), 2, "{wrong}");
            listing.apply(vec![put("a", 4, wrong)]);
            assert_eq!(addresses(&listing), ["tcp@h:2"], "{wrong}");
        }
    }

    #[test]
    fn key_determines_service_and_id() {
        let mut listing = listing();
        replace(&mut listing, vec![kv("a", 2, r#"{"addr":"h:1","service":"Text","id":"other"}"#)], 2);
        assert_eq!(addresses(&listing), ["tcp@h:1"]);
    }
}
