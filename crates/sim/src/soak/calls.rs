//! The calls of the soak that are no streams.

use std::time::Duration;

use farcall::CallError;
use farcall::client::RetryPolicy;
use fastrand::Rng;
use tokio::time::{sleep, timeout};

use super::caller::Caller;
use super::plan::Plan;
use super::streams;
use super::work::{Act, Job};

/// Makes calls for as long as the soak lasts.
pub(super) async fn call_on(caller: Caller, pause_ms: u64, mut random: Rng) {
    while !caller.has_stopped() {
        // Often several at once.
        for _ in 0..random.u8(1..4) {
            start_call(&caller, random.fork());
        }
        sleep(Duration::from_millis(random.u64(..2 * pause_ms))).await;
    }
}

/// Starts one call, which goes on by itself.
fn start_call(caller: &Caller, mut random: Rng) {
    let (caller, node) = (caller.clone(), caller.node.clone());
    node.spawn(async move { call(&caller, &mut random).await });
}

async fn call(caller: &Caller, random: &mut Rng) {
    match random.u8(..20) {
        0 | 1 => streams::download(caller, random).await,
        2 => streams::upload(caller, random).await,
        3 => streams::mirror(caller, random).await,
        4 => notify(caller, random).await,
        5 => broadcast(caller, random).await,
        6 => let_go(caller, random).await,
        16 | 17 => pay(caller, random).await,
        18 => relay(caller, random).await,
        19 if caller.is_spared && caller.servers == 1 => must_be_paid(caller, random).await,
        7 | 8 if caller.is_spared => must_succeed(caller, random).await,
        _ => run(caller, random).await,
    }
}

/// A call of any kind.
async fn run(caller: &Caller, random: &mut Rng) {
    let (policy, attempts) = Plan::retry(random);
    let is_idempotent = random.bool();
    let mut open = caller.record.begin("run", caller.number, if is_idempotent { attempts } else { 1 });
    let limit = Duration::from_millis([0, 1, 100, 3000, 20_000][random.usize(..5)]);
    open.limit(limit);
    let job = job(open.id, random);
    let fails = job.act == Act::Fail;
    let mut call = caller.work().run(job).retry(policy).timeout(limit).wait_for_ready(random.bool());
    if is_idempotent {
        call = call.idempotent();
    }
    match call.await {
        Ok(done) => open.succeeded(done.id),
        Err(CallError::Application(failed)) if fails => open.succeeded(failed.0),
        Err(CallError::Application(failed)) => open.find(format_args!("it failed with {failed:?}")),
        Err(CallError::Rpc(error)) => open.failed(&error),
    }
}

/// An idempotent call with time enough: one server is up, and can be reached.
async fn must_succeed(caller: &Caller, random: &mut Rng) {
    let attempts = caller.servers + 2;
    let mut open = caller.record.begin("must succeed", caller.number, attempts);
    let limit = Duration::from_secs(120);
    open.limit(limit);
    let job = Job { id: open.id, act: Act::Now, load: load_that_passes(caller, random) };
    let call = caller.work().run(job).idempotent().timeout(limit).wait_for_ready(true);
    match call.retry(RetryPolicy::fail_over().max_attempts(attempts)).await {
        Ok(done) => open.succeeded(done.id),
        Err(error) => open.find(format_args!("it failed, though a server was up: {error}")),
    }
}

/// A call that is carried out once, however often it is made.
async fn pay(caller: &Caller, random: &mut Rng) {
    let (policy, _) = Plan::retry(random);
    let mut open = caller.record.begin("pay", caller.number, 1);
    let limit = Duration::from_millis([100, 3000, 20_000][random.usize(..3)]);
    open.limit(limit);
    let job = job(open.id, random);
    let fails = job.act == Act::Fail;
    let call = caller.work().pay(job).retry(policy).timeout(limit).wait_for_ready(random.bool());
    match call.await {
        Ok(done) => open.succeeded(done.id),
        Err(CallError::Application(failed)) if fails => open.succeeded(failed.0),
        Err(CallError::Application(failed)) => open.find(format_args!("it failed with {failed:?}")),
        Err(CallError::Rpc(error)) => open.failed(&error),
    }
}

