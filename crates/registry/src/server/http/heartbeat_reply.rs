//! [`HeartbeatReply`]: the response to `POST /v1/heartbeats`, which is made while the heartbeats are handled.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::response::{self, JSON};
use crate::server::state::RegistryState;
use crate::wire::{Heartbeat, InstanceName};

/// The response so far. It is a [`HeartbeatsReply`](crate::wire::HeartbeatsReply) in an envelope.
#[derive(Debug, Default)]
pub(super) struct HeartbeatReply {
    renewed: usize,
    /// The names of unknown instances as JSON, with commas between them: all of them at the end would take long.
    unknown: Vec<u8>,
    /// The shortest interval of those that were renewed, in milliseconds.
    heartbeat_ms: Option<u64>,
}

/// The fields before the names.
#[derive(Serialize)]
struct Head {
    renewed: usize,
}

impl HeartbeatReply {
    /// Adds the outcomes of these heartbeats: the interval in milliseconds, or `None` for unknown instances.
    pub(super) fn add(&mut self, heartbeats: &[Heartbeat], outcomes: Vec<Option<u64>>) {
        for (heartbeat, interval) in heartbeats.iter().zip(outcomes) {
            if let Some(interval) = interval {
                self.renewed += 1;
                self.heartbeat_ms = self.heartbeat_ms.min(Some(interval)).or(Some(interval));
                continue;
            }
            if !self.unknown.is_empty() {
                self.unknown.push(b',');
            }
            let Heartbeat { service, id, .. } = heartbeat.clone();
            serde_json::to_writer(&mut self.unknown, &InstanceName { service, id })
                .expect("all keys are strings");
        }
    }

    /// Returns the response.
    pub(super) fn response(self, registry: &RegistryState) -> Response {
        let mut json = response::envelope(registry, Head { renewed: self.renewed });
        let end = json.pop();
        debug_assert_eq!(end, Some(b'}'));
        json.extend_from_slice(b",\"unknown\":[");
        json.extend_from_slice(&self.unknown);
        let heartbeat_ms = self.heartbeat_ms.unwrap_or_else(|| registry.default_heartbeat_ms());
        json.extend_from_slice(format!("],\"heartbeat_ms\":{heartbeat_ms}}}").as_bytes());
        ([(CONTENT_TYPE, JSON)], Body::from(json)).into_response()
    }
}
