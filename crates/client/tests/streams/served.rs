//! Streams of a real server: nothing is left of those that are dropped, and resumable ones survive rolling restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farcall_client::{Channel, RetryPolicy};
use farcall_discovery::RoundRobin;
use farcall_protocol::Status;
use farcall_server::{Receiver, Sender, Server, ServerHandle};
use farcall_test_support::loopback::own_address;
use farcall_test_support::wait::until;
use farcall_transport::Address;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::MS;

/// The item before which `Feed.count` waits until a server was told to stop.
const HALF: u64 = 300;
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Counts handlers that run.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Served {
    address: Address,
    handle: ServerHandle,
    alive: Arc<AtomicUsize>,
    ended: JoinHandle<()>,
}

/// Serves at this address.
async fn serve(address: &str) -> Served {
    let alive = Arc::<AtomicUsize>::default();
    let (counting, echoing, summing) = (Arc::clone(&alive), Arc::clone(&alive), Arc::clone(&alive));
    let builder = Server::builder()
        .try_stream_out("Feed.count", move |(from, to): (u64, u64), mut out: Sender<u64>| {
            let alive = Alive::new(&counting);
            async move {
                let _alive = alive;
                for number in from..to {
                    while number == HALF && !STOPPED.load(Ordering::SeqCst) {
                        sleep(MS).await;
                    }
                    out.send(number).await?;
                    if number % 8 == 0 {
                        sleep(MS).await;
                    }
                }
                Ok::<_, Status>(to)
            }
        })
        .try_stream_both("Feed.echo", move |(): (), mut items: Receiver<u64>, mut out: Sender<u64>| {
            let alive = Alive::new(&echoing);
            async move {
                let _alive = alive;
                while let Some(item) = items.recv().await {
                    out.send(item?).await?;
                }
                Ok::<_, Status>(7_u64)
            }
        })
        .try_stream_in("Feed.sum", move |(): (), mut items: Receiver<u64>| {
            let alive = Alive::new(&summing);
            async move {
                let _alive = alive;
                let mut sum = 0;
                while let Some(item) = items.recv().await {
                    sum += item?;
                }
                Ok::<u64, Status>(sum)
            }
        });
    let server = builder.listen(address).bind().await.unwrap();
    let (address, handle) = (server.addresses().next().unwrap().clone(), server.handle());
    let ended = tokio::spawn(server.serve());
    Served { address, handle, alive, ended }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_dropped_at_random_points_leave_nothing_on_either_side() {
    let served = serve("tcp@127.0.0.1:0").await;
    let channel = Channel::to(served.address.clone()).unwrap();
    channel.connect().await.unwrap();
    let connection = channel.connection().unwrap();
    let tasks = (0..40).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            for n in 0..50_u32 {
                let work = async {
                    match n % 3 {
                        0 => {
                            let call = channel.call::<u64>("Feed.count", &(0, 20)).receive::<u64>();
                            let mut items = call.await.unwrap();
                            while let Some(item) = items.next().await {
                                item.unwrap();
                            }
                            items.finish().await.unwrap();
                        }
                        1 => {
                            let call = channel.call::<u64>("Feed.sum", &()).send_items::<u64>();
                            let mut sink = call.await.unwrap();
                            for number in 0..20 {
                                sink.send(number).await.unwrap();
                            }
                            sink.finish().await.unwrap();
                        }
                        _ => {
                            let call = channel.call::<u64>("Feed.echo", &()).exchange::<u64, u64>();
                            let (mut sink, mut items) = call.await.unwrap().split();
                            for number in 0..20 {
                                sink.send(number).await.unwrap();
                                assert_eq!(items.next().await.unwrap().unwrap(), number);
                            }
                            drop(items);
                            drop(sink);
                        }
                    }
                };
                let mut work = Box::pin(work);
                for _ in 0..=fastrand::u32(0..20) {
                    if futures::poll!(&mut work).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    until("the client holds nothing", || {
        connection.held_by_streams() == (0, 0, 0) && connection.in_flight() == 0
    })
    .await;
    until("no handler runs", || served.alive.load(Ordering::SeqCst) == 0).await;
    assert!(connection.is_available());
    channel.close().await.unwrap();
    until("the server has no connection", || served.handle.connections() == 0).await;
}

#[tokio::test]
async fn handler_that_takes_items_does_not_wait_for_those_of_a_caller_that_only_receives() {
    let served = serve("tcp@127.0.0.1:0").await;
    let channel = Channel::to(served.address.clone()).unwrap();
    let mut items = channel.call::<u64>("Feed.echo", &()).receive::<u64>().await.unwrap();
    assert!(items.next().await.is_none());
    assert_eq!(items.finish().await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumable_streams_survive_rolling_restarts() {
    const ITEMS: u64 = 2 * HALF;
    let mut servers = [serve(&own_address()).await, serve(&own_address()).await];
    let builder = servers.iter().fold(Channel::builder(), |builder, one| builder.to(one.address.clone()));
    let channel = builder.balancer(RoundRobin).retry(RetryPolicy::fail_over()).build().unwrap();
    let subscriptions: Vec<_> = (0..40)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move {
                let call = channel.call::<u64>("Feed.count", &(0, ITEMS)).receive::<u64>();
                let mut numbers = call.resume(|last| (last + 1, ITEMS)).await.unwrap();
                for expected in 0..ITEMS {
                    assert_eq!(numbers.next().await.unwrap().unwrap(), expected);
                }
                assert!(numbers.next().await.is_none());
                assert_eq!(numbers.finish().await.unwrap(), ITEMS);
            })
        })
        .collect();
    for restart in 0..4 {
        let server = &mut servers[restart % 2];
        until("streams run there", || {
            server.alive.load(Ordering::SeqCst) > 0 || subscriptions.iter().all(JoinHandle::is_finished)
        })
        .await;
        server.handle.stop();
        STOPPED.store(true, Ordering::SeqCst);
        (&mut server.ended).await.unwrap();
        *server = serve(&server.address.to_string()).await;
    }
    for subscription in subscriptions {
        subscription.await.unwrap();
    }
    assert!(channel.metrics().streams.resumed > 0);
}

/// In real time, since it is real threads that handlers are polled on.
#[tokio::test]
async fn stream_of_a_new_method_is_soon_polled_on_the_thread_of_its_connection() {
    let builder = Server::builder().stream_out("Feed.threads", async |(): (), mut out: Sender<String>| {
        loop {
            // One item in each poll.
            tokio::task::yield_now().await;
            if out.send(this_thread()).await.is_err() {
                return;
            }
        }
    });
    let server = builder.listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().clone();
    tokio::spawn(server.serve());
    let channel = Channel::to(address).unwrap();
    let mut threads = channel.call::<()>("Feed.threads", &()).receive::<String>().await.unwrap();
    let (connections, mut elsewhere) = (this_thread(), 0);
    while threads.next().await.unwrap().unwrap() != connections {
        elsewhere += 1;
        assert!(elsewhere < 100_000, "all of its polls are made elsewhere");
    }
}

fn this_thread() -> String {
    format!("{:?}", std::thread::current().id())
}
