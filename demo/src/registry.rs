//! `demo registry` and `demo etcd`: the processes that run a cluster's registry, farcall's own or an
//! installed etcd. Their URLs are parsed in [`crate::registry_url`].

use std::fmt;
use std::io::{self, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use farcall_registry::server::RegistryOptions;
use registry_server::{Config, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::cli::{EtcdArgs, RegistryArgs};
use crate::outcome::Outcome;
use crate::parent::Parent;
use crate::signals::Signals;

/// The time limit for etcd to become healthy.
const ETCD_START_LIMIT: Duration = Duration::from_secs(15);
/// The time limit for etcd to stop.
const ETCD_STOP_LIMIT: Duration = Duration::from_secs(3);
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

/// Runs a separate etcd until a signal or the end of the parent process.
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
    let answers = timeout(ETCD_START_LIMIT, wait_until_healthy(&client, &mut etcd)).await;
    answers.context("etcd does not answer")??;
    announce(&[format!("etcd+{client}")])?;
    tokio::select! {
        // Cancel-safe: the first one stops etcd, and the others are not needed any more.
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

/// Returns a URL with a port that was free just now: etcd does not report the port of `:0`.
async fn free_url() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("looking for a free port")?;
    Ok(format!("http://{}", listener.local_addr()?))
}

/// Waits until etcd accepts connections and has elected itself leader.
async fn wait_until_healthy(url: &str, etcd: &mut Child) -> anyhow::Result<()> {
    let address = url.trim_start_matches("http://");
    let started = Instant::now();
    loop {
        if let Some(status) = etcd.try_wait()? {
            bail!("etcd ended: {status}");
        }
        if is_healthy(address).await {
            info!(took = ?started.elapsed(), "etcd answers");
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn is_healthy(address: &str) -> bool {
    let request = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    match timeout(Duration::from_secs(1), request).await {
        Ok(Ok(answer)) => answer.contains(r#""health":"true""#),
        _ => false,
    }
}

/// Prints the URLs, for the process that started this one.
fn announce(urls: &[impl fmt::Display]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    for url in urls {
        writeln!(stdout, "listening {url}").context("writing to stdout")?;
    }
    stdout.flush().context("writing to stdout")
}
