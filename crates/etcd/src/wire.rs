//! etcd's messages in the JSON of its gateway: the requests, and the used fields of the answers.
//!
//! Keys and values are base64, numbers of 64 bits are strings, and fields that have their default
//! are left out of the answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

/// A number, as a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Int64(pub(crate) i64);

/// The header of each answer. An answer without it is not etcd's.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    /// The number of changes that the store has seen.
    #[serde(default)]
    pub(crate) revision: Int64,
}

/// An answer of which nothing but its header is of use.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {
    #[serde(rename = "header")]
    _header: Header,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct RangeRequest {
    pub(crate) key: Base64,
    /// Without one, the key alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range_end: Option<Base64>,
    /// 0: no limit.
    pub(crate) limit: Int64,
    /// As of when; 0: now.
    pub(crate) revision: Int64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sort_target: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sort_order: Option<&'static str>,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RangeAnswer {
    pub(crate) header: Header,
    #[serde(default)]
    pub(crate) kvs: Vec<KeyValue>,
    #[serde(default)]
    pub(crate) more: bool,
    /// The number of keys, regardless of the limit.
    #[serde(default)]
    pub(crate) count: Int64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KeyValue {
    pub(crate) key: Base64,
    #[serde(default)]
    pub(crate) mod_revision: Int64,
    #[serde(default)]
    pub(crate) value: Base64,
}

#[derive(Debug, Serialize)]
pub(crate) struct PutRequest {
    pub(crate) key: Base64,
    pub(crate) value: Base64,
    pub(crate) lease: Int64,
    /// Keeps the lease that the key has; `lease` is 0 then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ignore_lease: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct DeleteRequest {
    pub(crate) key: Base64,
}

#[derive(Debug, Serialize)]
pub(crate) struct LeaseGrantRequest {
    /// In seconds.
    #[serde(rename = "TTL")]
    pub(crate) ttl: Int64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LeaseGrantAnswer {
    #[serde(rename = "ID")]
    pub(crate) id: Int64,
    /// In seconds; it may be more than was requested.
    #[serde(rename = "TTL")]
    pub(crate) ttl: Int64,
}

/// Renews or revokes.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseRequest {
    #[serde(rename = "ID")]
    pub(crate) id: Int64,
}

/// The one message of the stream that a renewal is for etcd.
#[derive(Debug, Deserialize)]
pub(crate) struct LeaseKeepAliveAnswer {
    pub(crate) result: LeaseKeptAlive,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LeaseKeptAlive {
    #[serde(rename = "header")]
    _header: Header,
    /// In seconds; 0, which is left out, where there is no such lease.
    #[serde(rename = "TTL", default)]
    pub(crate) ttl: Int64,
}

#[derive(Debug, Serialize)]
pub(crate) struct AuthenticateRequest<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuthenticateAnswer {
    pub(crate) token: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct WatchRequest {
    pub(crate) create_request: WatchCreateRequest,
}

#[derive(Debug, Serialize)]
pub(crate) struct WatchCreateRequest {
    pub(crate) key: Base64,
    pub(crate) range_end: Base64,
    /// The revision of the first change to report.
    pub(crate) start_revision: Int64,
    /// Requests a message now and then while nothing changes: every ten minutes, if etcd is not configured otherwise.
    pub(crate) progress_notify: bool,
    /// Large batches come in several messages.
    pub(crate) fragment: bool,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct WatchLine {
    pub(crate) result: Option<WatchMessage>,
    /// A sentence, or an object with one.
    pub(crate) error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WatchMessage {
    pub(crate) header: Header,
    /// `true` in the first message, which confirms the watch and has no change yet.
    #[serde(default)]
    pub(crate) created: bool,
    /// The last message.
    #[serde(default)]
    pub(crate) canceled: bool,
    /// The oldest revision that is left, if that is the reason: changes up to here are forgotten.
    #[serde(default)]
    pub(crate) compact_revision: Int64,
    #[serde(default)]
    pub(crate) cancel_reason: String,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type", default)]
    pub(crate) kind: EventKind,
    pub(crate) kv: KeyValue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EventKind {
    #[default]
    Put,
    Delete,
}

/// The body of an error, of which versions of etcd have several forms.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorAnswer {
    #[serde(default)]
    pub(crate) error: serde_json::Value,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    code: Option<i64>,
}

impl From<&str> for Base64 {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Base64 {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Numbers are read, too: gateways that are set up differently write them so.
impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => text.parse().map(Self).map_err(D::Error::custom),
        }
    }
}

impl ErrorAnswer {
    /// gRPC's code: that of the answer, or of the object in its `error` field.
    pub(crate) fn code(&self) -> Option<i64> {
        self.code
            .or_else(|| self.error.get("grpc_code")?.as_i64())
            .or_else(|| self.error.get("code")?.as_i64())
    }

    /// The sentence in an `error` field.
    pub(crate) fn sentence(error: &serde_json::Value) -> Option<&str> {
        error.as_str().or_else(|| error.get("message")?.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_64_bits_are_strings_and_keys_base64() {
        let request =
            PutRequest { key: "/a".into(), value: "é".into(), lease: Int64(i64::MAX), ignore_lease: false };
        let expected = json!({"key": "L2E=", "value": "w6k=", "lease": "9223372036854775807"});
        assert_eq!(serde_json::to_value(request).unwrap(), expected);
    }

    #[test]
    fn answer_without_a_header_is_not_etcds() {
        assert!(serde_json::from_str::<RangeAnswer>("{}").is_err());
        let empty: RangeAnswer = serde_json::from_value(json!({"header": {"revision": "7"}})).unwrap();
        assert_eq!((empty.header.revision, empty.kvs.len(), empty.more), (Int64(7), 0, false));
    }

    #[test]
    fn missing_fields_have_defaults() {
        let answer: LeaseKeepAliveAnswer =
            serde_json::from_value(json!({"result": {"header": {"revision": "1"}, "ID": "123"}})).unwrap();
        assert_eq!(answer.result.ttl, Int64(0), "a lease that is not known");
        let event: Event = serde_json::from_value(json!({"kv": {"key": "L2E=", "mod_revision": 3}})).unwrap();
        assert_eq!((event.kind, event.kv.mod_revision), (EventKind::Put, Int64(3)));
    }
}
