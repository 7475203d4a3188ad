//! Channels that outlive runtimes, and one-way calls that are the last that a program does.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farcall_client::{CallError, Channel, ChannelBuilder, Health, RetryPolicy};
use farcall_discovery::{
    Discovery, Endpoint, FileDiscovery, Publisher, RoundRobin, StaticList, Subscription, publisher,
};
use farcall_protocol::{Code, Execution};
use farcall_server::{Server, ServerHandle};
use farcall_test_support::ending::end_runtime;
use farcall_transport::Address;
use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// The longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a separate runtime. `T.who` answers its name, `T.hold` never, `Log.line` counts.
struct Running {
    name: &'static str,
    address: Address,
    lines: Arc<AtomicUsize>,
    handle: ServerHandle,
    runtime: Option<Runtime>,
}

impl Running {
    fn start(name: &'static str, address: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let lines = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&lines);
        let server = Server::builder()
            .method("T.who", move |_: ((),)| async move { name.to_owned() })
            .method("T.hold", async |_: (String,)| std::future::pending::<()>().await)
            .method("Log.line", move |(_line,): (String,)| {
                count.fetch_add(1, Ordering::Relaxed);
                async {}
            })
            .listen(address);
        let server = runtime.block_on(server.bind()).unwrap();
        let address = server.addresses().next().unwrap().clone();
        let handle = server.handle();
        runtime.spawn(server.serve());
        Self { name, address, lines, handle, runtime: Some(runtime) }
    }

    /// Waits until this many lines have come.
    fn until_lines(&self, lines: usize) {
        until(&format!("{lines} lines have come, not {}", self.lines.load(Ordering::Relaxed)), || {
            self.lines.load(Ordering::Relaxed) == lines
        });
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end_runtime(runtime);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

const RUNTIMES: [fn() -> Runtime; 2] = [current_thread, two_workers];

fn unix_address(dir: &tempfile::TempDir) -> String {
    format!("unix@{}", dir.path().join("socket").display())
}

async fn who(channel: &Channel) -> String {
    channel.call("T.who", &((),)).timeout(PATIENCE).await.unwrap()
}

#[test]
fn one_way_calls_that_returned_ok_arrive_though_the_runtime_ends() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["tcp@127.0.0.1:0", &unix_address(&dir)] {
        let server = Running::start("a", address);
        for (round, runtime) in RUNTIMES.into_iter().enumerate() {
            let runtime = runtime();
            runtime.block_on(async {
                let channel = Channel::to(server.address.clone()).unwrap();
                for line in 0..2000 {
                    channel
                        .notify("Log.line", &(format!("line {line}: {}", "x".repeat(line)),))
                        .await
                        .unwrap();
                }
            });
            drop(runtime);
            server.until_lines(2000 * (round + 1));
        }
    }
}

#[test]
fn what_a_connection_has_not_written_yet_is_written_when_its_runtime_ends() {
    let server = Running::start("a", "tcp@127.0.0.1:0");
    let runtime = current_thread();
    let channel = Channel::to(server.address.clone()).unwrap();
    runtime.block_on(async {
        channel.connect().await.unwrap();
        for _ in 0..100 {
            // Polled once, so that it is in the outbox, and the task of the connection does not run.
            assert!(channel.notify("Log.line", &("a line",)).now_or_never().is_none());
        }
    });
    drop(runtime);
    server.until_lines(100);
}

#[test]
fn close_is_ready_when_the_server_has_read_all() {
    let server = Running::start("a", "tcp@127.0.0.1:0");
    for runtime in RUNTIMES {
        runtime().block_on(async {
            let list = StaticList::of([Endpoint::new(server.address.clone())]);
            for channel in [
                Channel::to(server.address.clone()).unwrap(),
                Channel::builder().discover(list).connections(3).build().unwrap(),
            ] {
                channel.close().await.unwrap();
                channel.flush().await.unwrap();
                let calls: Vec<_> =
                    (0..100).map(|_| channel.call::<()>("Log.line", &("a line",)).start()).collect();
                channel.connect().await.unwrap();
                channel.flush().await.unwrap();
                for call in calls {
                    call.await.unwrap();
                }
                channel.close().await.unwrap();
                assert!(!channel.is_available());
                until("the server has closed", || server.handle.connections() == 0);
                // It dials again.
                who(&channel).await;
                drop(channel.close());
            }
        });
    }
}

#[test]
fn channel_works_in_many_short_runtimes() {
    let server = Running::start("a", "tcp@127.0.0.1:0");
    let plain = Channel::to(server.address.clone()).unwrap();
    let pooled = Channel::builder().to(server.address.clone()).connections(3).build().unwrap();
    let list = StaticList::of([Endpoint::new(server.address.clone())]);
    let found = Channel::builder().discover(list).build().unwrap();
    let fail_fast =
        Channel::builder().to(server.address.clone()).retry(RetryPolicy::fail_fast()).build().unwrap();
    for _ in 0..5 {
        for runtime in RUNTIMES {
            // No connection lives for long, and none is the server's fault.
            for channel in [&plain, &pooled, &found, &fail_fast] {
                assert_eq!(runtime().block_on(who(channel)), "a");
            }
        }
    }
}

/// A source that cannot be cloned.
struct Told(mpsc::UnboundedReceiver<Vec<Endpoint>>);

impl Discovery for Told {
    fn describe(&self) -> String {
        "what it is told".to_owned()
    }

