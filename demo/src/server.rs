//! `demo server`: one server process. What it offers is for [`crate::services`].

use std::io::{self, Write};

use anyhow::Context as _;
use farcall::Server;
use farcall::protocol::KeepAlive;
use farcall::server::{Limits, ServerBuilder, ServerHandle, Tokens};
use farcall::transport::TlsServer;
use tracing::info;

use crate::cli::ServerArgs;
use crate::http::Http;
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

    let tls = tls(&args)?;
    let server = match (builder(&args, tls.clone())?, args.listen.is_empty()) {
        (builder, true) => builder.build()?,
        (builder, false) => builder.bind().await?,
    };
    let http = Http::bind(&args, tls).await?;
    let handle = server.handle();
    announce(&server, &http).context("writing to stdout")?;

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
    let serving = async {
        // The pages answer until the server has ended, so that they show how it drains.
        tokio::join!(server.serve_until(asked_to_stop), http.serve(&handle));
    };
    tokio::select! {
        // Cutting the server off is what a second signal asks for.
        () = serving => {
            // Nobody may read it any more.
            let _: io::Result<()> = account(&handle);
            Ok(Outcome::Done)
        }
        signal = asked_twice => Ok(Outcome::Interrupted(signal)),
    }
}

/// What the server is to be, but for HTTP.
fn builder(args: &ServerArgs, tls: Option<TlsServer>) -> anyhow::Result<ServerBuilder> {
    let mut builder = Server::builder().limits(limits(args));
    for service in services::all(&args.instance) {
        builder = builder.service(service);
    }
    for address in &args.listen {
        builder = builder.listen(address);
    }
    for address in &args.advertise {
        builder = builder.advertise(address);
    }
    for registry in &args.registry {
        builder = registry.register(builder)?;
    }
    if let Some(zone) = &args.zone {
        builder = builder.zone(zone);
    }
    if let Some(weight) = args.weight {
        builder = builder.weight(weight);
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    if let Some(file) = &args.token_file {
        builder = builder.authenticate(Tokens::file(file)?);
    }
    Ok(builder)
}

/// The certificate, where there is one.
fn tls(args: &ServerArgs) -> anyhow::Result<Option<TlsServer>> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let mut tls = TlsServer::builder().certificate_files(certificate, key);
    if let Some(authority) = &args.tls_client_ca {
        tls = tls.client_roots_file(authority);
    }
    Ok(Some(tls.build()?))
}

/// Tells whoever started the server where it listens. The lines are flushed, since they are
/// waited for.
fn announce(server: &Server, http: &Http) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in server.addresses() {
        writeln!(stdout, "listening {address}")?;
    }
    for url in http.urls() {
        writeln!(stdout, "listening {url}")?;
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
