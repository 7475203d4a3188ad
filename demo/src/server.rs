//! `demo server`: one server process. Its services are in [`crate::services`].

use std::io::{self, Write};

use anyhow::Context as _;
use farcall::Server;
use farcall::protocol::KeepAlive;
use farcall::server::{Limits, ServerBuilder, ServerHandle, Tokens};
use farcall::transport::TlsServer;
use tracing::info;

use crate::cli::ServerArgs;
use crate::http::Http;
use crate::outcome::Outcome;
use crate::parent::Parent;
use crate::services;
use crate::signals::Signals;

/// Serves until a signal, then stops gracefully. A second signal stops the server at once.
pub(crate) async fn serve(args: ServerArgs) -> anyhow::Result<Outcome> {
    // Before the address is printed: a signal right after that must not kill the process.
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

    let first_signal = async {
        tokio::select! {
            // Cancel-safe: the first one stops the server, and the other is not needed any more.
            signal = stop.next() => info!(%signal, "stopping"),
            () = parent.gone() => info!("stopping: the parent process has ended"),
        }
    };
    let second_signal = async {
        stop_now.next().await;
        stop_now.next().await
    };
    let serving = async {
        // The pages answer until the server has ended, so that they show how it drains.
        tokio::join!(server.serve_until(first_signal), http.serve(&handle));
    };
    tokio::select! {
        // A second signal aborts the graceful stop.
        () = serving => {
            // The reader of stdout may be gone.
            let _: io::Result<()> = print_calls(&handle);
            Ok(Outcome::Done)
        }
        signal = second_signal => Ok(Outcome::Interrupted(signal)),
    }
}

/// Configures the server, without HTTP.
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

/// Loads the certificate, if there is one.
fn tls(args: &ServerArgs) -> anyhow::Result<Option<TlsServer>> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let mut tls = TlsServer::builder().certificate_files(certificate, key);
    if let Some(authority) = &args.tls_client_ca {
        tls = tls.client_roots_file(authority);
    }
    Ok(Some(tls.build()?))
}

/// Prints the addresses, for the process that started the server. The lines are flushed, because that
/// process waits for them.
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

/// Prints the number of calls of each method.
fn print_calls(handle: &ServerHandle) -> io::Result<()> {
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
        limits = limits.handle_timeout(Some(limit).filter(|limit| !limit.is_zero()));
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
    limits.keep_alive(KeepAlive::new(
        args.keep_alive_idle.unwrap_or(default.idle),
        args.keep_alive_timeout.unwrap_or(default.timeout),
    ))
}
