//! [`collect`]: the [`Overview`] of a server, from its parts one after the other.

use std::cmp::Reverse;
use std::time::Duration;

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::time::millis;
use tokio::time::Instant;

use super::collect_streams::{local_streams, max_of_one_peer, metrics as stream_metrics, streams_of};
use super::overview::{CallOverview, ConnectionOverview, LimitOverview, Overview, RegistrationOverview};
use crate::call::in_flight::{InFlightCall, LOCAL_CONNECTION_ID};
use crate::connection::stats::Traffic;
use crate::server::connections::{ConnectionEntry, PeerMaximum};
use crate::server::inner::ServerInner;
use crate::server::state::ServerState;

/// Takes a snapshot of a server.
pub(crate) fn collect(server: &ServerInner) -> Overview {
    let ServerInner { state, connections, local_calls, history, addresses, .. } = server;
    let now = Instant::now();
    let open = connections.list();
    let mut calls: Vec<_> = open.iter().flat_map(|entry| entry.calls.list()).collect();
    calls.extend(local_calls.calls.list());
    calls.sort_by_key(|call| call.arrived);
    calls.truncate(Overview::MAX_CALLS);
    let mut streams: Vec<_> = open.iter().flat_map(|entry| streams_of(entry, now)).collect();
    streams.extend(local_streams(&local_calls.calls, now));
    streams.sort_by_key(|stream| Reverse(stream.age_ms));
    streams.truncate(Overview::MAX_STREAMS);
    let usage = Usage {
        connections: open.len(),
        of_one_peer: connections.max_of_one_peer(),
        of_one_connection: open.iter().map(|entry| entry.calls.in_flight()).max().unwrap_or(0),
        streams_of_one_connection: open
            .iter()
            .map(|entry| entry.calls.streaming())
            .max()
            .unwrap_or(0)
            .max(max_of_one_peer(&local_calls.calls)),
        bytes_of_one_connection: open.iter().map(|entry| entry.calls.memory().used()).max().unwrap_or(0),
        in_flight: server.in_flight(),
        buffered_bytes: state.memory.used(),
    };
    let mut shown: Vec<_> = open.iter().map(|entry| connection_overview(entry, now)).collect();
    shown.sort_by_key(|shown| (Reverse(shown.in_flight), Reverse(shown.calls), shown.id));
    shown.truncate(Overview::MAX_CONNECTIONS);
    // Before the maxima, which limit the percentiles.
    let metrics = state.router.metrics();
    let stats = state.router.stats();
    let max_us = |name: &str| {
        let found = stats.binary_search_by(|stats| stats.name.as_str().cmp(name));
        found.map_or(0, |index| stats[index].max_us)
    };
    Overview {
        health: state.router.health(),
        uptime_s: history.age().as_secs_f64(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        registrations: registration_overviews(server),
        services: state.router.services().to_vec(),
        methods: history.overview(metrics, max_us),
        calls: calls.iter().map(|call| call_overview(call, now)).collect(),
        streams,
        stream_metrics: stream_metrics(server),
        connections: shown,
        slow: state.recent_calls.slow(),
        failed: state.recent_calls.failed(),
        limits: limit_overviews(state, &usage),
        overload: state.overload.as_ref().map(|overload| overload.overview()),
        shed_connections: connections.shed_count(),
    }
}

fn registration_overviews(server: &ServerInner) -> Vec<RegistrationOverview> {
    let registrations = server.registrations.list().into_iter();
    let overviews = registrations.map(|registration| RegistrationOverview {
        service: registration.instance.service.clone(),
        place: registration.place.to_string(),
        address: registration.instance.addr.to_string(),
        state: registration.state.to_string(),
    });
    overviews.collect()
}

fn call_overview(call: &InFlightCall, now: Instant) -> CallOverview {
    CallOverview {
        method: call.method.name.clone(),
        age_ms: millis(now - call.arrived),
        remaining_ms: call.deadline.map(|deadline| millis(deadline - now)),
        peer: call.from.peer.clone(),
        caller: identity_name(&call.from),
        connection: Some(call.from.id).filter(|&id| id != LOCAL_CONNECTION_ID),
    }
}

fn connection_overview(entry: &ConnectionEntry, now: Instant) -> ConnectionOverview {
    let ConnectionEntry { id, calls, stats } = entry;
    let handshake = stats.handshake();
    let Traffic { received, sent, calls: requests } = stats.traffic();
    ConnectionOverview {
        id: *id,
        peer: stats.peer.clone(),
        scheme: stats.scheme.map_or("memory", |scheme| scheme.as_str()),
        codec: handshake.map(|(codec, _)| codec.name().to_owned()),
        caller: handshake.and_then(|(_, info)| identity_name(info)),
        age_ms: millis(now - stats.accepted),
        in_flight: calls.all_in_flight(),
        buffered_bytes: calls.memory().used(),
        calls: requests,
        received_bytes: received,
        sent_bytes: sent,
    }
}

fn identity_name(info: &ConnectionInfo) -> Option<String> {
    info.identity.as_ref().map(Identity::name).map(str::to_owned)
}

/// The current usage of the limits.
struct Usage {
    connections: usize,
    of_one_peer: PeerMaximum,
    /// Calls in flight on the connection that has most.
    of_one_connection: usize,
    /// Streaming calls in flight on the connection that has most.
    streams_of_one_connection: usize,
    /// Bytes of the connection that holds most.
    bytes_of_one_connection: usize,
    in_flight: usize,
    buffered_bytes: usize,
}

fn limit_overviews(state: &ServerState, usage: &Usage) -> Vec<LimitOverview> {
    let limits = &state.limits;
    let refused = state.refusals();
    let count = |name, unit, used: usize, limit: Option<usize>| LimitOverview {
        name,
        unit,
        used: Some(used as u64),
        limit: limit.map(|limit| limit as u64),
        refused: refused.iter().find(|(limit, _)| *limit == name).map(|(_, count)| *count),
    };
    let bytes = |name, limit: usize| LimitOverview {
        name,
        unit: "bytes",
        used: None,
        limit: Some(limit as u64),
        refused: None,
    };
    let memory = limits.memory();
    let share = |limit: usize| Some(limit).filter(|&limit| limit < usize::MAX);
    let time = |name, limit: Option<Duration>| LimitOverview {
        name,
        unit: "ms",
        used: None,
        limit: limit.map(millis),
        refused: None,
    };
    let mut overviews = vec![
        count("max_connections", "connections", usage.connections, limits.max_connections),
        count(
            "max_connections_per_peer",
            "connections",
            usage.of_one_peer.connections,
            limits.max_connections_per_peer,
        ),
        count("max_in_flight_in_all", "calls", usage.in_flight, limits.max_in_flight_in_all),
        count(
            "max_in_flight_in_all_share",
            "calls",
            usage.of_one_connection.max(usage.streams_of_one_connection),
            limits.max_in_flight_in_all,
        ),
        count("max_in_flight_per_peer", "calls", usage.of_one_peer.calls, limits.calls_per_peer()),
        count("max_in_flight", "calls", usage.of_one_connection, Some(limits.max_in_flight.get())),
        count("max_streams", "calls", usage.streams_of_one_connection, Some(limits.max_streams.get())),
        count("buffered_bytes", "bytes", usage.buffered_bytes, limits.buffered_bytes),
        count("buffered_bytes_per_peer", "bytes", usage.of_one_peer.bytes, share(memory.per_peer)),
        count(
            "buffered_bytes_per_connection",
            "bytes",
            usage.bytes_of_one_connection,
            share(memory.per_connection),
        ),
        bytes("max_frame_bytes", limits.max_frame_bytes.get()),
        bytes("outbox_bytes", limits.outbox_bytes),
        bytes("stream_window", limits.stream_window.get()),
        bytes("max_stream_window", limits.max_stream_window.get()),
        bytes("max_stream_growth", limits.max_stream_growth),
        time("handshake_timeout", limits.handshake_timeout),
        time("handle_timeout", limits.handle_timeout),
        time("frame_timeout", limits.frame_timeout),
        time("write_timeout", limits.write_timeout),
        time("half_close_timeout", limits.half_close_timeout),
        time("stream_stall", limits.stream_stall),
        time("max_connection_age", limits.max_connection_age),
        time("connection_age_grace", limits.connection_age_grace),
        time("keep_alive_idle", Some(limits.keep_alive.idle)),
        time("keep_alive_timeout", Some(limits.keep_alive.timeout)),
        time("drain_timeout", limits.drain_timeout),
    ];
    if let Some(overload) = &state.overload {
        let overload = overload.overview();
        overviews.extend([
            count("adaptive", "calls", overload.running, Some(overload.limit)),
            count("adaptive_queue", "calls", overload.queued, Some(overload.max_queued)),
            count("adaptive_sheddable", "calls", 0, None),
            count("adaptive_deadline", "calls", 0, None),
        ]);
    }
    overviews
}
