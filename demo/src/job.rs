//! The job: counts the words of all files with calls to the cluster, and checks the answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use farcall::Channel;
use farcall::client::ConnectionOptions;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tracing::warn;

use crate::cli::JobArgs;
use crate::cluster::{Cluster, Shape};
use crate::count::{Counts, difference, merge};
use crate::disruptions::{Gate, disruptions};
use crate::http::Page;
use crate::input::{self, Found, Terms, shown};
use crate::outcome::Outcome;
use crate::pieces::count_remotely;
use crate::progress::Progress;
use crate::registry_url::RegistryUrl;
use crate::report::{Latencies, Report, say};
use crate::services::TextClient;
use crate::signals::Signals;
use crate::source::{Expected, Source, read_ahead};
use crate::watch::watch;

const STDOUT: &str = "writing to stdout";

/// Starts a cluster, runs the job on it, prints the report, and always stops the cluster.
pub(crate) async fn run(args: JobArgs) -> anyhow::Result<Outcome> {
    // Before the first process is started, so that a signal leaves none behind.
    let mut signals = Signals::catch().context("catching signals")?;
    let mut cluster = Cluster::default();
    let keep = args.keep;
    let mut page = None;
    let result = tokio::select! {
        // Cancel-safe: the state of an interrupted job is not needed; the cluster is stopped below.
        result = work(args, &mut cluster, &mut page) => result.map(|()| Outcome::Done),
        signal = signals.next() => Ok(Outcome::Interrupted(signal)),
    };
    let result = match result {
        Ok(Outcome::Done) if keep => until_signal(&cluster, page.as_ref(), &mut signals).await,
        other => other,
    };
    drop(page);
    let deaths = cluster.deaths().await;
    match result {
        Ok(outcome) => {
            // The job succeeded without them.
            for death in deaths {
                warn!("{death}");
            }
            cluster.stop().await?;
            Ok(outcome)
        }
        Err(error) => {
            // The job's error is the one to report.
            let _: anyhow::Result<()> = cluster.stop().await;
            Err(if deaths.is_empty() { error } else { error.context(deaths.join("; ")) })
        }
    }
}

/// Keeps the cluster running until a signal, and prints what to try with it.
async fn until_signal(
    cluster: &Cluster,
    page: Option<&Page>,
    signals: &mut Signals,
) -> anyhow::Result<Outcome> {
    say("\nThe cluster runs until Ctrl-C:").context(STDOUT)?;
    for hint in cluster.url().map(RegistryUrl::hints).unwrap_or_default() {
        say(format_args!("  {hint}")).context(STDOUT)?;
    }
    for server in cluster.processes() {
        for hint in server.hints() {
            say(format_args!("  {hint}")).context(STDOUT)?;
        }
    }
    if let Some(page) = page {
        say(format_args!("  open    {} (this job)", page.url)).context(STDOUT)?;
    }
    signals.next().await;
    Ok(Outcome::Done)
}

/// Starts the cluster and runs the job on it. The caller keeps `page`, so that it stays available.
async fn work(args: JobArgs, cluster: &mut Cluster, page: &mut Option<Page>) -> anyhow::Result<()> {
    let roots = if args.input.is_empty() { vec![input::default_root()] } else { args.input };
    let found = tokio::task::spawn_blocking(move || Found::search(&roots)).await??;
    ensure!(!found.files.is_empty(), "there are no files in the input");
    let codec = args.codec.codec();
    let shape =
        Shape { registry: args.registry, servers: args.servers, codec: codec.clone(), unix: args.unix };
    cluster.start(&shape).await?;
    for process in cluster.processes() {
        say(format_args!("{} at {}", process.name, process.location())).context(STDOUT)?;
    }
    let max_frame_bytes = cluster.max_frame_bytes().context("there is no server")?;
    let channel = cluster.channel("Text").await?;
    let planned = found.files.len() as u64 * args.repeat as u64;
    let progress = Progress::new(planned);
    let seen = progress.clone();
    let Page { url, .. } = page.insert(Page::of("Text", &channel, move || seen.rows()).await?);
    let servers = channel.endpoints().len();
    say(format_args!("Text found at {servers} servers, its calls seen at {url}")).context(STDOUT)?;
    let job = Job {
        channel,
        terms: Terms { codec, max_frame_bytes },
        repeat: args.repeat as u64,
        planned,
        progress,
        concurrency: args.concurrency,
        calm: args.calm,
        servers: args.servers,
    };
    let report = job.run(found, cluster).await?;
    say(report).context(STDOUT)
}

/// A job on a running cluster.
struct Job {
    /// The channel to all servers.
    channel: Channel,
    terms: Terms,
    repeat: u64,
    /// The calls that are to be made, for the files that are found.
    planned: u64,
    progress: Progress,
    concurrency: usize,
    calm: bool,
    servers: usize,
}

