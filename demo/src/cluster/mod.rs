//! The processes of a job: a registry, and servers that register there. None is left behind,
//! however this process ends: each exits when the pipe to its stdin closes.

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
use crate::registry::{RegistryName, RegistryUrl};

/// How long all servers may take to be found.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may finish its calls.
const DRAIN_LIMIT: &str = "3s";
/// The longest that a call may take before the job gives up.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// The counts of a text can take several times its bytes: a text of single letters becomes a map
/// with a number for each.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long the end of a process may come after that of its connections.
const DEATH_LAG: Duration = Duration::from_millis(300);
/// How often it is looked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) registry: RegistryName,
    pub(crate) servers: usize,
    pub(crate) codec: Codec,
    /// Whether the servers listen on unix sockets.
    pub(crate) unix: bool,
}

/// A registry and servers. Dropping it kills them.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    registry: Option<Process>,
    url: Option<RegistryUrl>,
    members: Vec<Member>,
    /// Those that are no longer there, since the job had it so.
    past: Vec<Past>,
    /// The sockets, and what etcd keeps.
    files: Option<TempDir>,
    options: ConnectionOptions,
    unix: bool,
}

/// A server that serves.
#[derive(Debug)]
struct Member {
    process: Process,
    address: Address,
    /// Where it serves HTTP.
    http: String,
    /// A way to this one, beside the job's channel.
    channel: Channel,
    /// The largest frame that it accepts, in bytes.
    max_frame_bytes: usize,
}

/// A server that serves no longer.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The calls that it took, where it could say so.
    pub(crate) took: Option<u64>,
    pub(crate) fate: &'static str,
}

/// A process, as it is told to people.
#[derive(Clone, Debug)]
pub(crate) struct Introduced {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) pid: u32,
    /// Where it serves HTTP, if it is one of the servers.
    pub(crate) http: Option<String>,
}

impl Introduced {
    /// Where it is: for programs, for the system, and for browsers.
    pub(crate) fn whereabouts(&self) -> String {
        let Self { place, pid, http, .. } = self;
        let seen = http.as_ref().map(|http| format!(", seen at {http}{DEBUG_PAGE}"));
        format!("{place} (pid {pid}){}", seen.unwrap_or_default())
    }

    /// What a person can do with it, if it is one of the servers.
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
    /// Starts all, and waits until all serve. Where that fails, those that were started are still
    /// there to be stopped.
    pub(crate) async fn start(&mut self, shape: &Shape) -> anyhow::Result<()> {
        self.options =
            ConnectionOptions::default().codec(shape.codec.clone()).max_frame_bytes(MAX_ANSWER_BYTES);
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
    pub(crate) async fn add(&mut self) -> anyhow::Result<Introduced> {
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

    /// Reads where the server listens, and asks whether it serves.
    async fn join(&mut self, mut process: Process) -> anyhow::Result<Introduced> {
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
        Ok(self.members[self.members.len() - 1].introduced())
    }

    /// A channel to whoever offers `service`, by way of the registry, once all servers are found.
    pub(crate) async fn channel(&self, service: &str) -> anyhow::Result<Channel> {
        let url = self.url.as_ref().context("there is no registry")?;
        let builder = url.discover(Channel::builder(), service)?;
        let channel = builder.options(self.options.clone()).timeout(CALL_LIMIT).build()?;
        let begin = Instant::now();
        // Servers register while they serve already: the first list may be from before that.
        while let Err(error) = channel.connect().await {
            if begin.elapsed() > START_LIMIT {
                return Err(error.into());
            }
            sleep(LOOK_EVERY).await;
        }
        for Member { address, .. } in &self.members {
            self.found(&channel, &address.to_string()).await?;
        }
        Ok(channel)
    }

    /// Ready when the channel knows of the server at this address.
    pub(crate) async fn found(&self, channel: &Channel, address: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !channel.endpoints().iter().any(|one| one.endpoint.address.to_string() == address) {
            if begin.elapsed() > START_LIMIT {
                bail!("{address} is not found in the registry");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Kills a server.
    pub(crate) async fn kill(&mut self, index: usize) -> anyhow::Result<Introduced> {
        let mut member = self.members.remove(index);
        member.process.kill().await?;
        self.past.push(member.past(None, "killed"));
        Ok(member.introduced())
    }

    /// Has a server finish what it does, and end.
    pub(crate) async fn drain(&mut self, index: usize) -> anyhow::Result<Past> {
        let mut member = self.members.remove(index);
        member.process.terminate();
        let said = member.process.ended().await?;
        let took = said.lines().find_map(|line| line.strip_prefix("Text.count took ")?.parse().ok());
        let past = member.past(took, "drained");
        self.past.push(past.clone());
        Ok(past)
    }

    pub(crate) const fn url(&self) -> Option<&RegistryUrl> {
        self.url.as_ref()
    }

    /// All processes, the registry first.
    pub(crate) fn introduce(&self) -> impl Iterator<Item = Introduced> {
        let registry = self.registry.as_ref().zip(self.url.as_ref()).map(|(process, url)| Introduced {
            name: process.name.clone(),
            place: url.to_string(),
            pid: process.pid,
            http: None,
        });
        registry.into_iter().chain(self.members.iter().map(Member::introduced))
    }

    /// The largest frame that all servers accept.
    pub(crate) fn max_frame_bytes(&self) -> Option<usize> {
        self.members.iter().map(|member| member.max_frame_bytes).min()
    }

    /// Those that are no longer there, and then each server with the calls that it took.
    pub(crate) async fn accounts(&self) -> anyhow::Result<Vec<Past>> {
        let mut accounts = self.past.clone();
        for member in &self.members {
            let stats = member.channel.call::<Vec<MethodStats>>(STATS, &()).await;
            let took = match stats {
                Ok(stats) => stats.iter().find(|stats| stats.name == "Text.count").map(|stats| stats.calls),
                // One that somebody else has killed has no say.
                Err(_) => None,
            };
            accounts.push(member.past(took, ""));
        }
        Ok(accounts)
    }

    /// The processes that have ended though the job did not want it, each with how. Those that were
    /// killed a moment ago are waited for.
    pub(crate) async fn deaths(&mut self) -> Vec<String> {
        if self.registry.is_some() {
            sleep(DEATH_LAG).await;
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

    /// Stops all: asks the servers, waits for them, kills those that take too long; then the
    /// registry.
    ///
    /// # Errors
    ///
    /// One did not stop as it should.
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

impl Member {
    fn introduced(&self) -> Introduced {
        let Process { name, pid, .. } = &self.process;
        let (name, place, http) = (name.clone(), self.address.to_string(), Some(self.http.clone()));
        Introduced { name, place, pid: *pid, http }
    }

    fn past(&self, took: Option<u64>, fate: &'static str) -> Past {
        Past { name: self.process.name.clone(), address: self.address.clone(), took, fate }
    }
}
