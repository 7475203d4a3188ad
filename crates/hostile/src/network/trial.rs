//! [`trial`]: one fault from start to end, with clients that call before, during and after it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::{sleep, timeout};

use super::clock_lag::ClockLag;
use super::fault::Fault;
use super::firewall::Drops;
use super::host::Host;
use super::judgement::{Judgement, Marks, Observed};
use super::ledger;
use super::names::{IN_DNS, IN_HOSTS, NameServer, Names};
use super::server::PORT;
use super::traffic::{Outcome, Target, Traffic};

/// The time of calls without a fault, before it.
const BEFORE: Duration = Duration::from_secs(2);
/// The time of calls after the fault.
const AFTER: Duration = Duration::from_secs(15);
const AFTER_QUICK: Duration = Duration::from_secs(4);
/// The pause between two looks at what the server holds.
const LOOK: Duration = Duration::from_millis(50);
/// The time after the last call in which a server must have nothing left of its clients.
const MAX_LEFT: Duration = Duration::from_secs(15);

/// Makes a trial of a fault.
pub(super) async fn trial(fault: Fault, quick: bool, names: &Names) -> anyhow::Result<Judgement> {
    let files = tempfile::tempdir_in(names.directory())?;
    let mut hosts = Vec::new();
    for number in 1..=fault.hosts() {
        hosts.push(Host::start(number, files.path()).await?);
    }
    let name_server = match fault {
        Fault::DnsChange => Some(names.name_server(hosts[0].address())?),
        _ => None,
    };
    let target = match fault {
        Fault::HostsChange => {
            names.set_host(hosts[0].address())?;
            Target::Addresses(vec![format!("tcp@{IN_HOSTS}:{PORT}")])
        }
        Fault::DnsChange => Target::Dns(format!("tcp@{IN_DNS}:{PORT}")),
        _ => Target::Addresses(hosts.iter().map(Host::endpoint).collect()),
    };
    let lag = ClockLag::start();
    let traffic = Traffic::start(&target)?;
    sleep(BEFORE).await;
    let began = Instant::now();
    begin(fault, &hosts, names, name_server.as_ref()).await?;
    // Commands of the system made it, which took a moment.
    let made = Instant::now();
    let server_noticed = watch_server(&hosts[0], made, fault, quick).await;
    end(fault, &mut hosts).await?;
    let healed = Instant::now();
    sleep(if quick { AFTER_QUICK } else { AFTER }).await;
    let stopped = Instant::now();
    let records = timeout(MAX_LEFT * 2, traffic.stop()).await.context("the clients do not stop")??;
    let before = records.calls.iter().filter(|call| call.ended < began);
    ensure!(
        before.clone().any(|call| call.outcome == Outcome::Answered),
        "no call was answered before the fault"
    );
    let left = nothing_is_left(&hosts, fault).await;
    let begun = ledger::read(&files.path().join("ledger"))?;
    let marks = Marks { began, made, healed, stopped };
    Ok(Judgement::of(fault, &Observed { records, marks, lag, begun, server_noticed, left }))
}

/// Makes the fault.
async fn begin(
    fault: Fault,
    hosts: &[Host],
    names: &Names,
    name_server: Option<&NameServer>,
) -> anyhow::Result<()> {
    let server = &hosts[0];
    let lose = |part| {
        server.drop_requests(Some(Drops::Percent(part)))?;
        server.drop_answers(Some(Drops::Percent(part)))
    };
    match fault {
        Fault::Loss1 => lose(1),
        Fault::Loss5 => lose(5),
        Fault::Loss30 => lose(30),
        Fault::CutToServer => server.drop_requests(Some(Drops::All)),
        Fault::CutToClient => server.drop_answers(Some(Drops::All)),
        Fault::ShortPartition | Fault::Partition => {
            server.drop_requests(Some(Drops::All))?;
            server.drop_answers(Some(Drops::All))
        }
        Fault::LinkDown | Fault::HostRestarts | Fault::VanishedOfTwo => server.set_link(false),
        Fault::Frozen | Fault::FrozenOfTwo => server.set_frozen(true),
        Fault::HostsChange => {
            names.set_host(hosts[1].address())?;
            server.set_link(false)
        }
        Fault::DnsChange => {
            names.set_dns(name_server.context("there is no name server")?, hosts[1].address())?;
            // Until the clients have asked again, and their calls are with the other one.
            sleep(Duration::from_secs(5)).await;
            server.set_link(false)
        }
    }
}

/// Waits for the length of the fault; returns when the server had no connection of a client any more.
async fn watch_server(server: &Host, made: Instant, fault: Fault, quick: bool) -> Option<Duration> {
    let lasts = fault.lasts(quick);
    let mut noticed = None;
    while made.elapsed() < lasts {
        if noticed.is_none()
            && fault.promise().server_notices_within.is_some()
            && server.holds().await.is_some_and(|holds| holds.connections == 0)
        {
            noticed = Some(made.elapsed());
        }
        sleep(LOOK.min(lasts.saturating_sub(made.elapsed()))).await;
    }
    noticed
}

/// Ends the fault.
async fn end(fault: Fault, hosts: &mut [Host]) -> anyhow::Result<()> {
    let server = &mut hosts[0];
    match fault {
        Fault::LinkDown | Fault::VanishedOfTwo => server.set_link(true),
        Fault::HostRestarts => server.reboot().await,
        Fault::Frozen | Fault::FrozenOfTwo => server.set_frozen(false),
        Fault::HostsChange | Fault::DnsChange => Ok(()),
        _ => {
            server.drop_requests(None)?;
            server.drop_answers(None)
        }
    }
}

/// Waits until the servers hold nothing for the clients that have gone; returns how long that took, `None` if it does not
/// happen. A host that stays unplugged is not asked.
async fn nothing_is_left(hosts: &[Host], fault: Fault) -> Option<Duration> {
    let began = Instant::now();
    let mut waiting: Vec<&Host> = hosts.iter().skip(usize::from(!fault.heals())).collect();
    while began.elapsed() < MAX_LEFT {
        let Some(host) = waiting.last() else { return Some(began.elapsed()) };
        if host.holds().await.is_some_and(|holds| holds.connections == 0 && holds.calls == 0) {
            waiting.pop();
        } else {
            sleep(LOOK).await;
        }
    }
    None
}
