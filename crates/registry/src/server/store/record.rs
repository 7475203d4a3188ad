//! [`Record`], one instance: what its server registered, what an operator overrode, what comes of both.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Instance, State};
use tokio::time::Instant;

use super::{Granted, Now};
use crate::wire::{Listed, Overrides, Patch, Timestamp};

#[derive(Debug)]
pub(super) struct Record {
    /// What is handed out, overrides in place. Its `overrides` are the truth about them.
    listed: Listed,
    /// The same as JSON; empty where it has changed since.
    json: Box<str>,
    /// What the server registered where `listed` may say something else.
    weight: u16,
    ttl_ms: Option<u64>,
    ttl: Duration,
    stale: bool,
    last_seen: Timestamp,
    deadline: Instant,
}

impl Record {
    /// One that was never in the store.
    pub(super) fn new(instance: Instance, overrides: Overrides, default_ttl: Duration, now: Now) -> Self {
        let mut record = Self {
            weight: instance.weight,
            ttl_ms: instance.ttl_ms,
            listed: Listed {
                instance,
                state: State::Up,
                rev: 0,
                registered_at: now.clock,
                last_seen: None,
                overrides,
            },
            json: Box::default(),
            ttl: default_ttl,
            stale: false,
            last_seen: now.clock,
            deadline: now.at,
        };
        record.set_ttl(default_ttl);
        record.renew(now);
        record.refresh();
        record
    }

    /// Puts what the server says now in place of what it said before.
    pub(super) fn register(&mut self, instance: Instance, default_ttl: Duration, now: Now) {
        let mut changed = (self.weight, self.ttl_ms) != (instance.weight, instance.ttl_ms);
        (self.weight, self.ttl_ms) = (instance.weight, instance.ttl_ms);
        // What is seen of weight and time to live is only what comes of them.
        let (weight, ttl_ms) = (self.listed.instance.weight, self.listed.instance.ttl_ms);
        let said = Instance { weight, ttl_ms, ..instance };
        changed |= said != self.listed.instance;
        self.listed.instance = said;
        self.set_ttl(default_ttl);
        if changed {
            self.json = Box::default();
        }
        self.renew(now);
    }

    /// Its server lives on.
    pub(super) fn renew(&mut self, now: Now) {
        self.stale = false;
        self.last_seen = now.clock;
        self.deadline = now.at + self.ttl;
    }

    pub(super) fn patch(&mut self, patch: Patch) {
        let overrides = &mut self.listed.overrides;
        let before = *overrides;
        if let Some(drain) = patch.drain {
            // Not to drain is what holds without an override.
            overrides.drain = drain.filter(|drain| *drain);
        }
        if let Some(weight) = patch.weight {
            overrides.weight = weight;
        }
        if *overrides != before {
            self.json = Box::default();
        }
    }

    /// It has expired, and stays as stale for one more time to live.
    pub(super) fn hold_back(&mut self, now: Instant) {
        self.stale = true;
        self.deadline = now + self.ttl;
    }

    /// Makes `listed` of what is known; returns whether it has changed and needs a revision.
    pub(super) fn refresh(&mut self) -> bool {
        let weight = self.listed.overrides.weight.unwrap_or(self.weight);
        let state = match (self.listed.overrides.drain, self.stale) {
            (Some(true), _) => State::Draining,
            (_, true) => State::Stale,
            (_, false) => State::Up,
        };
        let changed =
            self.json.is_empty() || (weight, state) != (self.listed.instance.weight, self.listed.state);
        (self.listed.instance.weight, self.listed.state) = (weight, state);
        changed
    }

    /// The revision that it has from now on.
    pub(super) fn set_rev(&mut self, rev: u64) {
        self.listed.rev = rev;
        self.json = serde_json::to_string(&self.listed).expect("it has text for keys").into();
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn listed(&self) -> &Listed {
        &self.listed
    }

    pub(super) fn with_last_seen(&self) -> Listed {
        Listed { last_seen: Some(self.last_seen), ..self.listed.clone() }
    }

    /// What the server registered, overrides left out.
    pub(super) fn registered(&self) -> Instance {
        Instance { weight: self.weight, ttl_ms: self.ttl_ms, ..self.listed.instance.clone() }
    }

    /// As a saved one was.
    pub(super) fn restore(&mut self, registered_at: Timestamp, last_seen: Timestamp, stale: bool) {
        self.listed.registered_at = registered_at;
        self.last_seen = last_seen;
        self.stale = stale;
        self.refresh();
    }

    pub(super) fn key(&self) -> (Arc<str>, Arc<str>) {
        (self.listed.instance.service.as_str().into(), self.listed.instance.id.as_str().into())
    }

    pub(super) fn overrides(&self) -> Overrides {
        self.listed.overrides
    }

    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether so much of its time has passed without a heartbeat that one is surely missing, where
    /// instances without a time of their own are told to send one every `heartbeat`.
    pub(super) fn is_silent(&self, now: Instant, heartbeat: Duration) -> bool {
        let heartbeat = self.granted().heartbeat(heartbeat);
        let silence = (self.ttl * 7 / 10).max(heartbeat * 6 / 5).min(self.ttl);
        self.stale || now + self.ttl >= self.deadline + silence
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn granted(&self) -> Granted {
        Granted { ttl: self.ttl, own_ttl: self.ttl_ms.is_some() }
    }

    /// Whether a client may be sent there, its state aside.
    pub(super) fn takes_calls(&self) -> bool {
        self.listed.state != State::Draining && self.listed.instance.weight > 0
    }

    fn set_ttl(&mut self, default_ttl: Duration) {
        self.ttl = self.ttl_ms.map_or(default_ttl, Duration::from_millis);
        self.listed.instance.ttl_ms = u64::try_from(self.ttl.as_millis()).ok();
    }
}
