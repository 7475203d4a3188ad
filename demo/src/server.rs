//! `demo server`: one server process. What it offers is for [`crate::services`].

use std::io::{self, Write};

use anyhow::Context as _;
use farcall::{KeepAlive, Limits, Server, ServerHandle};
use tracing::info;

use crate::cli::ServerArgs;
use crate::orphan::Parent;
use crate::outcome::Outcome;
use crate::services;
use crate::signals::Signals;

/// Serves until a signal, then stops gracefully. A second signal stops it at once.
pub(crate) async fn serve(args: ServerArgs) -> anyhow::Result<Outcome> {
    // Before anybody is told the address: a signal that comes right then must not kill.
    let mut stop = Signals::catch().context("catching signals")?;
    let mut stop_now = Signals::catch().context("catching signals")?;
    let parent = Parent::new(args.exit_with_parent, args.drain_timeout);

    let limits = limits(&args);
    let mut builder = Server::builder().limits(limits);
    for service in services::all(&args.instance) {
        builder = builder.service(service);
    }
    for address in args.listen {
        builder = builder.listen(address);
    }
    for address in args.advertise {
        builder = builder.advertise(address);
    }
    for registry in &args.registry {
        builder = registry.register(builder)?;
    }
    if let Some(zone) = args.zone {
        builder = builder.zone(zone);
    }
    if let Some(weight) = args.weight {
        builder = builder.weight(weight);
    }
    let server = builder.bind().await?;
    let handle = server.handle();
    announce(&server).context("writing to stdout")?;

    let asked_to_stop = async {
        tokio::select! {
            // Nothing is lost: whichever comes first stops the server, and nobody asks again.
            signal = stop.next() => info!(%signal, "stopping"),
            () = parent.gone() => info!("stopping: the parent is gone"),
        }
    };
    let asked_twice = async {
        stop_now.next().await;
        stop_now.next().await
    };
    tokio::select! {
        // Cutting the server off is what a second signal asks for.
        () = server.serve_until(asked_to_stop) => {
            // Nobody may read it any more.
            let _: io::Result<()> = account(&handle);
            Ok(Outcome::Done)
        }
        signal = asked_twice => Ok(Outcome::Interrupted(signal)),
    }
}

/// Tells whoever started the server where it listens. The lines are flushed, since they are
/// waited for.
fn announce(server: &Server) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in server.addresses() {
        writeln!(stdout, "listening {address}")?;
    }
    stdout.flush()
}

/// Tells how many calls of each method it took in its life.
fn account(handle: &ServerHandle) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for stats in handle.stats().iter().filter(|stats| stats.calls > 0) {
        writeln!(stdout, "{} took {}", stats.name, stats.calls)?;
    }
    stdout.flush()
}

fn limits(args: &ServerArgs) -> Limits {
    let mut limits = Limits::default().drain_timeout(args.drain_timeout);
    if let Some(limit) = args.handshake_timeout {
        limits = limits.handshake_timeout(limit);
    }
    if let Some(limit) = args.handle_timeout {
        limits = limits.handle_timeout(limit);
    }
    if let Some(calls) = args.max_in_flight {
        limits = limits.max_in_flight(calls);
    }
    if let Some(bytes) = args.max_frame_bytes {
        limits = limits.max_frame_bytes(bytes);
    }
    if let Some(connections) = args.max_connections {
        limits = limits.max_connections(connections);
    }
    if let Some(connections) = args.max_connections_per_peer {
        limits = limits.max_connections_per_peer(connections);
    }
    let default = KeepAlive::default();
    limits.keep_alive(KeepAlive {
        idle: args.keep_alive_idle.unwrap_or(default.idle),
        timeout: args.keep_alive_timeout.unwrap_or(default.timeout),
    })
}
