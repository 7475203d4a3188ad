//! The open streams of a server and the counts of their items, from its parts.

use std::collections::HashMap;

use farcall_protocol::Seq;
use farcall_protocol::stream::{StreamSnapshot, StreamWait};
use farcall_protocol::time::millis;
use tokio::time::Instant;

use super::streams::{StreamMetrics, StreamOverview};
use crate::call::in_flight::{InFlightCall, InFlightCalls};
use crate::server::connections::ConnectionEntry;
use crate::server::inner::ServerInner;

/// Returns the metrics of a server.
pub(crate) fn metrics(server: &ServerInner) -> StreamMetrics {
    let open = server.connections.list();
    let totals = server.state.stream_counters.totals();
    StreamMetrics {
        open: open.iter().map(|entry| entry.calls.streaming() as u64).sum::<u64>()
            + server.local_calls.calls.streaming() as u64,
        items_sent: totals.sent.items,
        bytes_sent: totals.sent.bytes,
        items_received: totals.received.items,
        bytes_received: totals.received.bytes,
        stalls: totals.stalls,
    }
}

/// Returns the open streams of a connection, in the order of their calls.
pub(super) fn streams_of(entry: &ConnectionEntry, now: Instant) -> Vec<StreamOverview> {
    let Some(streams) = entry.calls.streams() else { return Vec::new() };
    let mut snapshots = streams.snapshot();
    let calls = entry.calls.list_streams();
    snapshots.retain(|snapshot| calls.contains_key(&snapshot.seq));
    snapshots.iter().filter_map(|snapshot| Some(overview(snapshot, calls.get(&snapshot.seq)?, now))).collect()
}

/// Returns the open streams of calls that came over no connection.
pub(super) fn local_streams(calls: &InFlightCalls, now: Instant) -> Vec<StreamOverview> {
    let streaming = calls.list_streams();
    let overview = |call: &InFlightCall| Some(overview(&call.stream.as_ref()?.snapshot()?, call, now));
    streaming.values().filter_map(overview).collect()
}

/// Returns the number of streaming calls of the peer with the most, of those that came over no connection.
pub(super) fn max_of_one_peer(calls: &InFlightCalls) -> usize {
    let streaming = calls.list_streams();
    let mut counts = HashMap::<_, usize>::new();
    for call in streaming.values() {
        *counts.entry(call.from.peer_key()).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

fn overview(snapshot: &StreamSnapshot, call: &InFlightCall, now: Instant) -> StreamOverview {
    let Seq(seq) = snapshot.seq;
    StreamOverview {
        method: call.method.name.clone(),
        peer: call.from.peer.clone(),
        connection: call.from.id,
        seq,
        age_ms: millis(now - call.arrived),
        items_sent: snapshot.sent.items,
        bytes_sent: snapshot.sent.bytes,
        items_received: snapshot.received.items,
        bytes_received: snapshot.received.bytes,
        window: call.method.takes_items.then_some(snapshot.receive_window),
        held_bytes: snapshot.held,
        credit: call.method.sends_items.then_some(snapshot.credit),
        queued_bytes: snapshot.queued,
        stalls: snapshot.stalls,
        waits_for: match snapshot.waits_for {
            StreamWait::Application => "handler",
            other => other.name(),
        },
    }
}
