//! The JSON that the registry and its clients exchange: bodies and the data of events; also the names of headers.
//!
//! Paths, statuses and the order of messages are left to the server and the client. A server registers an
//! [`Instance`]. Readers ignore fields that they don't know, so that fields can be added.

mod timestamp;
mod token;

use farcall_discovery::{AdvertisedState, Endpoint, Instance};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::timestamp::Timestamp;
pub use self::token::{RegistrationToken, RegistrationTokenError};

/// Response header of every request: [`Envelope::epoch`].
pub const EPOCH: &str = "x-farcall-epoch";
/// Response header of every request: the newest revision of all services.
pub const REV: &str = "x-farcall-rev";
/// Response header: `1` while the registry is warming; see [`Envelope::warming`].
pub const WARMING: &str = "x-farcall-warming";
/// Request header: the [`RegistrationToken`] of the registration that is made, renewed or ended. Bodies may have it as
/// `token` instead.
pub const TOKEN: &str = "x-farcall-token";
/// Simple interface, `POST`: the address to register.
pub const SERVER: &str = "x-farcall-server";
/// Simple interface, `POST`: the service; without it, the plain list.
pub const SERVICE: &str = "x-farcall-service";
/// Simple interface, `POST`: the weight.
pub const WEIGHT: &str = "x-farcall-weight";
/// Simple interface, `POST`: the zone.
pub const ZONE: &str = "x-farcall-zone";
/// Simple interface, `POST`: the version.
pub const VERSION: &str = "x-farcall-version";
/// Simple interface, `POST`: the time to live in milliseconds.
pub const TTL_MS: &str = "x-farcall-ttl-ms";
/// Simple interface, `GET`: the addresses, separated by commas.
pub const SERVERS: &str = "x-farcall-servers";
/// Simple interface, `GET`: the number of addresses.
pub const SERVER_COUNT: &str = "x-farcall-server-count";
/// Simple interface, `GET`: `1` if [`SERVERS`] would be too long and is omitted.
pub const SERVERS_OMITTED: &str = "x-farcall-servers-omitted";

/// The name in paths of the plain list of servers, the service `""`.
pub const PLAIN_LIST: &str = "~";

/// The names of the events of `GET /v1/watch`, as sent after `event:`.
pub mod event {
    /// All watched instances, replacing those sent before; data: [`Snapshot`](super::Snapshot). Sent first,
    /// after [`RESYNC`], and when warming ends.
    pub const SNAPSHOT: &str = "snapshot";
    /// An instance is new or changed; data: [`Put`](super::Put).
    pub const PUT: &str = "put";
    /// An instance is gone; data: [`Delete`](super::Delete).
    pub const DELETE: &str = "delete";
    /// Events were lost, and a snapshot follows; data: [`Resync`](super::Resync).
    pub const RESYNC: &str = "resync";
}

/// The fields that every JSON object of the registry has, in one object with the fields of `body`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Envelope<T> {
    /// The registry's epoch, chosen at random when it starts: revisions of different epochs do not compare.
    pub epoch: String,
    /// The revision of the body. A list's is that of its last change, which a long poll takes; any other
    /// body's is the newest of all services.
    pub rev: u64,
    /// `true` if the registry has started without a snapshot a moment ago: missing instances may be up. Omitted
    /// if `false`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub warming: bool,
    /// The other fields of the object.
    #[serde(flatten)]
    pub body: T,
}

/// The response to a registration and to one heartbeat, sent as `Envelope<Registration>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registration {
    /// The token that renewals and the removal of this registration carry. Omitted in the response to a heartbeat
    /// without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<RegistrationToken>,
    /// The time that the instance stays registered without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// The time until the next heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
}

/// The response to `GET .../instances/{id}` and to `PATCH`: one instance, and the registry's epoch. Its `rev`
/// is that of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceBody {
    /// See [`Envelope::epoch`].
    pub epoch: String,
    /// See [`Envelope::warming`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub warming: bool,
    /// The instance.
    #[serde(flatten)]
    pub record: InstanceRecord,
}

