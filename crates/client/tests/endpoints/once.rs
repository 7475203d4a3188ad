//! Calls that servers carry out once: the key, and where their tries go.

use std::future::IntoFuture as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use farcall_client::{Call, Channel, ConnectionOptions, OutlierDetection, RetryPolicy};
use farcall_context::Context;
use farcall_discovery::RoundRobin;
use farcall_protocol::metadata::IDEMPOTENCY_KEY;
use farcall_protocol::{BoxError, Code, Execution, Status};
use farcall_server::{
    Claim, DedupStore, MemoryDedupStore, OnceCall, OnceOptions, ServerBuilder, ServerHandle,
};
use farcall_transport::{Address, Connect, Connecting, Dialer, PeerAddress, Stream};
use futures::future::BoxFuture;
use tokio::io::duplex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};

use super::support::{MS, Nothing, PATIENCE, Running, serve, serve_at, until};

/// Bytes that a connection in memory holds in each direction.
const PIPE_BYTES: usize = 64 * 1024;

/// The handlers of `T.pay` at all servers: how many have begun, and what lets each of them end.
#[derive(Clone)]
struct Payments {
    begun: Arc<AtomicUsize>,
    end: Arc<Semaphore>,
}

impl Payments {
    fn new() -> Self {
        Self { begun: Arc::default(), end: Arc::new(Semaphore::new(0)) }
    }

    fn serve(&self, name: &'static str, more: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
        let payments = self.clone();
        let pay = move |_: Nothing| {
            let Payments { begun, end } = payments.clone();
            async move {
                let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
                end.acquire().await.unwrap().forget();
                format!("{number} at {name}")
            }
        };
        serve_at(name, "tcp@127.0.0.1:0", |builder| more(builder.method("T.pay", pay).once("T.pay")))
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

/// A store of several servers.
#[derive(Clone)]
struct Shared(Arc<MemoryDedupStore>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new(MemoryDedupStore::new(1 << 20, 1 << 10, PATIENCE)))
    }
}

impl DedupStore for Shared {
    fn name(&self) -> String {
        self.0.name()
    }

    fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
        self.0.claim(call)
    }

    fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
        self.0.keep(call, answer)
    }

    fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
        self.0.release(call)
    }
}

/// Dials one server after the other in memory. The first connection can be held, and is cut later.
struct HeldPipe {
    servers: [ServerHandle; 2],
    dials: AtomicUsize,
    hold: Arc<Notify>,
    cut: Arc<Notify>,
}

impl Connect for HeldPipe {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        let server = &self.servers[self.dials.fetch_add(1, Ordering::Relaxed).min(1)];
        let ((near, mut outer), (mut inner, far)) = (duplex(PIPE_BYTES), duplex(PIPE_BYTES));
        server.serve_io(far, PeerAddress::Memory);
        let (hold, cut) = (Arc::clone(&self.hold), Arc::clone(&self.cut));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = hold.notified() => cut.notified().await,
                _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
            }
        });
        Box::pin(async move { Ok(Stream::new(near)) })
    }
}

/// A proxy whose connections a test breaks, and which then leads elsewhere.
struct Proxy {
    address: Address,
    target: Arc<Mutex<Option<Address>>>,
    cut: Arc<Notify>,
    /// `false` if connections that come have to wait.
    open: watch::Sender<bool>,
}

