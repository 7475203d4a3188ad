//! Measures what servers do with more calls than they can serve: without a limit, with a fixed one, and with
//! `Limits::adaptive`.
//!
//! ```sh
//! cargo run --release -p farcall --example overload              # about 3 minutes
//! cargo run --release -p farcall --example overload -- --quick   # a few seconds
//! cargo run --release -p farcall --example overload -- outage    # one part: waiting, processor or outage
//! ```
//!
//! The first table is of handlers that wait, in virtual time: the same on each machine. The second is of handlers that work on
//! the processor, by the clock. The last figures are of retries while two servers refuse all calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use farcall::Channel;
use farcall::protocol::describe::MethodInfo;
use farcall::protocol::{Code, Criticality, Status};
use farcall::server::{Handler, Request, Response, ResponseFuture, Server, Service};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use self::load::{MIXED, Mode, Outcome, Waiting, connect, evenly, load};

mod load;

type Error = Box<dyn std::error::Error>;

const S: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 8;
const MODES: [Mode; 3] = [Mode::None, Mode::Fixed(200), Mode::Adaptive];

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let parts = ["waiting", "processor", "outage"];
    let has_part = |part: &str| {
        let mut chosen = arguments.iter().filter(|argument| parts.contains(&argument.as_str())).peekable();
        chosen.peek().is_none() || chosen.any(|chosen| chosen == part)
    };
    println!(
        "| handlers | limit | load | goodput of peak | p99 of served, of unloaded | critical lost | sheddable lost | back after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let time = if quick { 5 * S } else { 60 * S };
    let handlers: &[(usize, u64)] = if has_part("waiting") { &[(20, 20), (4, 100)] } else { &[] };
    for &(capacity, work) in handlers {
        let handlers = Waiting { capacity, work: Duration::from_millis(work) };
        let mut unloaded = None;
        for mode in MODES {
            // Paused: the clock goes on when all tasks wait.
            let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
            runtime.block_on(waiting(handlers, mode, time, &mut unloaded));
        }
    }
    let time = if quick { S } else { 10 * S };
    let (mut peak, mut unloaded) = (None, None);
    for mode in MODES.into_iter().filter(|_| has_part("processor")) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(working(mode, time, &mut peak, &mut unloaded))?;
    }
    if !has_part("outage") {
        return Ok(());
    }
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(outage(if quick { 2 * S } else { 20 * S }))
}

/// Prints a row for each load of handlers that wait.
async fn waiting(handlers: Waiting, mode: Mode, time: Duration, unloaded: &mut Option<Duration>) {
    let name = format!("{} at once, {} ms", handlers.capacity, handlers.work.as_millis());
    let server = handlers.serve(mode);
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(&server).await);
    }
    loads(&name, mode, &channels, handlers.rate(), [time, 4 * S], unloaded).await;
}

/// Prints a row for each load of handlers that work for about 2 ms.
async fn working(
    mode: Mode,
    time: Duration,
    peak: &mut Option<f64>,
    unloaded: &mut Option<Duration>,
) -> Result<(), Error> {
    let server = Server::builder().limits(mode.limits()).method("Work.run", async |()| {
        std::hint::black_box((0..2_000_000_u64).fold(7, |sum, n| std::hint::black_box(sum ^ n)));
    });
    let server = server.listen("tcp@127.0.0.1:0").bind().await?;
    let address = server.addresses().next().ok_or("it listens nowhere")?.to_string();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Channel::to(&*address)?);
    }
    // The peak is that of callers who wait for one another, who are as many as is best.
    let rate = match peak {
        Some(rate) => *rate,
        None => *peak.insert(closed(&channels[..4], time).await?),
    };
    loads("processor", mode, &channels, rate, [time, time.min(4 * S)], unloaded).await;
    handle.stop();
    serving.await?;
    Ok(())
}

/// Returns the calls a second of callers that each wait for their last call.
async fn closed(channels: &[Channel], time: Duration) -> Result<f64, Error> {
    let (end, mut callers) = (Instant::now() + time, tokio::task::JoinSet::new());
    for channel in channels {
        let channel = channel.clone();
        callers.spawn(async move {
            let mut calls = 0_u32;
            while Instant::now() < end && channel.call::<()>("Work.run", &()).await.is_ok() {
                calls += 1;
            }
            calls
        });
    }
    Ok(f64::from(callers.join_all().await.into_iter().sum::<u32>()) / time.as_secs_f64())
}

