//! Everything at once: servers die, come and drain, lists change, and calls of every kind go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farcall_client::{CallError, Channel, Health, RetryBudget, RetryPolicy, RpcError};
use farcall_discovery::{Endpoint, StaticList};
use farcall_protocol::{Code, Execution};
use farcall_server::ServerBuilder;
use fastrand::Rng;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::support::{MS, PATIENCE, Running, own_place, serve_at, until};

const SERVERS: usize = 5;
const CALLERS: usize = 50;
const DURATION: Duration = Duration::from_secs(10);
/// Another seed gives another sequence of disturbances.
const SEED: u64 = 7;

#[derive(serde::Deserialize)]
struct Echo {
    n: u64,
    sleep_us: u64,
}

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
    late: AtomicUsize,
    dropped: AtomicUsize,
    broadcast: AtomicUsize,
}

impl Tally {
    fn is_enough(&self) -> bool {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        of(&self.answered) > 100 && of(&self.dropped) > 0 && of(&self.broadcast) > 0
    }
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn with_echo(builder: ServerBuilder) -> ServerBuilder {
    builder.method("T.echo", |echo: Echo| async move {
        if echo.sleep_us > 0 {
            sleep(Duration::from_micros(echo.sleep_us)).await;
        }
        echo.n
    })
}

/// Asserts that an error is permitted here: the deadline passed, no server was reachable, or the server
/// was killed or stopped. None of them reports the call as executed.
fn assert_permitted(error: &RpcError) {
    let code = matches!(error.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled);
    assert!(code && error.execution() != Execution::Done, "{error}: {error:?}");
}

async fn call_on(channel: Channel, caller: u64, over: Arc<AtomicBool>, tally: Arc<Tally>) {
    let mut random = Rng::with_seed(SEED + caller);
    let mut number = caller << 32;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let sleep_us = if random.u8(..4) == 0 { random.u64(..20_000) } else { 0 };
        let arguments = serde_json::json!({"n": number, "sleep_us": sleep_us});
        let mut call = channel.call::<u64>("T.echo", &arguments).wait_for_ready(random.bool());
        call = call.timeout(if random.u8(..8) == 0 { random.u32(..10) * MS } else { PATIENCE });
        call = match random.u8(..6) {
            0 => call.retry(RetryPolicy::fail_fast()),
            1 => call.retry(RetryPolicy::retry_same()),
            2 => call.retry(RetryPolicy::hedge_after(random.u32(..5) * MS)),
            _ => call,
        };
        if random.bool() {
            call = call.idempotent();
        }
        if random.u8(..16) == 0 {
            for said in call.broadcast().each().await.into_iter().flatten() {
                match said.value {
                    Ok(answer) => assert_eq!(answer, number),
                    Err(error) => assert_permitted(error.rpc().unwrap()),
                }
            }
            count(&tally.broadcast);
        } else if random.u8(..10) == 0 {
            let _ = timeout(random.u32(..3) * MS, call.start()).await;
            count(&tally.dropped);
        } else {
            match call.await {
                Ok(answer) => {
                    assert_eq!(answer, number, "an answer reached another call");
                    count(&tally.answered);
                }
                Err(CallError::Rpc(error)) => {
                    assert_permitted(&error);
                    let late = error.code() == Code::DeadlineExceeded;
                    count(if late { &tally.late } else { &tally.failed });
                }
            }
        }
        sleep(random.u32(..4) * MS).await;
    }
}

/// One of the servers, which comes back where it was.
struct Server {
    address: String,
    running: Option<Running>,
}

impl Server {
    async fn start(&mut self) {
        if self.running.is_none() {
            // The killed server may still hold its port.
            let begin = Instant::now();
            while std::net::TcpListener::bind(self.address.trim_start_matches("tcp@")).is_err() {
                assert!(begin.elapsed() < PATIENCE, "{} stays in use", self.address);
                sleep(5 * MS).await;
            }
            self.running = Some(serve_at("server", &self.address, with_echo));
        }
    }
}

async fn disturb(servers: &mut [Server], list: &StaticList, random: &mut Rng) {
    let chosen = random.usize(..servers.len());
    let server = &mut servers[chosen];
    match random.u8(..6) {
        0 => server.running = None,
        1 => {
            if let Some(running) = &server.running {
                running.handle.stop();
            }
        }
        2 => {
            // Kill what still runs of it.
            server.running = None;
            server.start().await;
        }
        3 => server.start().await,
        _ => {
            let mut some = Vec::new();
            for server in servers {
                let endpoint = Endpoint::new(server.address.parse().unwrap());
                if random.u8(..4) != 0 {
                    some.push(endpoint.with_weight(random.u16(..4) * 50));
                }
            }
            list.set(some);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_every_call_ends_with_a_permitted_outcome() {
    let mut servers: Vec<Server> = (0..SERVERS)
        .map(|_| {
            let running = serve_at("server", &own_place(), with_echo);
            Server { address: running.address.to_string(), running: Some(running) }
        })
        .collect();
    let endpoints: Vec<Endpoint> =
        servers.iter().map(|server| Endpoint::new(server.address.parse().unwrap())).collect();
    let list = StaticList::of(endpoints.clone());
    let builder = Channel::builder().discover(list.clone()).connections(2);
    let channel = builder.retry_budget(RetryBudget::new(0.5, 50.0)).build().unwrap();
    let (over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| tokio::spawn(call_on(channel.clone(), caller, Arc::clone(&over), Arc::clone(&tally))))
        .collect();

    let (mut random, begin) = (Rng::with_seed(SEED), Instant::now());
    // Longer on a busy machine, until calls of each kind were made.
    while begin.elapsed() < DURATION || (begin.elapsed() < PATIENCE && !tally.is_enough()) {
        disturb(&mut servers, &list, &mut random).await;
        sleep(random.u32(..100) * MS).await;
    }
    for server in &mut servers {
        server.running = None;
        server.start().await;
    }
    list.set(endpoints);
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        timeout(2 * PATIENCE, caller).await.expect("no call hangs").unwrap();
    }

    let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let [answered, failed, late, dropped, broadcast] =
        [&tally.answered, &tally.failed, &tally.late, &tally.dropped, &tally.broadcast].map(of);
    println!("{answered} answered, {failed} failed, {late} late, {dropped} dropped, {broadcast} broadcast");
    assert!(tally.is_enough());
    until("nothing is in flight", || channel.endpoints().iter().all(|one| one.in_flight == 0)).await;
    until("all are well", || {
        let all = channel.endpoints();
        all.len() == SERVERS && all.iter().all(|one| matches!(one.health, Health::Healthy))
    })
    .await;
    let broadcast = || channel.call::<String>("T.who", &()).broadcast();
    assert_eq!(broadcast().await.unwrap().len(), SERVERS);
    drop(channel);
    let open = |server: &Server| server.running.as_ref().unwrap().handle.connections();
    until("no connection is left", || servers.iter().all(|server| open(server) == 0)).await;
}
