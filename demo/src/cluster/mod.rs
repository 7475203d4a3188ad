//! The processes of a job: a registry, and servers that register there. None of them outlives
//! this process, however it ends: each exits when the pipe to its stdin closes.

mod process;

use std::time::Duration;

use anyhow::{Context as _, bail};
use farcall::client::ConnectionOptions;
use farcall::protocol::Codec;
use farcall::protocol::describe::{HEALTH, Health, HealthRequest, HealthStatus, MethodStats, STATS};
use farcall::{Address, Channel};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::process::Process;
use crate::http::DEBUG_PAGE;
use crate::registry_url::{RegistryName, RegistryUrl};

/// The time limit for all servers to be found.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The time limit for a server to finish its calls.
const DRAIN_LIMIT: &str = "3s";
/// The time limit of a call, after which the job fails.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// The largest accepted answer. The counts of a text can be several times as large as the text: a
/// text of single letters becomes a map with a number for each.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The time by which the end of a process may lag behind that of its connections.
const DEATH_LAG: Duration = Duration::from_millis(300);
/// The same on a busy machine, for a server whose connection has ended.
const MAX_DEATH_LAG: Duration = Duration::from_secs(5);
/// The interval of polling.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The configuration of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) registry: RegistryName,
    pub(crate) servers: usize,
    pub(crate) codec: Codec,
    /// `true` if the servers listen on unix sockets.
    pub(crate) unix: bool,
}

/// A registry and servers. Dropping it kills them.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    registry: Option<Process>,
    url: Option<RegistryUrl>,
    members: Vec<Member>,
    /// The servers that the job has killed or drained.
    past: Vec<ServerSummary>,
    /// The directory for sockets and the data of the registry.
    files: Option<TempDir>,
    options: ConnectionOptions,
    unix: bool,
}

/// A running server.
#[derive(Debug)]
struct Member {
    process: Process,
    address: Address,
    /// The URL of its HTTP server.
    http: String,
    /// A channel to this server, in addition to the job's channel.
    channel: Channel,
    /// The largest frame that it accepts, in bytes.
    max_frame_bytes: usize,
}

/// A server and the number of its calls, for the report.
#[derive(Clone, Debug)]
pub(crate) struct ServerSummary {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The number of its calls; `None` if it could not report it.
    pub(crate) took: Option<u64>,
    pub(crate) fate: &'static str,
}

/// The name and the addresses of a process, for display.
#[derive(Clone, Debug)]
pub(crate) struct ProcessInfo {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) pid: u32,
    /// The URL of its HTTP server, if it is one of the servers.
    pub(crate) http: Option<String>,
}

impl ProcessInfo {
    /// Returns its address, its process id and the URL of its page.
    pub(crate) fn location(&self) -> String {
        let Self { place, pid, http, .. } = self;
        let page = http.as_ref().map(|http| format!(", seen at {http}{DEBUG_PAGE}"));
        format!("{place} (pid {pid}){}", page.unwrap_or_default())
    }

    /// Returns commands and pages to try, if it is one of the servers.
    pub(crate) fn hints(&self) -> Vec<String> {
        let Self { name, place, pid, http } = self;
        let hints = |http| {
            vec![
                format!("call    {place} ({name}, pid {pid})"),
                format!("try     curl -d '{{\"a\": 6, \"b\": 7}}' {http}/rpc/Arith.multiply"),
                format!("open    {http}{DEBUG_PAGE} ({name})"),
            ]
        };
        http.as_ref().map(hints).unwrap_or_default()
    }
}