/// A call that is carried out once, with time enough, at a server that is up and can be reached.
async fn must_be_paid(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("must be paid", caller.number, 1);
    let limit = Duration::from_secs(120);
    open.limit(limit);
    let job = Job { id: open.id, act: Act::Now, load: load_that_passes(caller, random) };
    let call = caller.work().pay(job).timeout(limit).wait_for_ready(true);
    match call.retry(RetryPolicy::fail_over().max_attempts(10)).await {
        Ok(done) => open.succeeded(done.id),
        Err(error) => open.find(format_args!("it failed, though its server was up: {error}")),
    }
}

/// A call whose handler makes another one, at any server.
async fn relay(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("relay", caller.number, 1);
    let inner = caller.record.begin("relayed", caller.number, 1);
    let limit = Duration::from_millis([100, 3000][random.usize(..2)]);
    open.limit(limit);
    let outer = Job { id: open.id, act: Act::Now, load: String::new() };
    match caller.work().relay(outer, job(inner.id, random)).timeout(limit).await {
        Ok(done) if done.id == inner.id => {
            let id = open.id;
            open.succeeded(id);
        }
        Ok(done) => open.find(format_args!("it relayed the answer of call {}", done.id)),
        Err(CallError::Application(never)) => match never {},
        Err(CallError::Rpc(error)) => open.failed(&error),
    }
}

async fn notify(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("notify", caller.number, 1);
    let job = Job { id: open.id, act: Act::Now, load: load(random) };
    let limit = Duration::from_secs(2);
    open.limit(limit);
    if let Err(error) = caller.work().run(job).timeout(limit).notify().await {
        open.failed(&error);
    }
}

async fn broadcast(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("broadcast", caller.number, caller.servers);
    open.is_repeated();
    let limit = Duration::from_millis(random.u64(1..5000));
    open.limit(limit);
    let job = Job { id: open.id, act: Act::Late(random.u64(..100)), load: load(random) };
    let replies = caller.work().run(job).timeout(limit).broadcast().each().await;
    for reply in replies.into_iter().flatten() {
        if let Ok(done) = reply.value
            && done.id != open.id
        {
            open.find(format_args!("it got the answer of call {}", done.id));
        }
    }
}

/// A call that its caller lets go of.
async fn let_go(caller: &Caller, random: &mut Rng) {
    let open = caller.record.begin("let go", caller.number, 1);
    let call = caller.work().run(job(open.id, random)).timeout(Duration::from_secs(30));
    let limit = Duration::from_millis(random.u64(..200));
    if let Ok(Ok(done)) = timeout(limit, call).await {
        open.succeeded(done.id);
    }
}

/// Returns bytes to send along: few, most often.
pub(super) fn load(random: &mut Rng) -> String {
    let len = match random.u8(..12) {
        0 => random.usize(..5000),
        1 if random.u8(..4) == 0 => random.usize(..70_000),
        _ => random.usize(..50),
    };
    random.lowercase().to_string().repeat(len)
}

/// Returns bytes to send along with a call that must succeed: few enough to arrive while a connection lasts, since a request
/// that takes longer is refused by each goaway.
fn load_that_passes(caller: &Caller, random: &mut Rng) -> String {
    // The narrowest link of a plan passes 13,000 bytes a second, and the shortest connection takes calls for 1.8 s.
    const PASSING: usize = 5000;
    let mut load = load(random);
    if caller.connections_age {
        load.truncate(PASSING);
    }
    load
}

/// Returns a job of any kind.
fn job(id: u64, random: &mut Rng) -> Job {
    let act = match random.u8(..12) {
        0 => Act::Panic(random.u64(..2) * random.u64(..100)),
        1 => Act::Hang,
        2 => Act::Fail,
        3 => Act::Large(random.usize(..30_000)),
        4..=6 => Act::Late(random.u64(..500)),
        _ => Act::Now,
    };
    Job { id, act, load: load(random) }
}