impl Proxy {
    async fn to(server: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp@{}", listener.local_addr().unwrap()).parse().unwrap();
        let target = Arc::new(Mutex::new(Some(server.address.clone())));
        let cut = Arc::<Notify>::default();
        let (to, cuts) = (Arc::clone(&target), Arc::clone(&cut));
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (cut, mut opened) = (Arc::clone(&cuts), opened.clone());
                let Some(to) = to.lock().unwrap().clone() else { continue };
                tokio::spawn(async move {
                    opened.wait_for(|open| *open).await.unwrap();
                    let to = to.to_string();
                    let mut far = TcpStream::connect(to.strip_prefix("tcp@").unwrap()).await.unwrap();
                    tokio::select! {
                        () = cut.notified() => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, target, cut, open }
    }

    /// Breaks the connections, and leads to this server from now on, or nowhere.
    fn cut(&self, target: Option<&Running>) {
        *self.target.lock().unwrap() = target.map(|server| server.address.clone());
        self.cut.notify_waiters();
    }

    /// Breaks the connections to this server, and lets others come once it has noticed.
    async fn interrupt(&self, server: &Running) {
        self.open.send_replace(false);
        self.cut(Some(server));
        until("the server has noticed", || {
            server.handle.in_flight() == 0 && server.handle.connections() == 0
        })
        .await;
        self.open.send_replace(true);
    }
}

fn channel(addresses: &[&Address]) -> Channel {
    let builder =
        addresses.iter().fold(Channel::builder(), |builder, address| builder.to((*address).clone()));
    builder.balancer(RoundRobin).outlier_detection(OutlierDetection::disabled()).build().unwrap()
}

fn pay(channel: &Channel) -> Call<String> {
    channel.call("T.pay", &()).retry(RetryPolicy::fail_over().max_attempts(10))
}

#[tokio::test]
async fn call_over_a_broken_connection_joins_its_first_try() {
    let payments = Payments::new();
    let server = payments.serve("a", |builder| builder);
    let proxy = Proxy::to(&server).await;
    // A connection that did not last is followed by a pause, which the call waits for.
    let call = pay(&channel(&[&proxy.address])).once().wait_for_ready(true);
    let call = tokio::spawn(call.into_future());
    until("it has begun", || payments.begun() == 1).await;
    for _ in 0..3 {
        proxy.interrupt(&server).await;
        until("its caller is back", || server.handle.in_flight() == 1 && server.handle.connections() == 1)
            .await;
    }
    payments.end.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), "1 at a");
    until("it is over", || server.handle.once_in_flight() == 0).await;
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn call_whose_answer_was_lost_gets_it_again() {
    let payments = Payments::new();
    let server = payments.serve("a", |builder| builder);
    let proxy = Proxy::to(&server).await;
    let call = tokio::spawn(pay(&channel(&[&proxy.address])).once().wait_for_ready(true).into_future());
    until("it has begun", || payments.begun() == 1).await;
    proxy.cut(None);
    until("it runs without its caller", || server.handle.in_flight() == 0).await;
    payments.end.add_permits(1);
    until("it has ended", || server.handle.once_in_flight() == 0).await;
    proxy.cut(Some(&server));
    assert_eq!(call.await.unwrap().unwrap(), "1 at a");
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn restarted_server_is_not_asked_again() {
    let payments = Payments::new();
    let first = payments.serve("a", |builder| builder);
    let second = payments.serve("a", |builder| builder);
    let proxy = Proxy::to(&first).await;
    let call = tokio::spawn(pay(&channel(&[&proxy.address])).once().into_future());
    until("it has begun", || payments.begun() == 1).await;
    // The same address, and another process.
    proxy.cut(Some(&second));
    payments.end.add_permits(1);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn call_of_which_nothing_was_written_goes_elsewhere() {
    let payments = Payments::new();
    payments.end.add_permits(1);
    let servers = ["a", "b"].map(|name| payments.serve(name, |builder| builder));
    let (hold, cut) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let pipe = HeldPipe {
        servers: servers.each_ref().map(|server| server.handle.clone()),
        dials: AtomicUsize::new(0),
        hold: Arc::clone(&hold),
        cut: Arc::clone(&cut),
    };
    let options = ConnectionOptions::default().dialer(Dialer::default().connector(pipe));
    let channel = Channel::builder().to("tcp@held:1").options(options).build().unwrap();
    channel.connect().await.unwrap();
    hold.notify_one();
    // More than the pipe takes, so that the call behind it is in flight, and nothing of it is written.
    let _filler = channel.call::<()>("T.none", &["x".repeat(3 * PIPE_BYTES)]).start();
    let call = pay(&channel).once().wait_for_ready(true).start();
    cut.notify_one();
    assert_eq!(call.await.unwrap(), "1 at b");
}

#[tokio::test]
async fn other_server_is_not_asked_without_a_shared_store() {
    for anywhere in [false, true] {
        let payments = Payments::new();
        let servers = ["a", "b"].map(|name| payments.serve(name, |builder| builder));
        let proxies = [Proxy::to(&servers[0]).await, Proxy::to(&servers[1]).await];
        let channel = channel(&[&proxies[0].address, &proxies[1].address]);
        let call = pay(&channel);
        let call = if anywhere { call.once_anywhere() } else { call.once() };
        let call = tokio::spawn(call.into_future());
        until("it has begun", || payments.begun() == 1).await;
        let first = usize::from(servers[1].handle.once_in_flight() == 1);
        proxies[first].cut(None);
        payments.end.add_permits(1);
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.execution(), payments.begun()), (Execution::Maybe, 1));
    }
}

#[tokio::test]
async fn other_server_with_the_same_store_gives_the_answer() {
    let (payments, store) = (Payments::new(), Shared::new());
    let servers = ["a", "b"].map(|name| {
        let options = OnceOptions::default().store(store.clone());
        payments.serve(name, |builder| builder.once_options(options))
    });
    let proxies = [Proxy::to(&servers[0]).await, Proxy::to(&servers[1]).await];
    let channel = channel(&[&proxies[0].address, &proxies[1].address]);
    let call = tokio::spawn(pay(&channel).once_anywhere().into_future());
    until("it has begun", || payments.begun() == 1).await;
    let first = usize::from(servers[1].handle.once_in_flight() == 1);
    proxies[first].cut(None);
    until("the other one waits for it", || servers[1 - first].handle.once_in_flight() == 1).await;
    payments.end.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), format!("1 at {}", servers[first].name));
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn hedged_call_is_carried_out_once() {
    let (payments, store) = (Payments::new(), Shared::new());
    let servers = ["a", "b"].map(|name| {
        let options = OnceOptions::default().store(store.clone());
        payments.serve(name, |builder| builder.once_options(options))
    });
    let channel = channel(&[&servers[0].address, &servers[1].address]);
    let call = pay(&channel).once_anywhere().retry(RetryPolicy::hedge_after(10 * MS));
    let call = tokio::spawn(call.into_future());
    until("both have it", || servers.iter().all(|server| server.handle.once_in_flight() == 1)).await;
    payments.end.add_permits(1);
    assert!(call.await.unwrap().unwrap().starts_with("1 at "));
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn hedged_call_goes_to_no_server_with_another_store() {
    let payments = Payments::new();
    let servers = ["a", "b"].map(|name| payments.serve(name, |builder| builder));
    let channel = channel(&[&servers[0].address, &servers[1].address]);
    let call = pay(&channel).once_anywhere().retry(RetryPolicy::hedge_after(10 * MS));
    let call = tokio::spawn(call.into_future());
    until("it has begun, and the hedge was tried", || {
        payments.begun() == 1 && channel.metrics().retries == 1
    })
    .await;
    payments.end.add_permits(1);
    assert!(call.await.unwrap().unwrap().starts_with("1 at "));
    assert_eq!(payments.begun(), 1);
}

#[tokio::test]
async fn server_that_does_not_carry_it_out_once_is_told_of() {
    let plain = serve("a");
    let error = channel(&[&plain.address]).call::<String>("T.who", &()).once().await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unimplemented, Execution::NotSent));
    assert!(error.to_string().contains("no method of the server is declared `once`"), "{error}");
    let server = Payments::new().serve("a", |builder| builder);
    let error = channel(&[&server.address]).call::<String>("T.who", &()).once().await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unimplemented, Execution::Refused));
    assert!(error.to_string().contains("`T.who` is not declared `once` by this server"), "{error}");
    assert_eq!((plain.calls(), server.calls()), (0, 0));
}

