//! [`trial`]: one attack from start to end, and what was measured meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::sleep;

use crate::attacker::{Attacker, Scheduling};
use crate::attacks::Attack;
use crate::honest::{Caller, Honest, Phase};
use crate::server::{self, Figures, Server, Supplies};
use crate::verdict::Measured;

/// The time in which the honest clients open their connections before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// The time in which a server must answer a call, hold no more than before the attack, and stop.
const MAX_CALL: Duration = Duration::from_secs(10);
const MAX_RECOVERY: Duration = Duration::from_secs(10);
const MAX_STOP: Duration = Duration::from_secs(5);
/// The same where latency does not count: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time from the end of a run to the reading of the figures that are compared with those of another run: past
/// [`MAX_RECOVERY`] and the last calls of the honest client, and the same after each, since memory is given back as time passes.
const REST: Duration = Duration::from_secs(25);
/// The time between two looks at the server's memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
/// The time between two looks at the server's other figures.
const FIGURES_INTERVAL: Duration = Duration::from_millis(250);

/// The settings that all trials of a run share.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The duration of an attack, unless it needs longer.
    pub(crate) seconds: Duration,
    /// The directory of the servers' programs.
    pub(crate) programs: PathBuf,
    pub(crate) without_latency: bool,
    /// The number of times that each attack is made on the same server. What is left after each is compared.
    pub(crate) runs: u32,
    /// The scheduling class of attackers.
    pub(crate) attacker: Scheduling,
    /// The places for servers that lack something.
    pub(crate) supplies: Supplies,
}

impl Plan {
    /// Returns a limit of time, or a long one where latency does not count.
    fn limit(&self, limit: Duration) -> Duration {
        if self.without_latency { PATIENCE } else { limit }
    }
}

/// Makes a trial of an attack.
///
/// # Errors
///
/// A server does not start, or the attack cannot prepare itself.
pub(crate) async fn trial(attack: &Attack, plan: &Plan) -> anyhow::Result<Measured> {
    let mut target =
        Server::start_lacking(attack.target(), &plan.programs, attack.scarcity(), &plan.supplies).await?;
    let control = Server::start(attack.target(), &plan.programs).await?;
    let mut measured = run(attack, plan, &mut target, &control).await?;
    if plan.runs > 1 && target.ended()?.is_none() {
        measured.repetition.push(resting(&target, &measured).await?);
    }
    for _ in 1..plan.runs {
        // A server that has ended has no figures; its end is reported below.
        if target.ended()?.is_some() {
            break;
        }
        let run = run(attack, plan, &mut target, &control).await?;
        if target.ended()?.is_none() {
            measured.repetition.push(resting(&target, &run).await?);
        }
        measured.further_runs.push(run);
    }
    measured.failure = failure(target, plan.limit(MAX_STOP)).await?;
    Ok(measured)
}

/// Returns the figures of a server that has had time to rest after a run, without any client.
async fn resting(target: &Server, run: &Measured) -> anyhow::Result<Figures> {
    if let Some(left) = run.left {
        sleep((left + REST).saturating_duration_since(Instant::now())).await;
    }
    Figures::of(target).await.context("reading the server's figures at rest")
}

/// Makes one run of an attack on a server, beside honest clients.
async fn run(
    attack: &Attack,
    plan: &Plan,
    target: &mut Server,
    control: &Server,
) -> anyhow::Result<Measured> {
    let mut attacker = Attacker::start(attack, target, plan.attacker)?;
    attacker.ready().await?;
    let max_call = plan.limit(MAX_CALL);
    let newcomers_count = attack.newcomers_count();
    let honest = Caller::connect(target, attack.honest()).await?;
    let honest = Honest::start(honest, max_call, newcomers_count);
    let controlling = Caller::connect(control, attack.honest()).await?;
    let controlling = Honest::start(controlling, max_call, true);
    let begin = |phase| [&honest, &controlling].into_iter().for_each(|client| client.recorder.begin(phase));

    sleep(WARM_UP).await;
    begin(Phase::Before);
    sleep(plan.seconds / 2).await;

    let figures_before = Figures::of(target).await.context("reading the server's figures")?;
    let mut measured = Measured { figures_before, ..Measured::default() };
    let log_before = target.log_bytes();
    // What a short run leaves out is what takes long.
    let at_least = if plan.without_latency { Duration::ZERO } else { attack.at_least() };
    let start = Instant::now();
    begin(Phase::During);
    attacker.go().await?;
    let end = start + plan.seconds.max(at_least);
    while Instant::now() < end && target.ended()?.is_none() {
        measured.max_memory = measured.max_memory.max(server::memory(target.pid()).unwrap_or_default());
        sleep(MEMORY_INTERVAL).await;
    }
    measured.attacked = start.elapsed();
    begin(Phase::After);
    measured.figures_during = Figures::of(target).await.ok();
    measured.attacker = attacker.figures().ok();
    attacker.kill().await?;

    let left = Instant::now();
    measured.left = Some(left);
    while measured.back_after.is_none() && left.elapsed() < plan.limit(MAX_RECOVERY) {
        sleep(FIGURES_INTERVAL).await;
        if let Ok(figures) = Figures::of(target).await {
            measured.max_memory = measured.max_memory.max(figures.memory);
            measured.back_after = figures.is_back_to(&measured.figures_before).then(|| left.elapsed());
            measured.figures_after = Some(figures);
        } else if target.ended()?.is_some() {
            break;
        }
    }
    measured.log_bytes = target.log_bytes() - log_before;

    let (honest, controlling) = tokio::join!(honest.finish(), controlling.finish());
    (measured.before, measured.during) = (honest.before(), honest.during());
    (measured.control_before, measured.control_during) = (controlling.before(), controlling.during());
    measured.slowest_newcomer = honest.slowest_newcomer();
    measured.slowest = honest.slowest();
    (measured.errors, measured.first_error) = honest.errors();
    measured.excused = honest.excused();
    Ok(measured)
}

/// Stops the server, and returns how it has failed, if it has.
async fn failure(mut target: Server, max_stop: Duration) -> anyhow::Result<Option<String>> {
    if let Some(status) = target.ended()? {
        return Ok(Some(format!("the server ended with {status}")));
    }
    if target.has_panicked() {
        return Ok(Some("the server panicked".to_owned()));
    }
    Ok(target.stop(max_stop).await.err().map(|error| format!("{error:#}")))
}
