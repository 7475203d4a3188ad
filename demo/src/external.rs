//! `demo etcd` and `demo zookeeper`: processes that run an installed registry for a cluster.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::cli::ExternalArgs;
use crate::outcome::Outcome;
use crate::parent::Parent;
use crate::registry::announce;
use crate::signals::Signals;

/// The time limit for a program to answer.
const START_LIMIT: Duration = Duration::from_secs(15);
/// The time limit for a program to stop.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(3);
/// The classes of ZooKeeper, as Debian and Ubuntu install them.
const ZOOKEEPER_CLASSES: &str = "/usr/share/java/zookeeper.jar";

/// Runs a separate etcd until a signal or the end of the parent process.
pub(crate) async fn keep_etcd(args: ExternalArgs) -> anyhow::Result<Outcome> {
    let (client, peer) = (free_url().await?, free_url().await?);
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(&args.data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")]);
    let address = client.trim_start_matches("http://").to_owned();
    let health = format!("GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let question = Question { address, text: health, answer: r#""health":"true""# };
    let hint = "is it installed? Debian and Ubuntu call it etcd-server";
    let program = Program::start("etcd", command, hint, &question).await?;
    program.keep(&[format!("etcd+{client}")], args.exit_with_parent).await
}

/// Runs a separate ZooKeeper until a signal or the end of the parent process.
pub(crate) async fn keep_zookeeper(args: ExternalArgs) -> anyhow::Result<Outcome> {
    let address = free_url().await?.trim_start_matches("http://").to_owned();
    let (host, port) = address.rsplit_once(':').context("an address without a port")?;
    std::fs::create_dir_all(&args.data).context("making the directory of ZooKeeper")?;
    let config = args.data.join("zoo.cfg");
    // A tick bounds the times to live: 20 of them at most, 2 at least.
    let settings = format!(
        "tickTime=1000\ndataDir={}\nclientPort={port}\nclientPortAddress={host}\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr\n",
        args.data.display()
    );
    std::fs::write(&config, settings).context("writing the settings of ZooKeeper")?;
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", ZOOKEEPER_CLASSES])
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(&config);
    let question = Question { address: address.clone(), text: "srvr".to_owned(), answer: "Mode: " };
    let hint = "is it installed? Debian and Ubuntu call it zookeeper";
    let program = Program::start("ZooKeeper", command, hint, &question).await?;
    program.keep(&[format!("zookeeper://{address}")], args.exit_with_parent).await
}

/// A question that tells if a program serves.
pub(crate) struct Question {
    pub(crate) address: String,
    pub(crate) text: String,
    /// A part of the answer.
    pub(crate) answer: &'static str,
}

/// A program that is installed on this machine, and was started.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    /// Starts a program in a separate process group, and waits until it answers.
    pub(crate) async fn start(
        name: &'static str,
        mut command: Command,
        hint: &str,
        question: &Question,
    ) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {name} ({hint})"))?;
        let mut program = Self { name, child };
        let started = Instant::now();
        let answers = timeout(START_LIMIT, program.wait_until_answered(question)).await;
        answers.with_context(|| format!("{name} does not answer"))?.with_context(|| hint.to_owned())?;
        info!(name, took = ?started.elapsed(), "it answers");
        Ok(program)
    }

    /// Prints its URLs, and runs it until a signal or the end of the parent process.
    async fn keep(mut self, urls: &[String], exit_with_parent: bool) -> anyhow::Result<Outcome> {
        let mut signals = Signals::catch().context("catching signals")?;
        let parent = Parent::new(exit_with_parent, STOP_LIMIT);
        announce(urls)?;
        tokio::select! {
            // Cancel-safe: the first one stops the program, and the others are not needed any more.
            _ = signals.next() => {}
            () = parent.gone() => {}
            ended = self.ended() => return ended,
        }
        self.stop().await?;
        Ok(Outcome::Done)
    }

    /// Waits for an end that was not asked for, and reports it.
    pub(crate) async fn ended<T>(&mut self) -> anyhow::Result<T> {
        bail!("{} ended: {}", self.name, self.child.wait().await?)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            kill_process(pid, signal).with_context(|| format!("sending a signal to {}", self.name))?;
        }
        Ok(())
    }

    /// Stops it, and kills it if that takes too long.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        if timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            self.child.kill().await.with_context(|| format!("killing {}", self.name))?;
        }
        Ok(())
    }

    async fn wait_until_answered(&mut self, question: &Question) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            if question.is_answered().await {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Question {
    async fn is_answered(&self) -> bool {
        let request = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(self.text.as_bytes()).await?;
            let mut answer = String::new();
            if !self.answer.is_empty() {
                stream.take(4096).read_to_string(&mut answer).await?;
            }
            io::Result::Ok(answer)
        };
        match timeout(Duration::from_secs(1), request).await {
            Ok(Ok(answer)) => answer.contains(self.answer),
            _ => false,
        }
    }
}

/// Returns a URL with a port that was free just now: these programs do not report the port of `:0`.
async fn free_url() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("looking for a free port")?;
    Ok(format!("http://{}", listener.local_addr()?))
}