#[tokio::test]
async fn each_call_has_a_key_that_the_caller_may_choose() {
    let key = async |context: Context, _: Nothing| context.metadata(IDEMPOTENCY_KEY).unwrap().to_owned();
    let server = serve_at("a", "tcp@127.0.0.1:0", |builder| builder.method("T.key", key).once("T.key"));
    let channel = channel(&[&server.address]);
    let ask = || channel.call::<String>("T.key", &()).once();
    let (first, second) = (ask().await.unwrap(), ask().await.unwrap());
    assert_ne!(first, second);
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_eq!(ask().metadata(IDEMPOTENCY_KEY, "order-17").await.unwrap(), "order-17");
    let error = ask().metadata(IDEMPOTENCY_KEY, "order 17").await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::InvalidArgument, Execution::Refused));
}

#[tokio::test]
async fn streaming_call_is_not_carried_out_once() {
    let server = Payments::new().serve("a", |builder| builder);
    let call = channel(&[&server.address]).call::<String>("T.pay", &()).once().receive::<u8>();
    let Err(error) = call.await else { panic!("it was opened") };
    assert_eq!((error.code(), error.execution()), (Code::InvalidArgument, Execution::NotSent));
}

#[tokio::test]
async fn broadcast_is_carried_out_at_each_server() {
    let payments = Payments::new();
    payments.end.add_permits(2);
    let servers = ["a", "b"].map(|name| payments.serve(name, |builder| builder));
    let channel = channel(&[&servers[0].address, &servers[1].address]);
    let all = channel.call::<String>("T.pay", &()).once().broadcast().await.unwrap();
    assert_eq!((all.len(), payments.begun()), (2, 2));
}
