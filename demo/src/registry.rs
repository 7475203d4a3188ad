//! `demo registry`: the process of farcall's own registry. The others are in [`crate::external`] and
//! [`crate::name_server`], and the URLs of all are parsed in [`crate::registry_url`].

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context as _;
use farcall_registry::server::RegistryOptions;
use registry_server::{Config, Server};
use tracing::info;

use crate::cli::RegistryArgs;
use crate::outcome::Outcome;
use crate::parent::Parent;
use crate::signals::Signals;

/// The time limit for the registry to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Runs the registry until a signal or the end of the parent process.
pub(crate) async fn serve(args: RegistryArgs) -> anyhow::Result<Outcome> {
    let mut signals = Signals::catch().context("catching signals")?;
    let parent = Parent::new(args.exit_with_parent, STOP_LIMIT);
    let mut settings = RegistryOptions::default().ttl(args.ttl).heartbeat(args.heartbeat);
    if let Some(file) = args.snapshot {
        settings = settings.snapshot(file);
    }
    let server = Server::bind(Config::new(settings).listen(&args.listen)).await?;
    let urls: Vec<_> = server.urls().collect();
    announce(&urls)?;
    let stop = async {
        tokio::select! {
            // The first one stops the registry; the other is not needed any more.
            signal = signals.next() => info!(%signal, "stopping"),
            () = parent.gone() => info!("stopping: the parent process has ended"),
        }
    };
    server.serve(stop).await?;
    Ok(Outcome::Done)
}

/// Prints the URLs, for the process that started this one.
pub(crate) fn announce(urls: &[impl fmt::Display]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    for url in urls {
        writeln!(stdout, "listening {url}").context("writing to stdout")?;
    }
    stdout.flush().context("writing to stdout")
}
