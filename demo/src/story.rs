//! What happens to the cluster in the middle of a job: a server is killed, another one started, a
//! third one drained.

use std::fmt::Display;
use std::time::Instant;

use farcall::Channel;
use farcall::transport::HumanDuration;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::progress::Progress;

/// With fewer servers there is nobody left in the middle.
const LEAST_SERVERS: usize = 3;
/// With fewer calls it is over before it begins.
const LEAST_CALLS: u64 = 100;

/// How far the story has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chapter {
    Quiet,
    Killed,
    Joined,
    Draining,
    Drained,
}

/// At which calls something happens, and which calls wait until it has happened.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    calls: u64,
    /// What is to happen.
    due: watch::Sender<Chapter>,
    /// What has happened.
    done: watch::Receiver<Chapter>,
}

/// Makes happen what is due.
#[derive(Debug)]
pub(crate) struct Story {
    due: watch::Receiver<Chapter>,
    done: watch::Sender<Chapter>,
    began: Instant,
    progress: Progress,
}

/// A story for a job of so many calls; none where it is too small for one.
pub(crate) fn story(servers: usize, calls: u64, progress: &Progress) -> Option<(Plot, Story)> {
    if servers < LEAST_SERVERS || calls < LEAST_CALLS {
        return None;
    }
    let (due, is_due) = watch::channel(Chapter::Quiet);
    let (is_done, done) = watch::channel(Chapter::Quiet);
    let story = Story { due: is_due, done: is_done, began: Instant::now(), progress: progress.clone() };
    Some((Plot { calls, due, done }, story))
}

impl Plot {
    /// Ready when the call of this number may be made. What it sets off happens while others are
    /// under way.
    pub(crate) async fn pass(&mut self, number: u64) {
        let at = |percent| number == self.calls * percent / 100;
        if at(25) {
            self.due.send_replace(Chapter::Killed);
        } else if at(60) {
            self.until(Chapter::Joined).await;
        } else if at(65) {
            self.due.send_replace(Chapter::Draining);
        } else if at(95) {
            self.until(Chapter::Drained).await;
        }
    }

    async fn until(&mut self, chapter: Chapter) {
        // A story that ended early has failed, which is told by whoever runs it.
        let _ = self.done.wait_for(|done| *done >= chapter).await;
    }
}

impl Story {
    /// Makes happen what is due, until the calls have come to an end.
    pub(crate) async fn run(mut self, cluster: &mut Cluster, channel: &Channel) -> anyhow::Result<()> {
        if !self.is_due(Chapter::Killed).await {
            return Ok(());
        }
        let killed = cluster.kill(0).await?;
        self.tell(format_args!("{} at {} killed with SIGKILL", killed.name, killed.place));
        self.done.send_replace(Chapter::Killed);

        let new = cluster.add().await?;
        self.tell(format_args!("{} started at {}", new.name, new.whereabouts()));
        cluster.found(channel, &new.place).await?;
        self.tell(format_args!("{} found by the client", new.name));
        self.done.send_replace(Chapter::Joined);

        if !self.is_due(Chapter::Draining).await {
            return Ok(());
        }
        self.tell("server-3 asked to stop with SIGTERM: it deregisters and drains");
        let drained = cluster.drain(1).await?;
        let took = drained.took.unwrap_or_default();
        self.tell(format_args!("{} ended by itself, after {took} calls", drained.name));
        self.done.send_replace(Chapter::Drained);
        Ok(())
    }

    async fn is_due(&mut self, chapter: Chapter) -> bool {
        self.due.wait_for(|due| *due >= chapter).await.is_ok()
    }

    fn tell(&self, line: impl Display) {
        let at = HumanDuration(self.began.elapsed()).to_string();
        self.progress.tell(format_args!("{at:>9}  {line}"));
    }
}