    async fn run(mut self, publisher: Publisher) {
        while let Some(endpoints) = self.0.recv().await {
            publisher.publish(endpoints);
        }
        std::future::pending::<()>().await;
    }
}

#[test]
fn next_runtime_follows_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    let servers = [Running::start("a", "tcp@127.0.0.1:0"), Running::start("b", "tcp@127.0.0.1:0")];
    let [a, b] = servers.each_ref().map(|server| Endpoint::new(server.address.clone()));
    let list = StaticList::of(Vec::<Endpoint>::new());
    let (tell, told) = mpsc::unbounded_channel();
    let builders: [ChannelBuilder; 3] = [
        Channel::builder().discover(list.clone()),
        Channel::builder().discover(Told(told)),
        Channel::builder().discover(FileDiscovery::new(&path).poll_interval(Duration::from_millis(10))),
    ];
    let channels = builders.map(|builder| builder.balancer(RoundRobin).build().unwrap());
    let set = |endpoints: Vec<Endpoint>| {
        list.set(endpoints.clone());
        tell.send(endpoints.clone()).unwrap();
        let lines: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        let new = dir.path().join("new");
        std::fs::write(&new, lines.join("\n")).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    for runtime in [current_thread, two_workers, current_thread] {
        let runtime = runtime();
        set(vec![a.clone()]);
        runtime.block_on(async {
            for channel in &channels {
                while who(channel).await != "a" || channel.endpoints().len() != 1 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        });
        set(vec![a.clone(), b.clone()]);
        runtime.block_on(async {
            for channel in &channels {
                while channel.endpoints().len() != 2 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                assert!(channel.endpoints_age().unwrap() < PATIENCE);
            }
        });
    }
}

#[test]
fn dead_server_is_left_out_in_the_next_runtime_too() {
    let (a, mut b) = (Running::start("a", "tcp@127.0.0.1:0"), Running::start("b", "tcp@127.0.0.1:0"));
    let channel =
        Channel::builder().to(a.address.clone()).to(b.address.clone()).balancer(RoundRobin).build().unwrap();
    let runtime = two_workers();
    let both = runtime.block_on(async { [who(&channel).await, who(&channel).await] });
    assert!(both.contains(&a.name.to_owned()) && both.contains(&b.name.to_owned()), "{both:?}");
    drop(runtime);
    b.stop();
    current_thread().block_on(async {
        for _ in 0..10 {
            assert_eq!(who(&channel).await, "a");
        }
        let health = |channel: &Channel| {
            channel.endpoints().iter().filter(|e| !matches!(e.health, Health::Healthy)).count()
        };
        while health(&channel) != 1 {
            who(&channel).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn call_in_one_runtime_goes_on_when_another_ends() {
    let server = Running::start("a", "tcp@127.0.0.1:0");
    let (tell, told) = mpsc::unbounded_channel();
    let channel = Channel::builder().discover(Told(told)).wait_for_ready(true).build().unwrap();
    let first = two_workers();
    // The first runtime follows the source, and ends before there is a list.
    let begun = first.spawn({
        let channel = channel.clone();
        async move { who(&channel).await }
    });
    until("the first call waits", || channel.overview().endpoints.is_empty() && !begun.is_finished());
    let waiting = std::thread::spawn({
        let channel = channel.clone();
        move || current_thread().block_on(who(&channel))
    });
    std::thread::yield_now();
    drop(first);
    tell.send(vec![Endpoint::new(server.address.clone())]).unwrap();
    assert_eq!(waiting.join().unwrap(), "a");
}

/// A source that has ended, or panics, before there is a list.
struct Gone {
    panics: bool,
    empty: bool,
}

impl Discovery for Gone {
    fn describe(&self) -> String {
        "a source that is gone".to_owned()
    }

    async fn run(self, publisher: Publisher) {
        assert!(!self.panics, "as the test says");
        if self.empty {
            publisher.publish(Vec::new());
        }
    }
}

#[test]
fn call_that_waits_for_a_source_that_is_gone_fails() {
    for (panics, empty, reason) in [
        (false, false, "its discovery ended without a list"),
        (true, false, "its discovery panicked: as the test says"),
        (false, true, "the list is empty"),
    ] {
        let channel =
            Channel::builder().discover(Gone { panics, empty }).wait_for_ready(true).build().unwrap();
        for runtime in RUNTIMES {
            let error = runtime().block_on(channel.call::<()>("T.who", &((),)).into_future()).unwrap_err();
            let CallError::Rpc(error) = error;
            assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

/// A source that panics the first time that it runs.
struct PanicsOnce(Arc<AtomicUsize>, StaticList);

impl Discovery for PanicsOnce {
    fn describe(&self) -> String {
        "a source that panics once".to_owned()
    }

    async fn run(self, publisher: Publisher) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "as the test says");
        self.1.run(publisher).await;
    }

    fn try_clone(&self) -> Option<Self> {
        Some(Self(Arc::clone(&self.0), self.1.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn source_that_panicked_is_run_again() {
    let (near, far) = tokio::io::duplex(1024);
    drop((near, far));
    let list = StaticList::of(Vec::<Endpoint>::new());
    let runs = Arc::<AtomicUsize>::default();
    let channel = Channel::builder().discover(PanicsOnce(Arc::clone(&runs), list)).build().unwrap();
    let error = channel.call::<()>("T.who", &((),)).await.unwrap_err().to_string();
    assert!(error.contains("its discovery panicked: as the test says"), "{error}");
    // In paused time: longer than the first pause before a source is run again, 1 s.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = channel.call::<()>("T.who", &((),)).await.unwrap_err().to_string();
    assert!(error.contains("the list is empty") && !error.contains("panicked"), "{error}");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[test]
fn lists_continue_from_the_last_one() {
    let (first, subscription): (_, Subscription) = publisher();
    first.publish(vec![Endpoint::new("tcp@10.0.0.1:7001".parse().unwrap())]);
    let (next, seen) = farcall_discovery::publisher_from(subscription.borrow().clone());
    assert_eq!(next.last().endpoints.len(), 1);
    assert!(seen.borrow().confirmed.is_some());
}

/// Finds nothing, and waits.
struct Silent;

impl Discovery for Silent {
    fn describe(&self) -> String {
        "nothing".to_owned()
    }

    async fn run(self, _publisher: Publisher) {
        std::future::pending::<()>().await;
    }
}

#[test]
fn large_calls_that_overlap_outside_of_a_runtime_share_the_connection() {
    let server = Running::start("a", "tcp@127.0.0.1:0");
    let channel = Channel::to(server.address.clone()).unwrap();
    let runtime = two_workers();
    runtime.block_on(channel.connect()).unwrap();
    let large = || channel.call::<()>("T.hold", &("x".repeat(300 * 1024),)).into_future();
    let connections = || channel.overview().endpoints.iter().map(|one| one.connections).sum::<usize>();
    let mut calls = [large(), large(), large()];
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
    }
    assert_eq!((channel.metrics().in_flight, connections()), (3, 1));
    // In a runtime, the next one has another connection dialed.
    let mut call = large();
    assert!(runtime.block_on(async { (&mut call).now_or_never() }).is_none());
    until("there is another connection", || connections() == 2);
}

#[test]
fn call_that_waits_for_endpoints_lets_its_runtime_end() {
    let channel = Channel::builder().discover(Silent).build().unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (canary, canary_dropped) = std::sync::mpsc::channel::<()>();
    let (begins, has_begun) = std::sync::mpsc::channel();
    let (ends, has_ended) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move {
        let _canary = canary;
        std::future::pending::<()>().await;
    });
    runtime.spawn(async move {
        let _ends = ends;
        begins.send(()).unwrap();
        // This worker is busy while the other one shuts down all tasks. What is spawned then is dropped at once.
        let _ = canary_dropped.recv();
        let _ = channel.call::<()>("T.who", &()).wait_for_ready(true).await;
    });
    has_begun.recv().unwrap();
    runtime.shutdown_background();
    let ended = has_ended.recv_timeout(PATIENCE);
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "the call holds its thread");
}