impl Cluster {
    /// Starts all processes, and waits until all servers serve. If that fails, the started processes
    /// are kept, so that they can be stopped.
    pub(crate) async fn start(&mut self, shape: &Shape) -> anyhow::Result<()> {
        self.options =
            ConnectionOptions::default().codec(shape.codec.clone()).max_frame_bytes(MAX_ANSWER_BYTES);
        if shape.unix && shape.registry == RegistryName::Srv {
            bail!("SRV records have hosts and ports: they cannot name unix sockets");
        }
        self.unix = shape.unix;
        let files = tempfile::Builder::new().prefix("farcall-demo-").tempdir();
        self.files = Some(files.context("making a directory for the cluster")?);
        let directory = self.files.as_ref().expect("it was just made").path();
        let (name, arguments) = shape.registry.process(directory);
        let registry = self.registry.insert(Process::spawn(name.to_owned(), arguments)?);
        self.url = Some(registry.address().await?.parse()?);
        let mut started = Vec::new();
        for _ in 0..shape.servers {
            started.push(self.spawn(started.len() + 1)?);
        }
        for process in started {
            self.join(process).await?;
        }
        Ok(())
    }

    /// Starts one more server.
    pub(crate) async fn add(&mut self) -> anyhow::Result<ProcessInfo> {
        let process = self.spawn(self.members.len() + self.past.len() + 1)?;
        self.join(process).await
    }

    fn spawn(&self, number: usize) -> anyhow::Result<Process> {
        let name = format!("server-{number}");
        let address = match self.files.as_ref().filter(|_| self.unix) {
            Some(directory) => Address::unix(directory.path().join(&name))?,
            None => Address::parse("tcp@127.0.0.1:0")?,
        };
        let url = self.url.as_ref().context("there is no registry")?;
        let arguments = [
            "server",
            "--instance",
            &name,
            "--listen",
            &address.to_string(),
            "--http",
            "127.0.0.1:0",
            "--registry",
            &url.to_string(),
            "--drain-timeout",
            DRAIN_LIMIT,
        ];
        Process::spawn(name.clone(), arguments)
    }

    /// Reads the addresses of the server, and checks that it serves.
    async fn join(&mut self, mut process: Process) -> anyhow::Result<ProcessInfo> {
        let address = Address::parse(&process.address().await?)?;
        let http = process.address().await?;
        let builder = Channel::builder().to(address.clone()).options(self.options.clone());
        let channel = builder.timeout(CALL_LIMIT).build()?;
        let health: Health = channel.call(HEALTH, &HealthRequest::default()).await?;
        if health.status != HealthStatus::Serving {
            bail!("{} does not serve", process.name);
        }
        let connection = channel.connection().context("the connection broke")?;
        let max_frame_bytes = connection.negotiated().send_limit.get();
        self.members.push(Member { process, address, http, channel, max_frame_bytes });
        Ok(self.members[self.members.len() - 1].info())
    }

    /// Returns a channel to all servers of `service` in the registry, once all of them are found.
    pub(crate) async fn channel(&self, service: &str) -> anyhow::Result<Channel> {
        let url = self.url.as_ref().context("there is no registry")?;
        let builder = url.discover(Channel::builder(), service)?;
        let channel = builder.options(self.options.clone()).timeout(CALL_LIMIT).build()?;
        let started = Instant::now();
        // Servers serve before they are registered: the first list may be older than that.
        while let Err(error) = channel.connect().await {
            if started.elapsed() > START_LIMIT {
                return Err(error.into());
            }
            sleep(POLL_INTERVAL).await;
        }
        for Member { address, .. } in &self.members {
            self.found(&channel, &address.to_string()).await?;
        }
        Ok(channel)
    }

