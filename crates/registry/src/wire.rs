//! What the registry and its clients say to each other as JSON: bodies, answers, the data of events.
//!
//! The names of headers are here too; paths, statuses and when what is sent are the server's and the
//! client's. What a server registers is an [`Instance`]. Readers ignore fields that they don't know,
//! so that fields can be added.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farcall_discovery::{Endpoint, Instance, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Every answer: [`Answer::epoch`].
pub const EPOCH: &str = "x-farcall-epoch";
/// Every answer: the newest revision, over all services.
pub const REV: &str = "x-farcall-rev";
/// `1` while the registry is warming: see [`Answer::warming`].
pub const WARMING: &str = "x-farcall-warming";
/// Simple interface, `POST`: the address to register.
pub const SERVER: &str = "x-farcall-server";
/// Simple interface, `POST`: the service; none is the plain list.
pub const SERVICE: &str = "x-farcall-service";
/// Simple interface, `POST`: the weight.
pub const WEIGHT: &str = "x-farcall-weight";
/// Simple interface, `POST`: the zone.
pub const ZONE: &str = "x-farcall-zone";
/// Simple interface, `POST`: the version.
pub const VERSION: &str = "x-farcall-version";
/// Simple interface, `POST`: the time to live in milliseconds.
pub const TTL_MS: &str = "x-farcall-ttl-ms";
/// Simple interface, `GET`: the addresses, with commas between.
pub const SERVERS: &str = "x-farcall-servers";
/// Simple interface, `GET`: how many there are.
pub const SERVER_COUNT: &str = "x-farcall-server-count";
/// Simple interface, `GET`: `1` where [`SERVERS`] would be too long, and is left out.
pub const SERVERS_OMITTED: &str = "x-farcall-servers-omitted";

/// The name of the plain list of servers, the service `""`, in paths.
pub const PLAIN_LIST: &str = "~";

/// The names of the events of `GET /v1/watch`, as they stand after `event:`.
pub mod event {
    /// Everything that is watched, in place of all that was said before; data:
    /// [`Snapshot`](super::Snapshot). It comes first, after [`RESYNC`], and when warming ends.
    pub const SNAPSHOT: &str = "snapshot";
    /// An instance is new or changed; data: [`Put`](super::Put).
    pub const PUT: &str = "put";
    /// An instance is gone; data: [`Delete`](super::Delete).
    pub const DELETE: &str = "delete";
    /// Events were lost, a snapshot follows at once; data: [`Resync`](super::Resync).
    pub const RESYNC: &str = "resync";
}

/// What every JSON object of the registry carries, in one object with `body`'s fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// Chosen at random when the registry starts: revisions of different epochs do not compare.
    pub epoch: String,
    /// The revision that this is true of. A list's is that of its last change, so that it can be
    /// given to a long poll; any other answer's is the newest over all services.
    pub rev: u64,
    /// The registry started without knowing what was registered before: what is missing may be up.
    /// Left out where it is not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub warming: bool,
    /// The rest of the object.
    #[serde(flatten)]
    pub body: T,
}

/// The answer to a registration and to one heartbeat. Sent as `Answer<Registration>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// How long the instance stays without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// How long to wait before the next heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
}

/// `GET .../instances/{id}` and the answer to `PATCH`: one instance, the registry's epoch beside it.
/// The `rev` in it is the instance's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct One {
    /// See [`Answer::epoch`].
    pub epoch: String,
    /// See [`Answer::warming`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub warming: bool,
    /// The instance.
    #[serde(flatten)]
    pub listed: Listed,
}

/// An instance as the registry knows it: in lists, in events, and in [`One`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What its server registered, with what an operator overrode in place: `weight` is the one that
    /// counts, and `ttl_ms` is always there.
    #[serde(flatten)]
    pub instance: Instance,
    /// How it is.
    pub state: State,
    /// The revision of its last change.
    pub rev: u64,
    /// When it was registered; heartbeats and later registrations don't move it.
    pub registered_at: Timestamp,
    /// When it was last heard of. Only where one instance is asked for,
    /// and in lists with `include=last_seen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// What an operator set, where there is anything.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

impl Listed {
    /// The endpoint that a client sees of it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.instance.endpoint(self.state)
    }
}

/// What an operator set by `PATCH`; it lies on top of what the server registers and outlives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// True: it gets no further calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
    /// The weight in place of the registered one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

impl Overrides {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The body of `PATCH`: a field that is left out stays as it is, `null` takes the override back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// See [`Overrides::drain`].
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub drain: Option<Option<bool>>,
    /// See [`Overrides::weight`].
    #[serde(default, with = "present", skip_serializing_if = "Option::is_none")]
    pub weight: Option<Option<u16>>,
}

/// Keeps apart a field that is `null` and one that is left out.
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

/// `GET /v1/services/{s}/instances`, sent as `Answer<Instances>`; sorted by id. Query: `zone=NAME`;
/// `include=stale`, `include=last_seen` or `include=stale,last_seen`. Without `include=stale`, those
/// that are stale are there only where no instance is up with a weight above zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances<L = Listed> {
    /// Those asked for.
    pub instances: Vec<L>,
}

