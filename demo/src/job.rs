//! The job: count the words of all files by calls to the cluster, and check the answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use farcall::describe::{MethodStats, STATS};
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;

use crate::cli::JobArgs;
use crate::cluster::{Cluster, Member, Shape};
use crate::count::{Counts, difference, merge};
use crate::input::{self, Found, Terms, shown};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::report::{Latencies, Report, ServerLine, say};
use crate::services::TextClient;
use crate::signals::Signals;
use crate::source::{Expected, Source, read_ahead};

const STDOUT: &str = "writing to stdout";

/// Starts a cluster, runs the job on it, reports, and stops the cluster, whatever happens.
pub(crate) async fn run(args: JobArgs) -> anyhow::Result<Outcome> {
    // Before there is a process that a signal could leave behind.
    let mut signals = Signals::catch().context("catching signals")?;
    let mut cluster = Cluster::default();
    let worked = tokio::select! {
        // A job that is cut short has nothing to keep; the cluster is stopped below.
        worked = work(args, &mut cluster) => worked.map(|()| Outcome::Done),
        signal = signals.next() => Ok(Outcome::Interrupted(signal)),
    };
    match worked {
        Ok(outcome) => {
            cluster.stop().await?;
            Ok(outcome)
        }
        Err(error) => {
            let deaths = cluster.deaths().await;
            // Whatever it says, it is not why the job failed.
            let _: anyhow::Result<()> = cluster.stop().await;
            Err(if deaths.is_empty() { error } else { error.context(deaths.join("; ")) })
        }
    }
}

async fn work(args: JobArgs, cluster: &mut Cluster) -> anyhow::Result<()> {
    let roots = if args.input.is_empty() { vec![input::default_root()] } else { args.input };
    let found = tokio::task::spawn_blocking(move || Found::search(&roots)).await??;
    let codec = args.codec.codec();
    let shape = Shape { servers: args.servers, codec: codec.clone(), unix: args.unix };
    let members = cluster.start(&shape).await?;
    for member in &members {
        say(format_args!("{} at {} (pid {})", member.name, member.address, member.pid)).context(STDOUT)?;
    }
    let max_frame_bytes = members.iter().map(|member| member.max_frame_bytes).min();
    let terms = Terms { codec, max_frame_bytes: max_frame_bytes.context("there is no server")? };
    let job = Job { members, terms, repeat: args.repeat as u64, concurrency: args.concurrency };
    let report = job.run(found).await?;
    say(report).context(STDOUT)
}

/// A job on a cluster that serves.
struct Job {
    members: Vec<Member>,
    terms: Terms,
    repeat: u64,
    concurrency: usize,
}

/// What the answers come to.
struct Tally {
    bytes: u64,
    calls: u64,
    counts: Counts,
    latencies: Latencies,
    /// Calls that were sent to each member.
    sent: Vec<u64>,
}

/// An answer that came, and was compared with the count of its file.
struct Answer {
    source: Arc<Source>,
    counts: Counts,
    latency: Duration,
    /// Which member gave it.
    member: usize,
}

impl Job {
    async fn run(self, found: Found) -> anyhow::Result<Report> {
        ensure!(!found.files.is_empty(), "there are no files in the input");
        let progress = Progress::new(found.files.len() as u64 * self.repeat);
        for skipped in &found.skipped {
            progress.skip(skipped, 0);
        }
        let started = Instant::now();
        let (sources, reading) = read_ahead(found.files, self.repeat, self.terms.clone(), progress.clone());
        let tally = self.count(sources, &progress).await;
        let took = started.elapsed();
        progress.finish();
        let tally = tally?;
        let mut expected = reading.await.context("reading the files")?;
        expected.skipped.splice(0..0, found.skipped);
        check(&tally, &expected)?;
        let servers = self.check_members(&tally.sent).await?;
        Ok(Report {
            counts: tally.counts,
            files: expected.files,
            skipped: expected.skipped,
            bytes: tally.bytes,
            calls: tally.calls,
            took,
            latencies: tally.latencies,
            servers,
        })
    }

    /// Makes all calls. The first that fails ends the job, and the others with it.
    async fn count(
        &self,
        sources: mpsc::Receiver<Arc<Source>>,
        progress: &Progress,
    ) -> anyhow::Result<Tally> {
        let clients: Vec<_> =
            self.members.iter().map(|member| TextClient::new(member.channel.clone())).collect();
        let mut tally = Tally {
            bytes: 0,
            calls: 0,
            counts: Counts::new(),
            latencies: Latencies::new(),
            sent: vec![0; clients.len()],
        };
        let answers = each_repeated(sources, self.repeat)
            .enumerate()
            .map(|(number, source)| {
                let member = number % clients.len();
                call(&clients[member], member, source)
            })
            .buffer_unordered(self.concurrency);
        let mut answers = pin!(answers);
        while let Some(answer) = answers.next().await {
            tally.add(&answer?);
            progress.advance();
        }
        Ok(tally)
    }

    /// Asks each member how many calls it took, and compares that with what it was sent.
    async fn check_members(&self, sent: &[u64]) -> anyhow::Result<Vec<ServerLine>> {
        let mut lines = Vec::new();
        for (member, &sent) in self.members.iter().zip(sent) {
            let stats: Vec<MethodStats> = member
                .channel
                .call(STATS, &())
                .await
                .with_context(|| format!("asking {} for its statistics", member.name))?;
            let took = stats.iter().find(|stats| stats.name == "Text.count").map_or(0, |stats| stats.calls);
            ensure!(took == sent, "{} was sent {sent} calls and says that it took {took}", member.name);
            lines.push(ServerLine {
                name: member.name.clone(),
                address: member.address.to_string(),
                sent,
                took,
            });
        }
        Ok(lines)
    }
}

/// Each source as often as it is to be sent.
fn each_repeated(sources: mpsc::Receiver<Arc<Source>>, repeat: u64) -> impl Stream<Item = Arc<Source>> {
    let sources = stream::unfold(sources, async |mut sources| Some((sources.recv().await?, sources)));
    sources.flat_map(move |source| stream::iter((0..repeat).map(move |_| Arc::clone(&source))))
}

async fn call(client: &TextClient, member: usize, source: Arc<Source>) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let counts = client.count(source.text.clone()).await.with_context(|| shown(&source.path))?;
    let latency = started.elapsed();
    match difference(&counts, &source.counts) {
        None => Ok(Answer { source, counts, latency, member }),
        Some(difference) => Err(anyhow!("{}: {difference}", shown(&source.path))),
    }
}

impl Tally {
    fn add(&mut self, answer: &Answer) {
        self.bytes += answer.source.text.len() as u64;
        self.calls += 1;
        self.sent[answer.member] += 1;
        self.latencies.record(answer.latency);
        merge(&mut self.counts, &answer.counts, 1);
    }
}

/// Compares what the answers come to with what was counted here.
fn check(tally: &Tally, expected: &Expected) -> anyhow::Result<()> {
    ensure!(expected.calls > 0, "there is nothing to count: all files were skipped");
    let Expected { calls, bytes, .. } = expected;
    ensure!(tally.calls == *calls, "{calls} calls were to be answered, and {} were", tally.calls);
    ensure!(tally.bytes == *bytes, "{bytes} bytes were to be counted, and {} were", tally.bytes);
    match difference(&tally.counts, &expected.counts) {
        None => Ok(()),
        Some(difference) => Err(anyhow!("in all files together: {difference}")),
    }
}
