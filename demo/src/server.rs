//! `demo server`: one server process. What it offers is for [`crate::services`].

use std::io::{self, Read, Write};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use farcall::{KeepAlive, Limits, Server};
use tokio::sync::oneshot;
use tracing::info;

use crate::cli::ServerArgs;
use crate::outcome::Outcome;
use crate::services;
use crate::signals::Signals;

/// How much longer than its drain timeout an orphaned server may take to stop before it exits all
/// the same: handlers that block every thread keep it from doing so by itself.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// Serves until a signal, then stops gracefully. A second signal stops it at once.
pub(crate) async fn serve(args: ServerArgs) -> anyhow::Result<Outcome> {
    // Before anybody is told the address: a signal that comes right then must not kill.
    let mut stop = Signals::catch().context("catching signals")?;
    let mut stop_now = Signals::catch().context("catching signals")?;
    let orphaned = args.exit_with_parent.then(|| watch_parent(args.drain_timeout));

    let limits = limits(&args);
    let mut builder = Server::builder().limits(limits);
    for service in services::all(&args.instance) {
        builder = builder.service(service);
    }
    for address in args.listen {
        builder = builder.listen(address);
    }
    let server = builder.bind().await?;
    announce(&server).context("writing to stdout")?;

    let asked_to_stop = async {
        tokio::select! {
            // Nothing is lost: whichever comes first stops the server, and nobody asks again.
            signal = stop.next() => info!(%signal, "stopping"),
            () = parent_gone(orphaned) => info!("stopping: the parent is gone"),
        }
    };
    let asked_twice = async {
        stop_now.next().await;
        stop_now.next().await
    };
    tokio::select! {
        // Cutting the server off is what a second signal asks for.
        () = server.serve_until(asked_to_stop) => Ok(Outcome::Done),
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

/// Ready when stdin has ended. A thread of its own reads it, since one of tokio's would hold up
/// the exit until the next byte.
fn watch_parent(drain_timeout: Duration) -> oneshot::Receiver<()> {
    let (gone, orphaned) = oneshot::channel();
    thread::spawn(move || {
        let mut input = [0; 64];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut input) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // A server that is not there any more needs no telling.
        let _: Result<(), ()> = gone.send(());
        thread::sleep(drain_timeout.saturating_add(ORPHAN_GRACE));
        process::exit(1);
    });
    orphaned
}

async fn parent_gone(orphaned: Option<oneshot::Receiver<()>>) {
    match orphaned {
        // An error means that the watching thread is gone, and then nobody watches.
        Some(orphaned) => drop(orphaned.await),
        None => std::future::pending().await,
    }
}
