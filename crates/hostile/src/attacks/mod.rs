//! The attacks: what each does, against which server, and which bounds must hold.

mod answers;
mod arguments;
mod floods;
mod http;
mod registry_readers;
mod registry_requests;
mod slow;
mod time;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncBufReadExt;

use crate::cli::AttackArgs;
use crate::honest::Call;
use crate::peer::{Offer, Peer};
use crate::server::Kind;

/// The line by which an attacker says that it is prepared.
pub(crate) const READY: &str = "ready";
/// The line that lets it begin.
pub(crate) const GO: &str = "go";

/// The most memory of a server for which an attack states no other bound, in MB.
const MAX_MEMORY_MB: u64 = 256;

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
    run: Run,
}

/// Returns all attacks.
pub(crate) fn all() -> Vec<Attack> {
    [
        arguments::attacks(),
        answers::attacks(),
        time::attacks(),
        slow::attacks(),
        floods::attacks(),
        http::attacks(),
        registry_readers::attacks(),
        registry_requests::attacks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Attack {
    /// Creates an attack on a server of the demo, beside a client that calls `Arith.multiply`.
    fn new<F>(name: &'static str, summary: &'static str, run: impl Fn(Target) -> F + 'static) -> Self
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
            run: Box::new(move |target| Box::pin(run(target))),
        }
    }

    /// Directs it at a registry.
    const fn at_registry(mut self) -> Self {
        (self.target, self.honest) = (Kind::Registry, Call::Registry);
        self
    }

    /// Gives the registry a snapshot file, of which it may write this much.
    const fn with_snapshot(mut self, max_written_mb: u64) -> Self {
        self.target = Kind::RegistryWithSnapshot;
        self.max_written_mb = Some(max_written_mb);
        self
    }

    /// Sets what the honest client calls.
    const fn beside(mut self, honest: Call) -> Self {
        self.honest = honest;
        self
    }

    /// Sets the most memory that the server may have, in MB.
    const fn max_mb(mut self, megabytes: u64) -> Self {
        self.max_memory_mb = megabytes;
        self
    }

    /// Sets the shortest duration that shows the effect.
    const fn lasting(mut self, seconds: u64) -> Self {
        self.at_least = Duration::from_secs(seconds);
        self
    }

    /// Requires that after this time the server has ended the attacker's connections, which stays.
    const fn ended_after(mut self, seconds: u64) -> Self {
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

    /// Returns `true` if the server must have ended the attacker's connections while it stays.
    pub(crate) const fn must_end(&self) -> bool {
        self.must_end
    }

    /// Makes the attack. If it returns, the attacker leaves.
    pub(crate) async fn run(&self, args: &AttackArgs) -> io::Result<()> {
        (self.run)(Target { rpc: args.rpc, http: args.http, tls: args.tls }).await
    }
}

/// The server that is attacked.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// The address for calls.
    rpc: SocketAddr,
    /// The address for HTTP.
    http: SocketAddr,
    /// The address for calls over TLS.
    tls: SocketAddr,
}

impl Target {
    /// Opens a connection for calls.
    async fn connect(&self) -> io::Result<Peer> {
        Peer::open(self.rpc, &Offer::default()).await
    }

    /// Opens a connection for calls whose answers are read and discarded.
    async fn connect_reading(&self, offer: &Offer) -> io::Result<Peer> {
        let mut peer = Peer::open(self.rpc, offer).await?;
        peer.discard_answers();
        Ok(peer)
    }
}

/// Says that all is prepared, and waits for the beginning.
async fn begin() -> io::Result<()> {
    println!("{READY}");
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    Ok(())
}

/// Runs `count` tasks. What one of them meets, such as the end of its connection, ends it alone.
fn spawn_each<F>(count: usize, task: impl Fn(usize) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    for number in 0..count {
        tokio::spawn(task(number));
    }
}

/// Stays, with all that was opened, until the process is killed.
async fn stay() -> io::Result<()> {
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn attacks_have_names_of_their_own() {
        let attacks = all();
        let names: HashSet<_> = attacks.iter().map(Attack::name).collect();
        assert_eq!(names.len(), attacks.len());
        for attack in &attacks {
            assert!(attack.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(!attack.summary().is_empty());
        }
    }
}
