//! [`Target`], and the list of all targets.

use crate::{
    address, client_session, discovery, gateway, handshake, http_opening, message, registry, registry_http,
    schema, server_session, stream_table, values,
};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target {
    /// The name, which is that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Gives the bytes to what is tested. Panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Returns inputs that get far, from which others are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "option", run: handshake::option, seeds: handshake::option_seeds },
    Target { name: "answer", run: handshake::answer, seeds: handshake::answer_seeds },
    Target { name: "message", run: message::message, seeds: message::message_seeds },
    Target { name: "header", run: message::header, seeds: message::header_seeds },
    Target { name: "stream_table", run: stream_table::run, seeds: stream_table::seeds },
    Target { name: "values", run: values::values, seeds: values::value_seeds },
    Target { name: "compressed", run: values::compressed, seeds: values::compressed_seeds },
    Target { name: "trace", run: address::trace, seeds: address::trace_seeds },
    Target { name: "address", run: address::address, seeds: address::address_seeds },
    Target { name: "proxy", run: address::proxy, seeds: address::proxy_seeds },
    Target { name: "http_opening", run: http_opening::http_opening, seeds: http_opening::opening_seeds },
    Target { name: "websocket", run: http_opening::websocket, seeds: http_opening::websocket_seeds },
    Target { name: "endpoint_file", run: discovery::endpoint_file, seeds: discovery::endpoint_file_seeds },
    Target { name: "instance", run: discovery::instance, seeds: discovery::instance_seeds },
    Target { name: "tokens", run: discovery::tokens, seeds: discovery::token_seeds },
    Target { name: "events", run: registry::events, seeds: registry::event_seeds },
    Target { name: "registry_json", run: registry::json, seeds: registry::json_seeds },
    Target { name: "snapshot", run: registry::snapshot, seeds: registry::snapshot_seeds },
    Target { name: "registry_answer", run: registry_http::answer, seeds: registry_http::answer_seeds },
    Target { name: "registry_request", run: registry_http::request, seeds: registry_http::request_seeds },
    Target { name: "gateway", run: gateway::run, seeds: gateway::seeds },
    Target { name: "schema", run: schema::document, seeds: schema::document_seeds },
    Target { name: "json_schema", run: schema::json_schema, seeds: schema::json_schema_seeds },
    Target { name: "server_session", run: server_session::run, seeds: server_session::seeds },
    Target { name: "client_session", run: client_session::run, seeds: client_session::seeds },
];

/// Returns the target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