/// Prints a row for each load, after a time for the server to learn. `unloaded` is the p99 without load, which the first
/// server measures for all.
async fn loads(
    name: &str,
    mode: Mode,
    channels: &[Channel],
    rate: f64,
    [time, after]: [Duration; 2],
    unloaded: &mut Option<Duration>,
) {
    load(&evenly(channels, 2.0 * rate), MIXED, time / 4).await;
    load(&evenly(channels, 0.5 * rate), MIXED, S).await;
    let unloaded = match unloaded {
        Some(known) => *known,
        None => *unloaded.insert(load(&evenly(channels, 0.3 * rate), MIXED, time / 4).await.p99()),
    };
    for times in [1.0, 2.0, 5.0] {
        let mut outcome = load(&evenly(channels, times * rate), MIXED, time).await;
        let recovery = load(&evenly(channels, 0.7 * rate), MIXED, after).await.recovery();
        row(name, mode, times, &mut outcome, rate, time, unloaded, recovery);
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a column, or what one is made of")]
fn row(
    name: &str,
    mode: Mode,
    times: f64,
    outcome: &mut Outcome,
    rate: f64,
    time: Duration,
    unloaded: Duration,
    recovery: Duration,
) {
    let limit = match mode {
        Mode::None => "none".to_owned(),
        Mode::Fixed(calls) => calls.to_string(),
        Mode::Adaptive => "adaptive".to_owned(),
    };
    let p99 = outcome.p99();
    let part = |class| {
        let lost = outcome.lost(class);
        let made = outcome.classes[if class == Criticality::Critical { 2 } else { 0 }].made;
        format!("{lost} of {made}")
    };
    println!(
        "| {name} | {limit} | {times} | {:.2} | {:.1} ms, {:.1} | {} | {} | {:.1} s |",
        outcome.goodput(time) / rate,
        p99.as_secs_f64() * 1e3,
        p99.as_secs_f64() / unloaded.as_secs_f64().max(1e-6),
        part(Criticality::Critical),
        part(Criticality::Sheddable),
        recovery.as_secs_f64(),
    );
}

/// Refuses all calls.
struct Refusing(Arc<AtomicUsize>);

impl Handler for Refusing {
    fn call(&self, _request: Request) -> ResponseFuture {
        self.0.fetch_add(1, Relaxed);
        ResponseFuture::ready(Response::error(Status::refused(Code::ResourceExhausted, "overloaded")))
    }
}

/// Prints how many requests two servers get that refuse all calls.
async fn outage(time: Duration) -> Result<(), Error> {
    let requests = Arc::new(AtomicUsize::new(0));
    let mut builder = Channel::builder();
    for _ in 0..2 {
        let service = Service::new("Work").handler(MethodInfo::new("run"), Refusing(Arc::clone(&requests)));
        let server = Server::builder().service(service).listen("tcp@127.0.0.1:0").bind().await?;
        builder = builder.to(server.addresses().next().ok_or("it listens nowhere")?.to_string());
        tokio::spawn(server.serve());
    }
    let channel = builder.build()?;
    channel.call::<()>("Work.run", &()).await.expect_err("it is refused");
    requests.store(0, Relaxed);
    let (start, mut calls, mut tasks) = (Instant::now(), 0, tokio::task::JoinSet::new());
    while start.elapsed() < time {
        calls += 1;
        sleep_until(start + calls * Duration::from_micros(500)).await;
        let channel = channel.clone();
        tasks.spawn(async move { channel.call::<()>("Work.run", &()).timeout(S).await.is_ok() });
        while tasks.try_join_next().is_some() {}
    }
    tasks.join_all().await;
    let requests = requests.load(Relaxed);
    println!(
        "\nAll calls refused by two servers, {calls} calls in {:.0} s: {requests} requests, {:.3} times the calls",
        start.elapsed().as_secs_f64(),
        requests as f64 / f64::from(calls),
    );
    Ok(())
}