/// An instance as the registry returns it: in lists, in events, and in [`InstanceBody`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceRecord {
    /// The instance as its server registered it, with overrides applied. `ttl_ms` is always set.
    #[serde(flatten)]
    pub instance: Instance,
    /// The instance's state.
    pub state: AdvertisedState,
    /// The revision of its last change.
    pub rev: u64,
    /// The time of the first registration; heartbeats and later registrations don't change it.
    pub registered_at: Timestamp,
    /// The time of the last heartbeat or registration. Only in the response for one instance, and in lists with
    /// `include=last_seen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// The operator's overrides, if any.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

impl InstanceRecord {
    /// Returns the endpoint that clients use.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.instance.endpoint(self.state)
    }
}

/// An operator's overrides, set by `PATCH`. They apply over what the server registers, and outlive it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Overrides {
    /// `true` if the instance gets no further calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
    /// The weight that replaces the registered one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

impl Overrides {
    /// Returns `true` if nothing is overridden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The body of `PATCH`: an omitted field leaves its override as it is, `null` removes it.
///
/// ```
/// use farcall_registry::wire::Patch;
///
/// let patch = Patch::default().drain(true).clear_weight();
/// assert_eq!(serde_json::to_string(&patch)?, r#"{"drain":true,"weight":null}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Patch {
    /// See [`Overrides::drain`].
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub drain: Option<Option<bool>>,
    /// See [`Overrides::weight`].
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub weight: Option<Option<u16>>,
}

impl Patch {
    /// Overrides whether the instance is drained.
    #[must_use]
    pub const fn drain(mut self, drain: bool) -> Self {
        self.drain = Some(Some(drain));
        self
    }

    /// Removes the override of `drain`.
    #[must_use]
    pub const fn clear_drain(mut self) -> Self {
        self.drain = Some(None);
        self
    }

    /// Overrides the weight.
    #[must_use]
    pub const fn weight(mut self, weight: u16) -> Self {
        self.weight = Some(Some(weight));
        self
    }

    /// Removes the override of the weight.
    #[must_use]
    pub const fn clear_weight(mut self) -> Self {
        self.weight = Some(None);
        self
    }
}

/// Distinguishes a field that is `null` from one that is omitted.
mod present {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

/// The response to `GET /v1/services/{s}/instances`, sent as `Envelope<Instances>`; sorted by id. Query:
/// `zone=NAME`; `include=stale`, `include=last_seen` or `include=stale,last_seen`. Without `include=stale`,
/// stale instances are listed only if no instance is up with a weight above zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Instances<L = InstanceRecord> {
    /// The instances that the query selects.
    pub instances: Vec<L>,
}

/// The response to `GET /v1/services`, sent as `Envelope<Services>`; sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Services {
    /// The services that have instances.
    pub services: Vec<ServiceSummary>,
}

/// A service in the list of services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSummary {
    /// The service's name; `""` is the plain list of servers, `~` in paths.
    pub name: String,
    /// The number of instances in any state.
    pub instances: usize,
    /// The number of instances that are up.
    pub up: usize,
    /// The number of instances that are draining.
    pub draining: usize,
    /// The number of instances that are stale.
    pub stale: usize,
    /// The revision of the last change of its list.
    pub rev: u64,
}

/// The body of `POST /v1/heartbeats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeats {
    /// The instances to renew.
    pub instances: Vec<Heartbeat>,
}

/// One heartbeat of `POST /v1/heartbeats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The service; `""` or null is the plain list.
    #[serde(default, deserialize_with = "or_default")]
    pub service: String,
    /// The instance's id.
    pub id: String,
    /// The token of the registration that is renewed. Without one, what was registered without tokens is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<RegistrationToken>,
}

/// Reads null like a field that is left out.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The name of an instance: its service and id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceName {
    /// The service; `""` is the plain list.
    #[serde(default)]
    pub service: String,
    /// The id.
    pub id: String,
}

/// The response to `POST /v1/heartbeats`, sent as `Envelope<HeartbeatsReply>` with status 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeartbeatsReply {
    /// The number of instances that were renewed.
    pub renewed: usize,
    /// The instances that the registry does not know, and that must register again.
    pub unknown: Vec<InstanceName>,
    /// The time until the next heartbeats, in milliseconds: the shortest of the renewed instances, or the
    /// registry's default if none was renewed.
    pub heartbeat_ms: u64,
}

