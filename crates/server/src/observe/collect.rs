//! [`ServerHandle::overview`]: the parts of a server, looked at one after the other.

use std::cmp::Reverse;
use std::time::Duration;

use farcall_context::{ConnectionInfo, Identity};
use tokio::time::Instant;

use crate::call::in_flight::Running;
use crate::call::invocation::INVOKED;
use crate::connection::stats::Traffic;
use crate::limits::Limits;
use crate::observe::overview::{
    CallOverview, ConnectionOverview, LimitOverview, Overview, RegistrationOverview,
};
use crate::server::connections::Open;
use crate::server::{ServerHandle, Shared};

impl ServerHandle {
    /// What the server is doing, and has done lately. It costs some microseconds for each method,
    /// connection and call under way; calls are not held up by it.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let Shared { core, places, invoked, history, addresses, .. } = &*self.shared;
        let now = Instant::now();
        let open = places.list();
        let mut calls: Vec<_> = open.iter().flat_map(|open| open.calls.list()).collect();
        calls.extend(invoked.calls.list());
        calls.sort_by_key(|call| call.arrived);
        calls.truncate(Overview::MOST_CALLS);
        let most_in_flight = open.iter().map(|open| open.calls.running()).max().unwrap_or(0);
        let mut connections: Vec<_> = open.iter().map(|open| show_connection(open, now)).collect();
        connections.sort_by_key(|shown| (Reverse(shown.in_flight), Reverse(shown.calls), shown.id));
        connections.truncate(Overview::MOST_CONNECTIONS);
        // Before what is known of the longest, which cuts them.
        let figures = self.figures();
        let stats = self.stats();
        let max_us = |name: &str| {
            let found = stats.binary_search_by(|stats| stats.name.as_str().cmp(name));
            found.map_or(0, |index| stats[index].max_us)
        };
        let used = Used {
            connections: self.connections(),
            of_one_peer: places.most_of_one_peer(),
            most_in_flight,
            in_flight: self.in_flight(),
            buffered_bytes: self.buffered_bytes(),
        };
        Overview {
            health: self.health(),
            uptime_s: history.age().as_secs_f64(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            registrations: self.show_registrations(),
            services: self.services().to_vec(),
            methods: history.overview(figures, max_us),
            calls: calls.iter().map(|call| show_call(call, now)).collect(),
            connections,
            slow: core.recent.slow(),
            failed: core.recent.failed(),
            limits: show_limits(&core.limits, &used),
        }
    }

    fn show_registrations(&self) -> Vec<RegistrationOverview> {
        let registrations = self.registrations().into_iter();
        let shown = registrations.map(|registration| RegistrationOverview {
            service: registration.instance.service.clone(),
            place: registration.place.to_string(),
            address: registration.instance.addr.to_string(),
            state: registration.state.to_string(),
        });
        shown.collect()
    }
}

fn show_call(call: &Running, now: Instant) -> CallOverview {
    CallOverview {
        method: call.method.name.clone(),
        age_ms: millis(now - call.arrived),
        remaining_ms: call.deadline.map(|deadline| millis(deadline - now)),
        peer: call.from.peer.clone(),
        caller: caller(&call.from),
        connection: Some(call.from.id).filter(|&id| id != INVOKED),
    }
}

fn show_connection(open: &Open, now: Instant) -> ConnectionOverview {
    let Open { id, calls, facts } = open;
    let shaken = facts.shaken.get();
    let Traffic { received, sent, calls: made } = facts.traffic();
    ConnectionOverview {
        id: *id,
        peer: facts.peer.clone(),
        scheme: facts.scheme.map_or("memory", |scheme| scheme.as_str()),
        codec: shaken.map(|(codec, _)| codec.name().to_owned()),
        caller: shaken.and_then(|(_, info)| caller(info)),
        age_ms: millis(now - facts.accepted),
        in_flight: calls.running(),
        calls: made,
        received_bytes: received,
        sent_bytes: sent,
    }
}

fn caller(info: &ConnectionInfo) -> Option<String> {
    info.identity.as_ref().map(Identity::name).map(str::to_owned)
}

/// What is used of the limits at a moment.
struct Used {
    connections: usize,
    /// Connections of the peer with the most of them.
    of_one_peer: usize,
    /// Calls under way on the connection with the most of them.
    most_in_flight: usize,
    in_flight: usize,
    buffered_bytes: usize,
}

fn show_limits(limits: &Limits, used: &Used) -> Vec<LimitOverview> {
    let count = |name, unit, used: usize, limit: usize| LimitOverview {
        name,
        unit,
        used: Some(used as u64),
        limit: Some(limit as u64),
    };
    let bytes =
        |name, limit: usize| LimitOverview { name, unit: "bytes", used: None, limit: Some(limit as u64) };
    let time = |name, limit: Option<Duration>| LimitOverview {
        name,
        unit: "ms",
        used: None,
        // `Duration::MAX` is how one says "never".
        limit: limit.filter(|limit| *limit < Duration::MAX).map(millis),
    };
    vec![
        count("max_connections", "connections", used.connections, limits.max_connections),
        count("max_connections_per_peer", "connections", used.of_one_peer, limits.max_connections_per_peer),
        count("max_in_flight_in_all", "calls", used.in_flight, limits.max_in_flight_in_all),
        count("max_in_flight", "calls", used.most_in_flight, limits.max_in_flight.get()),
        count("buffered_bytes", "bytes", used.buffered_bytes, limits.buffered_bytes),
        bytes("max_frame_bytes", limits.max_frame_bytes.get()),
        bytes("outbox_bytes", limits.outbox_bytes),
        time("handshake_timeout", Some(limits.handshake_timeout)),
        time("handle_timeout", limits.handle_timeout),
        time("frame_timeout", Some(limits.frame_timeout)),
        time("write_timeout", Some(limits.write_timeout)),
        time("keep_alive_idle", Some(limits.keep_alive.idle)),
        time("keep_alive_timeout", Some(limits.keep_alive.timeout)),
        time("drain_timeout", Some(limits.drain_timeout)),
    ]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
