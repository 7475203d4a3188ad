//! Disruptions of the cluster during a job: a server is killed, another one started, a third one
//! drained.

use std::fmt::Display;
use std::time::Instant;

use farcall::Channel;
use farcall::transport::HumanDuration;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::progress::Progress;

/// The number of servers below which a disruption would leave none.
const MIN_SERVERS: usize = 3;
/// The number of calls below which the job would end before the disruptions.
const MIN_CALLS: u64 = 100;

/// A stage of the disruptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Quiet,
    Killed,
    Joined,
    Draining,
    Drained,
}

/// Triggers disruptions at certain calls, and delays certain calls until a disruption is complete.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    calls: u64,
    /// The requested stage.
    due: watch::Sender<Stage>,
    /// The completed stage.
    done: watch::Receiver<Stage>,
}

/// Performs the disruptions.
#[derive(Debug)]
pub(crate) struct Disruptions {
    due: watch::Receiver<Stage>,
    done: watch::Sender<Stage>,
    started_at: Instant,
    progress: Progress,
}

/// Returns the disruptions of a job with this number of calls; `None` if the job is too small.
pub(crate) fn disruptions(servers: usize, calls: u64, progress: &Progress) -> Option<(Gate, Disruptions)> {
    if servers < MIN_SERVERS || calls < MIN_CALLS {
        return None;
    }
    let (due, is_due) = watch::channel(Stage::Quiet);
    let (is_done, done) = watch::channel(Stage::Quiet);
    let disruptions =
        Disruptions { due: is_due, done: is_done, started_at: Instant::now(), progress: progress.clone() };
    Some((Gate { calls, due, done }, disruptions))
}

impl Gate {
    /// Waits until the call with this number may be made. The disruption that it triggers happens while
    /// other calls are in flight.
    pub(crate) async fn admit(&mut self, number: u64) {
        let at = |percent| number == self.calls * percent / 100;
        if at(25) {
            self.due.send_replace(Stage::Killed);
        } else if at(60) {
            self.until(Stage::Joined).await;
        } else if at(65) {
            self.due.send_replace(Stage::Draining);
        } else if at(95) {
            self.until(Stage::Drained).await;
        }
    }

    async fn until(&mut self, stage: Stage) {
        // Disruptions that ended early have failed, which their own task reports.
        let _ = self.done.wait_for(|done| *done >= stage).await;
    }
}

impl Disruptions {
    /// Performs each disruption when it is due, until the gate is dropped.
    pub(crate) async fn run(mut self, cluster: &mut Cluster, channel: &Channel) -> anyhow::Result<()> {
        if !self.is_due(Stage::Killed).await {
            return Ok(());
        }
        let killed = cluster.kill(0).await?;
        self.print(format_args!("{} at {} killed with SIGKILL", killed.name, killed.place));
        self.done.send_replace(Stage::Killed);

        let new = cluster.add().await?;
        self.print(format_args!("{} started at {}", new.name, new.location()));
        cluster.found(channel, &new.place).await?;
        self.print(format_args!("{} found by the client", new.name));
        self.done.send_replace(Stage::Joined);

        if !self.is_due(Stage::Draining).await {
            return Ok(());
        }
        self.print("server-3 asked to stop with SIGTERM: it deregisters and drains");
        let drained = cluster.drain(1).await?;
        let took = drained.took.unwrap_or_default();
        self.print(format_args!("{} ended by itself, after {took} calls", drained.name));
        self.done.send_replace(Stage::Drained);
        Ok(())
    }

    async fn is_due(&mut self, stage: Stage) -> bool {
        self.due.wait_for(|due| *due >= stage).await.is_ok()
    }

    fn print(&self, line: impl Display) {
        let at = HumanDuration(self.started_at.elapsed()).to_string();
        self.progress.print(format_args!("{at:>9}  {line}"));
    }
}