/// `GET /v1/services`, sent as `Answer<Services>`; sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Those that have instances.
    pub services: Vec<Service>,
}

/// A service in the list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; `""` is the plain list of servers, `~` in paths.
    pub name: String,
    /// How many instances it has, in whatever state.
    pub instances: usize,
    /// How many of them are up.
    pub up: usize,
    /// How many of them are draining.
    pub draining: usize,
    /// How many of them are stale.
    pub stale: usize,
    /// The revision of the last change of its list.
    pub rev: u64,
}

/// The body of `POST /v1/heartbeats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeats {
    /// Who lives on.
    pub instances: Vec<Name>,
}

/// An instance, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// The service; `""` is the plain list.
    #[serde(default)]
    pub service: String,
    /// The id.
    pub id: String,
}

/// The answer to `POST /v1/heartbeats`, sent as `Answer<Renewed>` with status 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// How many were renewed.
    pub renewed: usize,
    /// Those that are not known, and have to register again.
    pub unknown: Vec<Name>,
    /// How long to wait before the next heartbeats, in milliseconds: the shortest time of those
    /// that were renewed, the registry's own where there is none.
    pub heartbeat_ms: u64,
}

/// Data of `event: snapshot`, sent as `Answer<Snapshot>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot<L = Listed> {
    /// The service that is watched; none, when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// All instances in whatever state, sorted by service and id.
    pub instances: Vec<L>,
}

/// Data of `event: put`, sent as `Answer<Put>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put<L = Listed> {
    /// The service.
    pub service: String,
    /// The instance as it is now.
    pub instance: L,
}

/// Data of `event: delete`, sent as `Answer<Delete>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The service.
    pub service: String,
    /// The instance.
    pub id: String,
    /// Why it is gone.
    pub cause: Cause,
}

/// Why an instance is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// It was taken away by `DELETE`.
    Deleted,
    /// Nothing was heard of it for its time to live.
    Expired,
}

/// Data of `event: resync`, sent as `Answer<Resync>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// What happened, for people.
    pub reason: String,
}

/// The body of every error, sent as `Answer<Failure>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was wrong, and where.
    pub error: String,
}

/// `GET /v1/status`, sent as `Answer<Status>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the registry.
    pub version: String,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// What there is.
    pub counts: Counts,
    /// What is allowed.
    pub limits: Limits,
    /// The file that the registry would start from again; none, where it keeps no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotFile>,
}

/// How many of what there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Services with instances.
    pub services: usize,
    /// Instances in whatever state.
    pub instances: usize,
    /// Instances that are up.
    pub up: usize,
    /// Instances that are draining.
    pub draining: usize,
    /// Instances that are stale.
    pub stale: usize,
    /// Open watches and long polls.
    pub watchers: usize,
}

/// The registry's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The time to live of instances that ask for none, in milliseconds.
    pub ttl_ms: u64,
    /// The time between heartbeats of instances that ask for no time to live, in milliseconds.
    pub heartbeat_ms: u64,
    /// The most instances.
    pub max_instances: usize,
    /// The most watches and long polls at once.
    pub max_watchers: usize,
    /// The largest body of a request, in bytes; that of `POST /v1/heartbeats` may be larger.
    pub max_body_bytes: usize,
}

/// How the snapshot on disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When it was last written; none, if not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// How many writes failed since the start.
    pub failures: u64,
}

/// A moment by the registry's clock, to the millisecond. As JSON it is RFC 3339 in UTC,
/// `2031-04-05T06:07:08.009Z`. It is for people: no expiry is counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }
}

/// What is before 1970 becomes that year's begin, and parts of milliseconds are cut off.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // 9999 is the last year that the text can say.
        const LAST_MILLI: u64 = 253_402_300_799_999;
        let millis = u64::try_from(millis).unwrap_or(LAST_MILLI).min(LAST_MILLI);
        Self(UNIX_EPOCH + Duration::from_millis(millis))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self::from).map_err(serde::de::Error::custom)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_override_taken_back_is_not_one_left_out() {
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
    fn a_timestamp_is_text_to_the_millisecond() {
        let text = json!("2031-04-05T06:07:08.009Z");
        let time: Timestamp = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(time).unwrap(), text);
        // Clocks that are far off make no text that nobody reads.
        for time in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
            let text = serde_json::to_value(Timestamp::from(time)).unwrap();
            assert_eq!(serde_json::from_value::<Timestamp>(text).unwrap(), Timestamp::from(time));
        }
    }

    #[test]
    fn answers_and_instances_are_flat_objects() {
        let text = json!({"epoch": "e", "rev": 7, "instances": [{
            "service": "A", "id": "i", "addr": "tcp@10.0.0.1:1", "weight": 100, "ttl_ms": 1000,
            "state": "up", "rev": 5, "registered_at": "2031-04-05T06:07:08.009Z"
        }]});
        let list: Answer<Instances> = serde_json::from_value(text.clone()).unwrap();
        assert_eq!((list.rev, list.body.instances[0].rev, list.warming), (7, 5, false));
        assert_eq!(serde_json::to_value(list).unwrap(), text);
    }
}
