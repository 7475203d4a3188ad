//! ARCHITECTURE.md, "The path of a call": slow methods are polled on threads that run no connection.
//! In real time, since it is real threads that they keep; only the order of things is asserted.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use farcall_context::{Context, Inherited};
use farcall_protocol::{Code, Execution, Seq};
use farcall_server::{OffloadRuntime, Server, ServerBuilder};
use serde_json::{Value, json};
use support::{Count, Nothing, Raw, Running, Stage, builder, millis, none, secs, serve_with, stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{sleep, timeout};

/// The behaviours of `T.burn`, by its argument.
const A_LITTLE: u64 = 0;
const UNTIL_PUT_OUT: u64 = 1;
const AND_HANG: u64 = 2;

/// The state shared by blocking handlers and their test.
#[derive(Clone, Default)]
struct Fire {
    out: Arc<AtomicBool>,
    burning: Arc<AtomicUsize>,
    /// The number of handlers that were started and not dropped.
    alive: Arc<AtomicUsize>,
}

struct Alive(Arc<AtomicUsize>);

impl Fire {
    /// Keeps the thread until the test says so; or long enough for it to fail instead.
    fn burn(&self) {
        self.burning.fetch_add(1, SeqCst);
        let end = Instant::now() + secs(60);
        while !self.out.load(SeqCst) && Instant::now() < end {
            thread::sleep(millis(1));
        }
        self.burning.fetch_sub(1, SeqCst);
    }

    fn put_out(&self) {
        self.out.store(true, SeqCst);
    }

    fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }

    async fn until_burning(&self) {
        while self.burning.load(SeqCst) == 0 {
            sleep(millis(1)).await;
        }
    }

    /// `T.burn`, which is slow.
    fn add_to(&self, builder: ServerBuilder) -> ServerBuilder {
        let fire = self.clone();
        builder.method("T.burn", move |args: Count| {
            let fire = fire.clone();
            fire.alive.fetch_add(1, SeqCst);
            let alive = Alive(Arc::clone(&fire.alive));
            async move {
                let _alive = alive;
                if args.n == A_LITTLE {
                    thread::sleep(millis(5));
                } else {
                    fire.burn();
                }
                if args.n == AND_HANG {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A single thread for slow polls. Its clock stands still, so that the pool never counts as stalled and
/// gets no second thread, however slow the machine is.
struct OneThread {
    now: tokio::time::Instant,
}

impl OffloadRuntime for OneThread {
    fn cores(&self) -> usize {
        1
    }

    fn now(&self) -> tokio::time::Instant {
        self.now
    }

    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(worker);
    }
}

fn burning(what: u64) -> Value {
    json!({"n": what})
}

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

fn with_burn(stage: Stage) -> (Running, Fire) {
    let fire = Fire::default();
    let builder = fire.add_to(builder(&stage));
    (serve_with(stage, builder), fire)
}

/// A client of a server that knows by now how slow `T.burn` is.
async fn connect(server: &Running) -> Raw {
    let mut client = server.connect().await;
    for _ in 0..5 {
        client.call("T.burn", burning(A_LITTLE)).await.value();
    }
    client
}

async fn assert_quick_calls_are_answered_meanwhile() {
    let (server, fire) = with_burn(stage());
    let mut client = connect(&server).await;
    let many = cores() + 4;
    for _ in 0..many {
        client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    }
    fire.until_burning().await;
    for n in 0..20 {
        let text = n.to_string();
        assert_eq!(client.call("T.echo", json!({"text": text})).await.value(), text);
        client.call("T.sleep", json!({"n": 1})).await.value();
    }
    fire.put_out();
    for _ in 0..many {
        client.response().await.value();
    }
    assert_eq!(fire.alive(), 0);
}

#[tokio::test]
async fn quick_calls_are_answered_while_slow_ones_block_in_one_thread() {
    assert_quick_calls_are_answered_meanwhile().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn quick_calls_are_answered_while_slow_ones_block() {
    assert_quick_calls_are_answered_meanwhile().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn first_call_of_a_method_that_blocks_does_not_hold_up_other_connections() {
    let (server, fire) = with_burn(stage());
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    for _ in 0..3 {
        client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    }
    fire.until_burning().await;
    for n in 0..20 {
        let text = n.to_string();
        assert_eq!(other.call("T.echo", json!({"text": text})).await.value(), text);
    }
    fire.put_out();
    for _ in 0..3 {
        client.response().await.value();
    }
}

/// Uses all that a handler may use of its runtime.
async fn do_everything(cx: Context, _: Nothing) -> Vec<String> {
    let mut threads = Vec::new();
    let mut burn = || {
        thread::sleep(millis(5));
        threads.push(format!("{:?}", thread::current().id()));
        assert_eq!(Inherited::current().deadline, cx.deadline());
        assert!(Inherited::current().deadline.is_some());
    };
    burn();
    sleep(millis(1)).await;
    burn();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
    });
    let mut said = String::new();
    TcpStream::connect(address).await.unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hello");
    burn();
    serving.await.unwrap();
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(|| thread::sleep(millis(1)));
    }
    assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);
    for _ in 0..3 {
        // Woken while it is still polled.
        tokio::task::yield_now().await;
    }
    burn();
    threads
}

async fn a_slow_handler_has_all_of_its_runtime() -> Vec<String> {
    let stage = stage();
    let builder = builder(&stage).method("T.all", do_everything);
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    let mut threads = Value::Null;
    for _ in 0..3 {
        client.request_with("T.all", none(), |header| header.timeout_ms = 3_600_000).await;
        threads = client.response().await.value();
    }
    serde_json::from_value(threads).unwrap()
}

#[tokio::test]
async fn offloaded_handler_can_use_its_current_thread_runtime() {
    let threads = a_slow_handler_has_all_of_its_runtime().await;
    let connections = format!("{:?}", thread::current().id());
    assert!(!threads.contains(&connections), "{threads:?}, and {connections}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn offloaded_handler_can_use_its_runtime_and_block_in_place() {
    a_slow_handler_has_all_of_its_runtime().await;
}

#[tokio::test]
async fn cancelled_call_is_answered_after_its_poll_ends() {
    let (server, fire) = with_burn(stage());
    let mut client = connect(&server).await;
    let seq = client.request("T.burn", burning(AND_HANG)).await;
    fire.until_burning().await;
    client.cancel(seq).await;
    client.until_read().await;
    assert_eq!((fire.alive(), server.handle.in_flight()), (1, 1));
    fire.put_out();
    let answer = client.response().await;
    assert_eq!(answer.seq(), seq);
    let said = answer.assert_error(Code::Cancelled, Execution::Maybe);
    assert_eq!(said, "`T.burn` was stopped: its caller cancelled it");
    assert_eq!((fire.alive(), server.handle.in_flight()), (0, 0));
    assert_eq!(server.in_flight_stats(), 0);
}

#[tokio::test]
async fn result_of_a_running_poll_wins_over_the_cancel() {
    let (server, fire) = with_burn(stage());
    let mut client = connect(&server).await;
    let seq = client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    fire.until_burning().await;
    client.cancel(seq).await;
    client.until_read().await;
    fire.put_out();
    client.response().await.value();
}

#[tokio::test]
async fn offloaded_handler_stops_at_its_deadline() {
    let (server, fire) = with_burn(stage());
    let mut client = connect(&server).await;
    client.request_with("T.burn", burning(AND_HANG), |header| header.timeout_ms = 50).await;
    sleep(millis(100)).await;
    fire.put_out();
    assert_eq!(client.response().await.status().code, Code::DeadlineExceeded);
    assert_eq!((fire.alive(), server.handle.in_flight()), (0, 0));
}

#[tokio::test]
async fn call_that_expires_in_the_offload_queue_is_refused() {
    let (stage, fire) = (stage(), Fire::default());
    let runtime = OneThread { now: tokio::time::Instant::now() };
    let builder = fire.add_to(builder(&stage)).offload_runtime(runtime);
    let server = serve_with(stage, builder);
    let mut client = connect(&server).await;
    client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    let late = burning(UNTIL_PUT_OUT);
    let seq = client.request_with("T.burn", late, |header| header.timeout_ms = 50).await;
    let answer = client.response().await;
    assert_eq!(answer.seq(), seq);
    answer.assert_error(Code::DeadlineExceeded, Execution::Refused);
    fire.put_out();
}

async fn run_without_end(_: Nothing) {
    thread::sleep(millis(5));
    loop {
        tokio::task::consume_budget().await;
    }
}

#[tokio::test]
async fn offloaded_handler_that_never_waits_stops_at_its_deadline() {
    let stage = stage();
    let builder = builder(&stage).method("T.endless", run_without_end);
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.request_with("T.endless", none(), |header| header.timeout_ms = 100).await;
        client.response().await.assert_error(Code::DeadlineExceeded, Execution::Maybe);
    }
}

#[tokio::test]
async fn panic_in_an_offloaded_poll_is_internal_and_done() {
    let stage = stage();
    let builder = builder(&stage).method("T.panics", async |_: Nothing| {
        thread::sleep(millis(5));
        if true {
            panic!("aside");
        }
    });
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    for _ in 0..3 {
        let answer = client.call("T.panics", none()).await;
        assert_eq!(answer.assert_error(Code::Internal, Execution::Done), "`T.panics` panicked");
    }
    assert_eq!((server.handle.in_flight(), server.in_flight_stats()), (0, 0));
}

#[tokio::test]
async fn offloaded_call_may_wait_for_another() {
    let stage = stage();
    let fire = Fire::default();
    let helper = fire.clone();
    let builder = fire.add_to(builder(&stage)).method("T.help", move |args: Count| {
        let fire = helper.clone();
        async move {
            thread::sleep(millis(5));
            if args.n > 0 {
                fire.put_out();
            }
        }
    });
    let server = serve_with(stage, builder);
    let mut client = connect(&server).await;
    for _ in 0..5 {
        client.call("T.help", json!({"n": 0})).await.value();
    }
    for _ in 0..cores() {
        client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    }
    client.request("T.help", json!({"n": 1})).await;
    let began = Instant::now();
    for _ in 0..=cores() {
        client.response().await.value();
    }
    assert!(began.elapsed() < secs(40), "it was not helped, but gave up");
}

#[tokio::test]
async fn stopping_server_waits_for_offloaded_and_queued_polls() {
    let (mut server, fire) = with_burn(stage());
    let mut client = connect(&server).await;
    let many = cores() + 2;
    let mut last = Seq(0);
    for _ in 0..many {
        last = client.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    }
    client.until_read().await;
    fire.until_burning().await;
    server.handle.stop();
    client.assert_goaway(last.0, Code::Unavailable).await;
    assert!(timeout(millis(50), &mut server.serving).await.is_err(), "it has not waited");
    fire.put_out();
    for _ in 0..many {
        client.response().await.value();
    }
    client.assert_closed().await;
    drop(client);
    server.serving.await.unwrap();
    assert_eq!((fire.alive(), server.handle.in_flight()), (0, 0));
}

#[test]
fn runtime_shutdown_drops_queued_polls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, fire, client) = runtime.block_on(async {
        let (server, fire) = with_burn(stage());
        let mut client = connect(&server).await;
        for _ in 0..cores() + 2 {
            client.request("T.burn", burning(AND_HANG)).await;
        }
        fire.until_burning().await;
        (server, fire, client)
    });
    runtime.shutdown_background();
    drop(client);
    fire.put_out();
    let end = Instant::now() + secs(60);
    while (server.handle.in_flight(), fire.alive(), server.handle.connections()) != (0, 0, 0) {
        assert!(Instant::now() < end, "something is left");
        thread::sleep(millis(1));
    }
}

#[tokio::test]
async fn client_with_many_slow_calls_does_not_hold_up_another() {
    let (stage, fire) = (stage(), Fire::default());
    let runtime = OneThread { now: tokio::time::Instant::now() };
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&order);
    let builder = fire.add_to(builder(&stage)).offload_runtime(runtime).method(
        "T.log",
        move |cx: Context, _: Nothing| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push(cx.connection().id);
                thread::sleep(millis(5));
            }
        },
    );
    let server = serve_with(stage, builder);
    let (mut greedy, mut other) = (connect(&server).await, server.connect().await);
    for _ in 0..3 {
        greedy.call("T.log", none()).await.value();
    }
    greedy.request("T.burn", burning(UNTIL_PUT_OUT)).await;
    fire.until_burning().await;
    for _ in 0..100 {
        greedy.request("T.log", none()).await;
    }
    greedy.until_read().await;
    order.lock().unwrap().clear();
    let mine = other.request("T.log", none()).await;
    other.until_read().await;
    fire.put_out();
    assert_eq!(other.response().await.seq(), mine);
    // The same method, and behind a hundred of its calls: it is one of the next.
    let order = order.lock().unwrap().clone();
    let id = *order.iter().max().unwrap();
    let place = order.iter().position(|client| *client == id);
    assert!(place.is_some_and(|place| place <= 1), "{order:?}");
}

#[tokio::test]
async fn work_of_no_handler_is_done_on_the_same_threads() {
    let handle = Server::builder().build().unwrap().handle();
    let peer = farcall_transport::PeerAddress::Memory.key();
    let thread = handle.offload(peer, || thread::current().id()).await;
    assert!(thread.is_some_and(|thread| thread != thread::current().id()));
    assert_eq!(handle.offload(peer, || panic!("as it should")).await, None::<()>);
    // What is queued behind other work is dropped with its future.
    let cores = thread::available_parallelism().unwrap().get();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let holding: Vec<_> = (0..cores)
        .map(|_| {
            let released = Arc::clone(&released);
            tokio::spawn(handle.offload(peer, move || released.lock().unwrap().recv().is_ok()))
        })
        .collect();
    // They are queued.
    tokio::task::yield_now().await;
    let queued = Arc::new(());
    let held = Arc::clone(&queued);
    {
        let mut dropped = std::pin::pin!(handle.offload(peer, move || drop(held)));
        assert!(futures::poll!(&mut dropped).is_pending());
    }
    assert_eq!(Arc::strong_count(&queued), 1);
    drop(release);
    for held in holding {
        assert_eq!(held.await.unwrap(), Some(false));
    }
}
