//! The Options on the wire: the JSON objects of both sides. The meaning of their fields is left to the terms.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::STREAMS;
use crate::limits::{MAX_ONCE_STORE_BYTES, MaxFrameBytes, MaxInFlight, StreamWindow};
use crate::object::Object;
use crate::text::{EscapedText, truncate};
use crate::uint::optional;

/// The client's Option on the wire.
#[derive(Serialize, Deserialize)]
pub(super) struct ClientOption {
    #[serde(default, deserialize_with = "optional")]
    pub(super) magic_number: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) version: Option<u64>,
    pub(super) codec_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) connect_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) handle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compression: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) max_frame_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) stream_window: Option<u64>,
}

/// The server's Option on the wire.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ServerOption {
    #[serde(default, deserialize_with = "optional")]
    pub(super) magic_number: Option<u64>,
    #[serde(default, deserialize_with = "optional")]
    pub(super) version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) codec_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) handle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) max_frame_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) max_in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) stream_window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "optional")]
    pub(super) max_streams: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) once_store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) codecs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Object<OptionError>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OptionError {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

pub(super) fn encode(option: &ServerOption) -> Vec<u8> {
    serde_json::to_vec(option).expect("strings and numbers always encode")
}

pub(super) fn from_millis(millis: Option<u64>) -> Option<Duration> {
    millis.filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// Returns the limit of frames that an Option states. 0 says no more than no value does.
pub(super) fn limit(bytes: Option<u64>) -> MaxFrameBytes {
    stated(bytes).map_or(MaxFrameBytes::DEFAULT, MaxFrameBytes::new)
}

/// Returns the limit of calls that an Option states. 0 says no more than no value does.
pub(super) fn in_flight(calls: Option<u64>) -> MaxInFlight {
    stated(calls).map_or(MaxInFlight::DEFAULT, MaxInFlight::new)
}

fn stated(count: Option<u64>) -> Option<usize> {
    count.filter(|count| *count > 0).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

pub(super) fn window(bytes: Option<u64>) -> StreamWindow {
    bytes.map_or(StreamWindow::DEFAULT, StreamWindow::granted)
}

/// Returns the name of a store, cut off where it is too long; `None` if it is empty, which names nothing.
pub(super) fn store_name(name: &str) -> Option<Arc<str>> {
    (!name.is_empty()).then(|| truncate(name, MAX_ONCE_STORE_BYTES).into())
}

/// Returns `true` if `features` has streams in it.
pub(super) fn has_streams(features: Option<&Vec<String>>) -> bool {
    features.is_some_and(|features| features.iter().any(|feature| feature == STREAMS))
}

/// Formats a value that a peer sent, for a message.
pub(super) fn shown(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(
        || "is missing".to_owned(),
        |value| format!("`{}`", EscapedText(truncate(&value.to_string(), 100))),
    )
}
