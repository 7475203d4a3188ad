//! The common parts of the shop's processes: arguments, channels, pages, and the graceful stop.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use farcall::client::ConnectionOptions;
use farcall::http::{HttpOptions, router, serve};
use farcall::registry::{HttpDiscovery, HttpRegistrar};
use farcall::server::{AuthorizeLayer, Service, Tokens, shutdown_signal};
use farcall::transport::{Listener, TlsClient, TlsServer};
use farcall::{Address, Channel, Server};
use tracing::info;

/// Settings for reaching the other processes.
#[derive(Clone, Debug, clap::Args)]
pub struct Peers {
    /// URL of the registry.
    #[arg(long, env = "SHOP_REGISTRY", default_value = "http://127.0.0.1:7100/registry")]
    pub registry: String,
    /// File with the certificate authority of the servers; without it, connections are in plain text.
    #[arg(long, env = "SHOP_AUTHORITY")]
    pub authority: Option<PathBuf>,
    /// File with the token that this process presents.
    #[arg(long, env = "SHOP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

impl Peers {
    /// Creates a channel to all servers of a service.
    ///
    /// # Errors
    ///
    /// The URL is not valid, or a file cannot be read.
    pub fn channel(&self, service: &str) -> anyhow::Result<Channel> {
        let mut options = ConnectionOptions::default();
        if let Some(authority) = &self.authority {
            options = options.tls(TlsClient::builder().roots_file(authority).build()?);
        }
        if let Some(file) = &self.token_file {
            let token =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            options = options.token(token.trim());
        }
        let channel = Channel::builder()
            .discover(HttpDiscovery::new(&self.registry, service)?)
            .options(options)
            .wait_for_ready(true)
            .timeout(Duration::from_secs(5));
        Ok(channel.build()?)
    }
}

/// Settings of a server: its addresses, and the callers that it trusts.
#[derive(Clone, Debug, clap::Args)]
pub struct Listening {
    /// Address to serve at: `tcp@` or, with a certificate, `tls@`. Port 0 is any free one.
    #[arg(long, default_value = "tcp@127.0.0.1:0")]
    pub listen: Address,
    /// Address of the page, the metrics and the health checks; without it there are none.
    #[arg(long)]
    pub http: Option<Address>,
    /// File with the certificate of this server.
    #[arg(long, requires = "key")]
    pub certificate: Option<PathBuf>,
    /// File with the key of the certificate.
    #[arg(long, requires = "certificate")]
    pub key: Option<PathBuf>,
    /// File with the tokens of the callers; without it, all may call everything.
    #[arg(long)]
    pub tokens: Option<PathBuf>,
}

/// Serves until a signal asks the process to stop, and drains.
///
/// # Errors
///
/// An address cannot be listened on, or a file cannot be read.
pub async fn run(service: Service, listening: &Listening, peers: &Peers) -> anyhow::Result<()> {
    // Before the address is printed: a signal right after that must not kill the process.
    let stop = shutdown_signal()?;
    let mut builder = Server::builder()
        .service(service)
        .listen(listening.listen.clone())
        .register_with(HttpRegistrar::new(&peers.registry)?);
    if let (Some(certificate), Some(key)) = (&listening.certificate, &listening.key) {
        builder = builder.tls(TlsServer::builder().certificate_files(certificate, key).build()?);
    }
    if let Some(tokens) = &listening.tokens {
        let rules = AuthorizeLayer::deny_by_default()
            .identity("shop", ["Prices.price", "Prices.changes"])
            .identity("office", ["*"]);
        builder = builder.authenticate(Tokens::file(tokens)?).layer(rules);
    }
    let server = builder.bind().await?;
    for address in server.addresses() {
        println!("listening {address}");
    }

    let handle = server.handle();
    let pages = match &listening.http {
        Some(address) => {
            let listener = Listener::bind(address).await?;
            let address = listener.address().to_string();
            println!("page http://{}/debug/farcall", address.trim_start_matches("tcp@"));
            Some(serve(listener, router(handle.clone(), HttpOptions::default()), handle.ended()))
        }
        None => None,
    };
    let serving = server.serve_until(async {
        let signal = stop.await;
        info!(?signal, "stopping");
    });
    match pages {
        // They answer until the server has drained.
        Some(pages) => drop(tokio::join!(serving, pages)),
        None => serving.await,
    }
    Ok(())
}

/// Writes the log to standard error: `RUST_LOG=farcall=debug` shows more of it.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // No escape sequences in a file or a journal.
    log.with_ansi(io::stderr().is_terminal()).init();
}
