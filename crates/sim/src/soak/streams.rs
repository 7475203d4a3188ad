//! The streaming calls of the soak: each ends as exactly one of complete, failed and cancelled, and a truncated one is
//! never complete.

use std::time::Duration;

use fastrand::Rng;

use super::caller::Caller;
use super::plan::Plan;
use super::record::OpenCall;
use super::work::{Act, Item, Job};

/// The handlers that may begin for a stream that is resumed.
const MAX_RESUMED: u32 = 1000;

/// Draws a job of a stream, and the time limit of its call.
fn job(open: &mut OpenCall, random: &mut Rng) -> (Job, Duration) {
    let act = if random.u8(..3) == 0 { Act::Late(random.u64(1..50)) } else { Act::Now };
    let load = "1".repeat([0, 10, 1500][random.usize(..3)]);
    let limit = Duration::from_millis([100, 5000, 30_000][random.usize(..3)]);
    open.limit(limit);
    (Job { id: open.id, act, load }, limit)
}

/// Takes items, and lets go of some streams before their end.
pub(super) async fn download(caller: &Caller, random: &mut Rng) {
    let (policy, attempts) = Plan::retry(random);
    let (resumes, is_idempotent) = (random.bool(), random.bool());
    let most = match (resumes, is_idempotent) {
        (true, _) => MAX_RESUMED,
        (false, true) => attempts,
        (false, false) => 1,
    };
    let mut open =
        caller.record.begin(if resumes { "download, resumed" } else { "download" }, caller.number, most);
    if resumes {
        open.is_repeated();
    }
    let (job, limit) = job(&mut open, random);
    let (from, to) = (random.u64(..20), random.u64(20..60));
    let mut call = caller.work().download(job.clone(), from, to).timeout(limit).retry(policy);
    if is_idempotent {
        call = call.idempotent();
    }
    if resumes {
        call = call.resume(move |last: &Item| (job.clone(), last.n + 1, to));
    }
    let mut items = match call.await {
        Ok(items) => items,
        Err(error) => return open.stream_failed(&error),
    };
    let lets_go_after = if random.u8(..4) == 0 { random.u64(from..to) } else { to + 1 };
    let mut next = from;
    while let Some(item) = items.next().await {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                if items.next().await.is_some() {
                    open.find("items came after the stream's error");
                }
                return open.stream_failed(&error);
            }
        };
        if (item.id, item.n) != (open.id, next) {
            return open.find(format_args!("item {next} came as {} of call {}", item.n, item.id));
        }
        next += 1;
        if next == lets_go_after {
            return;
        }
        if random.u8(..16) == 0 {
            open.pause(Duration::from_millis(random.u64(..50))).await;
        }
    }
    if next != to {
        open.find(format_args!("a stream of {from}..{to} was complete before {next}"));
    }
    match items.finish().await {
        Ok(_) => {
            let id = open.id;
            caller.record.count("complete");
            open.succeeded(id);
        }
        Err(error) => open.find(format_args!("a complete stream failed: {error}")),
    }
}

/// Sends items, and lets go of some streams before their end.
pub(super) async fn upload(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("upload", caller.number, 1);
    let (job, limit) = job(&mut open, random);
    let load = job.load.clone();
    let mut sink = match caller.work().upload(job).timeout(limit).await {
        Ok(sink) => sink,
        Err(error) => return open.stream_failed(&error),
    };
    let (len, lets_go) = (random.u64(..50), random.u8(..4) == 0);
    for n in 0..len {
        match sink.send(Item { id: open.id, n, load: load.clone() }).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return open.stream_failed(&error),
        }
        if random.u8(..16) == 0 {
            open.pause(Duration::from_millis(random.u64(..50))).await;
        }
    }
    if lets_go {
        return open.let_go();
    }
    match sink.finish().await {
        Ok(taken) if taken != len => open.find(format_args!("{len} items were sent, and {taken} taken")),
        Ok(_) => {
            let id = open.id;
            caller.record.count("complete");
            open.succeeded(id);
        }
        Err(error) => open.stream_failed(&error),
    }
}

/// Sends items, and takes each of them back.
pub(super) async fn mirror(caller: &Caller, random: &mut Rng) {
    let mut open = caller.record.begin("mirror", caller.number, 1);
    let (job, limit) = job(&mut open, random);
    let load = job.load.clone();
    let exchange = match caller.work().mirror(job).timeout(limit).await {
        Ok(exchange) => exchange,
        Err(error) => return open.stream_failed(&error),
    };
    let (mut sink, mut items) = exchange.split();
    let (id, len) = (open.id, random.u64(..30));
    let sending = async {
        for n in 0..len {
            if !matches!(sink.send(Item { id, n, load: load.clone() }).await, Ok(true)) {
                break;
            }
        }
        sink.end();
    };
    let receiving = async {
        let mut next = 0;
        while let Some(item) = items.next().await {
            let item = item?;
            if (item.id, item.n) != (id, next) {
                open.find(format_args!("item {next} came back as {} of call {}", item.n, item.id));
            }
            next += 1;
        }
        Ok((next, items.finish().await?))
    };
    // In this order, whatever is ready: `join!` would choose by tokio's own chance.
    let ((), received) = futures::future::join(sending, receiving).await;
    match received {
        Ok((returned, taken)) => {
            if (returned, taken) != (len, len) {
                open.find(format_args!("of {len} items, {taken} were taken and {returned} came back"));
            }
            caller.record.count("complete");
            open.succeeded(id);
        }
        Err(error) => open.stream_failed(&error),
    }
}