/// The data of `event: snapshot`, sent as `Envelope<Snapshot>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot<L = InstanceRecord> {
    /// The service that is watched; `None` if all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// All instances in any state, sorted by service and id.
    pub instances: Vec<L>,
}

/// The data of `event: put`, sent as `Envelope<Put>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Put<L = InstanceRecord> {
    /// The service.
    pub service: String,
    /// The instance as it is now.
    pub instance: L,
}

/// The data of `event: delete`, sent as `Envelope<Delete>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delete {
    /// The service.
    pub service: String,
    /// The instance's id.
    pub id: String,
    /// The reason for the removal.
    pub cause: Cause,
}

/// The reason for the removal of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cause {
    /// The instance was removed by `DELETE`.
    Deleted,
    /// No heartbeat arrived within its time to live.
    Expired,
}

/// The data of `event: resync`, sent as `Envelope<Resync>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resync {
    /// The reason, for display.
    pub reason: String,
}

/// The body of every error response, sent as `Envelope<ErrorBody>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    /// The error, for display.
    pub error: String,
}

/// The response to `GET /v1/status`, sent as `Envelope<Status>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The registry's version.
    pub version: String,
    /// The time since the registry started, in milliseconds.
    pub uptime_ms: u64,
    /// The numbers of services, instances and watchers.
    pub counts: Counts,
    /// The registry's settings.
    pub limits: Limits,
    /// The state of the snapshot file; `None` if the registry has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotStatus>,
}

/// The numbers of services, instances and watchers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// The number of services with instances.
    pub services: usize,
    /// The number of instances in any state.
    pub instances: usize,
    /// The number of instances that are up.
    pub up: usize,
    /// The number of instances that are draining.
    pub draining: usize,
    /// The number of instances that are stale.
    pub stale: usize,
    /// The number of open watches and long polls.
    pub watchers: usize,
}

/// The registry's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// The time to live of instances that request none, in milliseconds.
    pub ttl_ms: u64,
    /// The heartbeat interval of instances that request no time to live, in milliseconds.
    pub heartbeat_ms: u64,
    /// The maximum number of instances.
    pub max_instances: usize,
    /// The maximum number of open watches and long polls.
    pub max_watchers: usize,
    /// The maximum size of a request's body, in bytes; that of `POST /v1/heartbeats` may be larger.
    pub max_body_bytes: usize,
}

/// The state of the snapshot file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotStatus {
    /// The time of the last write; `None` if there was none since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// The number of failed writes since the start.
    pub failures: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn removed_override_differs_from_omitted_override() {
        for (patch, text) in [
            (Patch::default(), json!({})),
            (Patch { drain: Some(None), weight: None }, json!({"drain": null})),
            (Patch { drain: Some(Some(true)), weight: Some(None) }, json!({"drain": true, "weight": null})),
        ] {
            assert_eq!(serde_json::to_value(patch).unwrap(), text);
            assert_eq!(serde_json::from_value::<Patch>(text).unwrap(), patch);
        }
    }

    #[test]
    fn null_in_a_heartbeat_is_a_field_that_is_left_out() {
        let read = |beat: serde_json::Value| serde_json::from_value::<Heartbeat>(beat).unwrap();
        let nulls = json!({"service": null, "id": "i", "token": null});
        assert_eq!(read(nulls), read(json!({"id": "i"})));
    }

    #[test]
    fn envelopes_and_instances_are_flat_objects() {
        let text = json!({"epoch": "e", "rev": 7, "instances": [{
            "service": "A", "id": "i", "addr": "tcp@10.0.0.1:1", "weight": 100, "ttl_ms": 1000,
            "state": "up", "rev": 5, "registered_at": "2031-04-05T06:07:08.009Z"
        }]});
        let list: Envelope<Instances> = serde_json::from_value(text.clone()).unwrap();
        assert_eq!((list.rev, list.body.instances[0].rev, list.warming), (7, 5, false));
        assert_eq!(serde_json::to_value(list).unwrap(), text);
    }
}