/// The totals of the answers.
struct Tally {
    bytes: u64,
    calls: u64,
    counts: Counts,
    latencies: Latencies,
}

/// An answer that equals the local count of its file.
struct Answer {
    source: Arc<Source>,
    counts: Counts,
    latency: Duration,
}

impl Job {
    async fn run(self, found: Found, cluster: &mut Cluster) -> anyhow::Result<Report> {
        let progress = &self.progress;
        progress.start();
        for skipped in &found.skipped {
            progress.skip(skipped, 0);
        }
        let (gate, disruptions) =
            match disruptions(self.servers, self.planned, progress).filter(|_| !self.calm) {
                Some((gate, disruptions)) => (Some(gate), Some(disruptions)),
                None => (None, None),
            };
        let started = Instant::now();
        let (sources, reading) = read_ahead(found.files, self.repeat, self.terms.clone(), progress.clone());
        let disrupting = async {
            match disruptions {
                Some(disruptions) => disruptions.run(cluster, &self.channel).await,
                None => Ok(()),
            }
        };
        // The disruptions end with the calls, when the gate is dropped.
        let options = ConnectionOptions::default().codec(self.terms.codec.clone());
        let outcome = tokio::select! {
            outcome = async { tokio::try_join!(self.count(sources, gate), disrupting) } => outcome,
            never = watch(&self.channel, &options, progress) => match never {},
        };
        let took = started.elapsed();
        progress.finish();
        let (tally, ()) = outcome?;
        let mut expected = reading.await.context("reading the files")?;
        expected.skipped.splice(0..0, found.skipped);
        check(&tally, &expected)?;
        Ok(Report {
            counts: tally.counts,
            files: expected.files,
            skipped: expected.skipped,
            bytes: tally.bytes,
            calls: tally.calls,
            took,
            latencies: tally.latencies,
            servers: cluster.summaries().await?,
        })
    }

    /// Makes all calls. The first failure ends the job, and cancels the other calls.
    async fn count(&self, sources: mpsc::Receiver<Arc<Source>>, gate: Option<Gate>) -> anyhow::Result<Tally> {
        let client = TextClient::new(self.channel.clone());
        let mut tally = Tally { bytes: 0, calls: 0, counts: Counts::new(), latencies: Latencies::new() };
        let answers = admitted(each_repeated(sources, self.repeat), gate)
            .map(|source| call(&client, source, self.terms.max_piece()))
            .buffer_unordered(self.concurrency);
        let mut answers = pin!(answers);
        while let Some(answer) = answers.next().await {
            tally.add(&answer?);
            self.progress.advance();
        }
        Ok(tally)
    }
}

/// Yields each source when the gate admits it.
fn admitted(sources: impl Stream<Item = Arc<Source>>, gate: Option<Gate>) -> impl Stream<Item = Arc<Source>> {
    let numbered = Box::pin(sources.enumerate());
    stream::unfold((numbered, gate), async |(mut numbered, mut gate)| {
        let (number, source) = numbered.next().await?;
        if let Some(gate) = &mut gate {
            gate.admit(number as u64).await;
        }
        Some((source, (numbered, gate)))
    })
}

/// Yields each source `repeat` times.
fn each_repeated(sources: mpsc::Receiver<Arc<Source>>, repeat: u64) -> impl Stream<Item = Arc<Source>> {
    let sources = stream::unfold(sources, async |mut sources| Some((sources.recv().await?, sources)));
    sources.flat_map(move |source| stream::iter((0..repeat).map(move |_| Arc::clone(&source))))
}

async fn call(client: &TextClient, source: Arc<Source>, max_piece: usize) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let counts = match &source.text {
        Some(text) => client.count(text.clone()).await.map_err(Into::into),
        None => count_remotely(client, &source.path, max_piece).await,
    };
    let counts = counts.with_context(|| shown(&source.path))?;
    let latency = started.elapsed();
    match difference(&counts, &source.counts) {
        None => Ok(Answer { source, counts, latency }),
        Some(difference) => Err(anyhow!("{}: {difference}", shown(&source.path))),
    }
}

impl Tally {
    fn add(&mut self, answer: &Answer) {
        self.bytes += answer.source.bytes;
        self.calls += 1;
        self.latencies.record(answer.latency);
        merge(&mut self.counts, &answer.counts, 1);
    }
}

/// Compares the totals of the answers with the local counts.
fn check(tally: &Tally, expected: &Expected) -> anyhow::Result<()> {
    ensure!(expected.calls > 0, "there is nothing to count: all files were skipped");
    let Expected { calls, bytes, .. } = expected;
    ensure!(tally.calls == *calls, "{calls} calls were expected, and {} were answered", tally.calls);
    ensure!(tally.bytes == *bytes, "{bytes} bytes were expected, and {} were counted", tally.bytes);
    match difference(&tally.counts, &expected.counts) {
        None => Ok(()),
        Some(difference) => Err(anyhow!("in all files together: {difference}")),
    }
}
