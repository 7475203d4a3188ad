//! The HTTP side of `demo server`: where it listens, and what it serves there; and the page of a job,
//! which shows its channel.

use std::future::pending;
use std::time::Duration;

use anyhow::Context as _;
use farcall::http::{Gateway, HttpOptions, ServeOptions, client_router, router, serve, serve_with};
use farcall::server::ServerHandle;
use farcall::transport::Listener;
use farcall::transport::TlsServer;
use farcall::{Address, Channel};
use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::cli::ServerArgs;

/// Where one that serves HTTP shows what it is doing.
pub(crate) const DEBUG_PAGE: &str = "/debug/farcall";
/// How long requests under way may go on once the server has ended.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// What listens for HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    listeners: Vec<(Listener, Option<TlsServer>)>,
    /// Whether calls come there without HTTP, too.
    one_port: bool,
}

impl Http {
    /// Listens where it was asked to. `tls` is for the addresses of `--https`.
    ///
    /// # Errors
    ///
    /// An address cannot be listened on; the error names it.
    pub(crate) async fn bind(args: &ServerArgs, tls: Option<TlsServer>) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for address in &args.http {
            listeners.push((Listener::bind(address).await?, None));
        }
        for address in &args.https {
            let tls = tls.clone().context("--https needs a certificate")?;
            listeners.push((Listener::bind(address).await?, Some(tls)));
        }
        Ok(Self { listeners, one_port: args.one_port })
    }

    /// What to open in a browser, with the ports that it got.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|(listener, tls)| {
            let scheme = if tls.is_some() { "https" } else { "http" };
            url(scheme, listener)
        })
    }

    /// Serves until the server has ended.
    pub(crate) async fn serve(self, server: &ServerHandle) {
        let settings = HttpOptions::default().gateway(Gateway::default().title("farcall demo"));
        let router = router(server.clone(), settings);
        let serving = self.listeners.into_iter().map(|(listener, tls)| {
            let mut options = ServeOptions::default().stop_timeout(STOP_LIMIT);
            if let Some(tls) = tls {
                options = options.tls(tls);
            }
            if self.one_port {
                options = options.plain_rpc(server.clone());
            }
            serve_with(listener, router.clone(), options, server.ended())
        });
        join_all(serving).await;
    }
}

/// The page of a client. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Page {
    /// Shows what this channel does, on a port of this machine.
    pub(crate) async fn of(name: &str, channel: &Channel) -> anyhow::Result<Self> {
        let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
        let url = format!("{}{DEBUG_PAGE}", url("http", &listener));
        let router = client_router(&HttpOptions::default().channel(name, channel.clone()));
        let serving = tokio::spawn(serve(listener, router, pending()));
        Ok(Self { url, serving })
    }
}

impl Drop for Page {
    /// Whoever looks on has seen the end.
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn url(scheme: &str, listener: &Listener) -> String {
    let place = listener.address().socket_addr().expect("it is bound to an IP address");
    format!("{scheme}://{place}")
}
