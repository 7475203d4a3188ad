//! The registry of a cluster: farcall's own, run by `demo registry`, or an etcd that is installed,
//! kept by `demo etcd`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use farcall::client::ChannelBuilder;
use farcall::etcd::{EtcdDiscovery, EtcdOptions, EtcdRegistrar};
use farcall::registry::{HttpDiscovery, HttpRegistrar};
use farcall::server::ServerBuilder;
use farcall_registry::server::RegistryOptions;
use registry_server::{Config, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::cli::{EtcdArgs, RegistryArgs};
use crate::orphan::Parent;
use crate::outcome::Outcome;
use crate::signals::Signals;

/// How long an instance stays without a heartbeat, and how often there is one: quick, so that
/// there is something to see.
const TTL: &str = "3s";
const HEARTBEAT: &str = "1s";
/// How long etcd may take to answer, and to stop.
const ETCD_LIMIT: Duration = Duration::from_secs(15);
const ETCD_STOP_LIMIT: Duration = Duration::from_secs(3);
/// How long the registry may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// A kind of registry, by the name that is typed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegistryName {
    /// farcall's own.
    Http,
    /// An etcd that is installed on this machine.
    Etcd,
}

/// Where a registry is, and of which kind: `http://host:7100/registry`, or
/// `etcd+http://host:2379`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RegistryUrl {
    Http(String),
    Etcd(String),
}

impl RegistryName {
    /// What its process is called, and its arguments; `directory` is for its files.
    pub(crate) fn process(self, directory: &Path) -> (&'static str, Vec<String>) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Http => (
                "registry",
                words(&["registry", "--listen", "127.0.0.1:0", "--ttl", TTL, "--heartbeat", HEARTBEAT]),
            ),
            Self::Etcd => ("etcd", words(&["etcd", "--data", &directory.join("etcd").to_string_lossy()])),
        }
    }
}

impl RegistryUrl {
    /// Has a server register there.
    pub(crate) fn register(&self, builder: ServerBuilder) -> anyhow::Result<ServerBuilder> {
        Ok(match self {
            Self::Http(url) => builder.register_with(HttpRegistrar::new(url)?),
            Self::Etcd(url) => builder.register_with(EtcdRegistrar::new(&EtcdOptions::new(url)?)?),
        })
    }

    /// Has a channel find its endpoints there.
    pub(crate) fn discover(&self, builder: ChannelBuilder, service: &str) -> anyhow::Result<ChannelBuilder> {
        Ok(match self {
            Self::Http(url) => builder.discover(HttpDiscovery::new(url, service)?),
            Self::Etcd(url) => builder.discover(EtcdDiscovery::new(&EtcdOptions::new(url)?, service)?),
        })
    }

    /// What a person can do with it.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Http(url) => vec![
                format!("open    {url}/"),
                format!("list    curl '{url}/registry?service=Text'"),
                format!("watch   curl -N '{url}/v1/watch?service=Text'"),
            ],
            Self::Etcd(url) => {
                vec![format!("list    etcdctl --endpoints {url} get --prefix /farcall/v1/")]
            }
        }
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Etcd(url) => write!(f, "etcd+{url}"),
        }
    }
}

impl FromStr for RegistryUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let is_http = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        match text.strip_prefix("etcd+") {
            Some(url) if is_http(url) => Ok(Self::Etcd(url.to_owned())),
            None if is_http(text) => Ok(Self::Http(text.to_owned())),
            _ => bail!("`{text}` is no registry: it begins with http://, https:// or etcd+http://"),
        }
    }
}

/// Runs the registry until a signal, or the end of its parent.
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
            // Whichever comes first stops it, and nobody asks again.
            signal = signals.next() => info!(%signal, "stopping"),
            () = parent.gone() => info!("stopping: the parent is gone"),
        }
    };
    server.serve(stop).await?;
    Ok(Outcome::Done)
}

/// Runs an etcd of its own until a signal, or the end of its parent.
pub(crate) async fn keep_etcd(args: EtcdArgs) -> anyhow::Result<Outcome> {
    let mut signals = Signals::catch().context("catching signals")?;
    let parent = Parent::new(args.exit_with_parent, ETCD_STOP_LIMIT);
    let (client, peer) = (free_url().await?, free_url().await?);
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(&args.data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut etcd =
        command.spawn().context("starting etcd (is it installed? Debian and Ubuntu call it etcd-server)")?;
    let answers = timeout(ETCD_LIMIT, answering(&client, &mut etcd)).await;
    answers.context("etcd does not answer")??;
    announce(&[format!("etcd+{client}")])?;
    tokio::select! {
        // Nothing is lost: whichever comes first ends etcd.
        _ = signals.next() => {}
        () = parent.gone() => {}
        status = etcd.wait() => bail!("etcd ended: {}", status?),
    }
    if let Some(pid) = etcd.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        kill_process(pid, Signal::TERM).context("stopping etcd")?;
    }
    if timeout(ETCD_STOP_LIMIT, etcd.wait()).await.is_err() {
        etcd.kill().await.context("killing etcd")?;
    }
    Ok(Outcome::Done)
}

/// A port that was free a moment ago: etcd cannot be asked which it got.
async fn free_url() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("looking for a free port")?;
    Ok(format!("http://{}", listener.local_addr()?))
}

/// Ready when etcd takes connections and has elected itself, which its log would say.
async fn answering(url: &str, etcd: &mut Child) -> anyhow::Result<()> {
    let address = url.trim_start_matches("http://");
    let begin = Instant::now();
    loop {
        if let Some(status) = etcd.try_wait()? {
            bail!("etcd ended: {status}");
        }
        if is_healthy(address).await {
            info!(took = ?begin.elapsed(), "etcd answers");
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn is_healthy(address: &str) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    match timeout(Duration::from_secs(1), asking).await {
        Ok(Ok(answer)) => answer.contains(r#""health":"true""#),
        _ => false,
    }
}

/// Tells whoever started this where it listens.
fn announce(urls: &[impl fmt::Display]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    for url in urls {
        writeln!(stdout, "listening {url}").context("writing to stdout")?;
    }
    stdout.flush().context("writing to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_registry_is_told_by_its_url() {
        for url in ["http://a:7100/registry", "https://a", "etcd+http://a:2379,http://b:2379"] {
            assert_eq!(url.parse::<RegistryUrl>().unwrap().to_string(), url);
        }
        let error = "a:7100".parse::<RegistryUrl>().unwrap_err().to_string();
        assert_eq!(error, "`a:7100` is no registry: it begins with http://, https:// or etcd+http://");
    }
}