    /// Waits until the channel has found the server at this address.
    pub(crate) async fn found(&self, channel: &Channel, address: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        while !channel.endpoints().iter().any(|status| status.endpoint.address.to_string() == address) {
            if started.elapsed() > START_LIMIT {
                bail!("{address} is not found in the registry");
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Kills a server.
    pub(crate) async fn kill(&mut self, index: usize) -> anyhow::Result<ProcessInfo> {
        let mut member = self.members.remove(index);
        member.process.kill().await?;
        self.past.push(member.summary(None, "killed"));
        Ok(member.info())
    }

    /// Lets a server finish its calls and end.
    pub(crate) async fn drain(&mut self, index: usize) -> anyhow::Result<ServerSummary> {
        let mut member = self.members.remove(index);
        member.process.terminate();
        let output = member.process.ended().await?;
        let calls = |line: &str| {
            let (method, calls) = line.split_once(" took ")?;
            is_of_the_job(method).then(|| calls.parse::<u64>().ok())?
        };
        let took = Some(output.lines().filter_map(calls).sum());
        let summary = member.summary(took, "drained");
        self.past.push(summary.clone());
        Ok(summary)
    }

    pub(crate) const fn url(&self) -> Option<&RegistryUrl> {
        self.url.as_ref()
    }

    /// Returns all processes, the registry first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = ProcessInfo> {
        let registry = self.registry.as_ref().zip(self.url.as_ref()).map(|(process, url)| ProcessInfo {
            name: process.name.clone(),
            place: url.to_string(),
            pid: process.pid,
            http: None,
        });
        registry.into_iter().chain(self.members.iter().map(Member::info))
    }

    /// Returns the size of the largest frame that all servers accept.
    pub(crate) fn max_frame_bytes(&self) -> Option<usize> {
        self.members.iter().map(|member| member.max_frame_bytes).min()
    }

    /// Returns the stopped servers, then the running ones, each with the number of its calls.
    pub(crate) async fn summaries(&self) -> anyhow::Result<Vec<ServerSummary>> {
        let mut summaries = self.past.clone();
        for member in &self.members {
            let stats = member.channel.call::<Vec<MethodStats>>(STATS, &()).await;
            let took = match stats {
                Ok(stats) => {
                    let of_the_job = stats.iter().filter(|stats| is_of_the_job(&stats.name));
                    Some(of_the_job.map(|stats| stats.calls).sum())
                }
                // It was killed by another process.
                Err(_) => None,
            };
            summaries.push(member.summary(took, ""));
        }
        Ok(summaries)
    }

    /// Describes the processes that have ended unexpectedly. Waits for those that were killed just
    /// now.
    pub(crate) async fn deaths(&mut self) -> Vec<String> {
        if self.registry.is_some() {
            sleep(DEATH_LAG).await;
        }
        let end = Instant::now() + MAX_DEATH_LAG;
        while Instant::now() < end && self.members.iter_mut().any(Member::is_dying) {
            sleep(POLL_INTERVAL).await;
        }
        let mut deaths = Vec::new();
        if let Some(death) = self.registry.as_mut().and_then(Process::death) {
            deaths.push(death);
            self.registry = None;
        }
        self.members.retain_mut(|member| match member.process.death() {
            None => true,
            Some(death) => {
                deaths.push(death);
                false
            }
        });
        deaths
    }

    /// Stops all processes: terminates the servers, waits for them, kills those that take too long;
    /// then the registry.
    ///
    /// # Errors
    ///
    /// A process did not stop, or failed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for member in &self.members {
            member.process.terminate();
        }
        let mut result = Ok(());
        for member in &mut self.members {
            result = result.and(member.process.ended().await.map(drop));
        }
        if let Some(registry) = &mut self.registry {
            registry.terminate();
            result = result.and(registry.ended().await.map(drop));
        }
        result
    }
}

/// Returns `true` if a method counts texts, as all calls of a job do.
fn is_of_the_job(method: &str) -> bool {
    matches!(method, "Text.count" | "Text.count_pieces")
}

impl Member {
    /// Returns `true` if its connection has ended and its process has not.
    fn is_dying(&mut self) -> bool {
        !self.channel.is_available() && self.process.death().is_none()
    }

    fn info(&self) -> ProcessInfo {
        let Process { name, pid, .. } = &self.process;
        let (name, place, http) = (name.clone(), self.address.to_string(), Some(self.http.clone()));
        ProcessInfo { name, place, pid: *pid, http }
    }

    fn summary(&self, took: Option<u64>, fate: &'static str) -> ServerSummary {
        ServerSummary { name: self.process.name.clone(), address: self.address.clone(), took, fate }
    }
}
