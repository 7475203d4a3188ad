//! The HTTP server of `demo server`, and the page of a job, which shows the job's channel.

use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use farcall::http::{
    Gateway, HttpOptions, ProgressRow, ServeOptions, client_router, router, serve, serve_with,
};
use farcall::server::ServerHandle;
use farcall::transport::Listener;
use farcall::transport::TlsServer;
use farcall::{Address, Channel};
use futures::future::join_all;
use tokio::task::JoinHandle;
use tower_http::services::ServeDir;

use crate::cli::ServerArgs;

/// The path of the debug page.
pub(crate) const DEBUG_PAGE: &str = "/debug/farcall";
/// The time limit of requests in flight after the server has ended.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// The listeners for HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    listeners: Vec<(Listener, Option<TlsServer>)>,
    /// `true` if the listeners accept connections without HTTP as well.
    one_port: bool,
    /// A directory whose files are served.
    pages: Option<PathBuf>,
}

impl Http {
    /// Binds the addresses of `--http` and `--https`; `tls` is for the latter.
    ///
    /// # Errors
    ///
    /// An address cannot be bound; the error names it.
    pub(crate) async fn bind(args: &ServerArgs, tls: Option<TlsServer>) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for address in &args.http {
            listeners.push((Listener::bind(address).await?, None));
        }
        for address in &args.https {
            let tls = tls.clone().context("--https needs a certificate")?;
            listeners.push((Listener::bind(address).await?, Some(tls)));
        }
        Ok(Self { listeners, one_port: args.one_port, pages: args.pages.clone() })
    }

    /// Returns the URLs to open in a browser, with the actual ports.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|(listener, tls)| {
            let scheme = if tls.is_some() { "https" } else { "http" };
            url(scheme, listener)
        })
    }

    /// Serves until the server has ended.
    pub(crate) async fn serve(self, server: &ServerHandle) {
        let settings = HttpOptions::default().gateway(Gateway::default().title("farcall demo"));
        let mut router = router(server.clone(), settings);
        if let Some(pages) = self.pages {
            router = router.fallback_service(ServeDir::new(pages));
        }
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

/// The debug page of a client. Dropping it closes the page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Page {
    /// Serves a page that shows this channel and the progress of the job, on a port of this machine.
    pub(crate) async fn of(
        name: &str,
        channel: &Channel,
        progress: impl Fn() -> Vec<ProgressRow> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
        let url = format!("{}{DEBUG_PAGE}", url("http", &listener));
        let options = HttpOptions::default().channel(name, channel.clone());
        let router = client_router(&options.progress("The job", progress));
        let serving = tokio::spawn(serve(listener, router, pending()));
        Ok(Self { url, serving })
    }
}

impl Drop for Page {
    /// Stops serving; requests in flight are not awaited, because the job has ended.
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn url(scheme: &str, listener: &Listener) -> String {
    let place = listener.address().socket_addr().expect("it is bound to an IP address");
    format!("{scheme}://{place}")
}
