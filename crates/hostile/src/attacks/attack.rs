//! [`Attack`]: the description of an attack, and how to make it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use super::target::Target;
use crate::cli::AttackArgs;
use crate::honest::Call;
use crate::server::{Kind, Scarcity};

/// The most memory of a server for which an attack states no other bound, in MB: what one address may hold by default, a
/// quarter of 1 GiB, and half as much for the server itself and for what the allocator keeps.
const MAX_MEMORY_MB: u64 = 400;

type Run = Box<dyn Fn(Target) -> Pin<Box<dyn Future<Output = io::Result<()>>>>>;

/// An attack.
pub(crate) struct Attack {
    name: &'static str,
    summary: &'static str,
    target: Kind,
    honest: Call,
    max_memory_mb: u64,
    max_written_mb: Option<u64>,
    at_least: Duration,
    must_end: bool,
    scarcity: Option<Scarcity>,
    newcomers_count: bool,
    run: Run,
}

impl Attack {
    /// Creates an attack on a server of the demo, beside a client that calls `Arith.multiply`.
    pub(super) fn new<F>(
        name: &'static str,
        summary: &'static str,
        run: impl Fn(Target) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + 'static,
    {
        Self {
            name,
            summary,
            target: Kind::Demo,
            honest: Call::Multiply,
            max_memory_mb: MAX_MEMORY_MB,
            max_written_mb: None,
            at_least: Duration::ZERO,
            must_end: false,
            scarcity: None,
            newcomers_count: true,
            run: Box::new(move |target| Box::pin(run(target))),
        }
    }

    /// Directs it at a registry.
    pub(super) const fn at_registry(mut self) -> Self {
        (self.target, self.honest) = (Kind::Registry, Call::Registry);
        self
    }

    /// Gives the registry a snapshot file, of which it may write this much.
    pub(super) const fn with_snapshot(mut self, max_written_mb: u64) -> Self {
        self.target = Kind::RegistryWithSnapshot;
        self.max_written_mb = Some(max_written_mb);
        self
    }

    /// Sets what the honest client calls.
    pub(super) const fn beside(mut self, honest: Call) -> Self {
        self.honest = honest;
        self
    }

    /// Sets the most memory that the server may have, in MB.
    pub(super) const fn max_mb(mut self, megabytes: u64) -> Self {
        self.max_memory_mb = megabytes;
        self
    }

    /// Has the server lack something.
    pub(super) const fn lacking(mut self, scarcity: Scarcity) -> Self {
        self.scarcity = Some(scarcity);
        self
    }

    /// Allows that calls over new connections fail during the attack; they succeed again after it.
    pub(super) const fn without_newcomers(mut self) -> Self {
        self.newcomers_count = false;
        self
    }

    /// Sets the shortest duration that shows the effect.
    pub(super) const fn lasting(mut self, seconds: u64) -> Self {
        self.at_least = Duration::from_secs(seconds);
        self
    }

    /// Requires that after this time the server has ended the attacker's connections, which stays.
    pub(super) const fn ended_after(mut self, seconds: u64) -> Self {
        self.must_end = true;
        self.lasting(seconds)
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn summary(&self) -> &'static str {
        self.summary
    }

    pub(crate) const fn target(&self) -> Kind {
        self.target
    }

    pub(crate) const fn honest(&self) -> Call {
        self.honest
    }

    /// Returns the most memory that the server may have, in MB.
    pub(crate) const fn max_memory_mb(&self) -> u64 {
        self.max_memory_mb
    }

    /// Returns the most that the server may write during the attack, in MB.
    pub(crate) const fn max_written_mb(&self) -> Option<u64> {
        self.max_written_mb
    }

    pub(crate) const fn at_least(&self) -> Duration {
        self.at_least
    }

    /// Returns what the server lacks.
    pub(crate) const fn scarcity(&self) -> Option<Scarcity> {
        self.scarcity
    }

    /// Returns `true` if calls over new connections must succeed during the attack.
    pub(crate) const fn newcomers_count(&self) -> bool {
        self.newcomers_count
    }

    /// Returns `true` if the server must have ended the attacker's connections while it stays.
    pub(crate) const fn must_end(&self) -> bool {
        self.must_end
    }

    /// Makes the attack. If it returns, the attacker leaves.
    pub(crate) async fn run(&self, args: &AttackArgs) -> io::Result<()> {
        (self.run)(Target { rpc: args.rpc, http: args.http, tls: args.tls }).await
    }
}
