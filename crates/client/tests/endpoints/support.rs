//! Servers that can be killed, and a list of them that a test changes by hand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_client::{Channel, ChannelBuilder};
use farcall_discovery::{Discovery, Endpoint, Publisher};
use farcall_protocol::describe::MethodInfo;
use farcall_protocol::{Code, Execution, Status};
use farcall_server::{
    Handler, Limits, Request, Response, ResponseFuture, Server, ServerBuilder, ServerHandle, Service,
};
use farcall_test_support::ending::end_runtime;
use farcall_test_support::loopback::own_address;
pub use farcall_test_support::wait::{PATIENCE, until};
use farcall_transport::Address;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::sleep;

pub const MS: Duration = Duration::from_millis(1);

/// A server in a separate runtime, so that it can be killed.
pub struct Running {
    pub name: &'static str,
    pub address: Address,
    /// All addresses it listens on, starting with `address`.
    pub addresses: Vec<Address>,
    pub handle: ServerHandle,
    /// The number of calls of its methods.
    pub calls: Arc<AtomicUsize>,
    /// The error that `T.fail` answers instead of the server's name.
    pub failure: Arc<Mutex<Option<Status>>>,
    runtime: Option<Runtime>,
}

/// Fails with the configured status, or answers its server's name.
struct Fail {
    name: &'static str,
    calls: Arc<AtomicUsize>,
    failure: Arc<Mutex<Option<Status>>>,
}

impl Handler for Fail {
    fn call(&self, request: Request) -> ResponseFuture {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let response = match &*self.failure.lock().unwrap() {
            Some(status) => Response::error(status.clone()),
            None => Response::ok(request.codec(), self.name),
        };
        ResponseFuture::new(async { response })
    }
}

#[derive(serde::Deserialize)]
pub struct Nothing {}

#[derive(serde::Deserialize)]
pub struct User {
    #[allow(dead_code, reason = "only the client looks at it")]
    pub user: String,
}

/// Counts when it is dropped.
pub struct CountDrop(pub Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A server whose method `T.who` answers its name. Another one can be started where it was.
pub fn serve(name: &'static str) -> Running {
    serve_at(name, &own_place(), |builder| builder)
}

/// An address for [`serve_at`], at which another server can be started later.
pub fn own_place() -> String {
    format!("tcp@{}", own_address())
}

pub fn serve_at(
    name: &'static str,
    address: &str,
    more: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let calls = Arc::<AtomicUsize>::default();
    let (count, count_too) = (Arc::clone(&calls), Arc::clone(&calls));
    let failure = Arc::<Mutex<_>>::default();
    let fail = Fail { name, calls: Arc::clone(&calls), failure: Arc::clone(&failure) };
    let info = MethodInfo::new("fail");
    let builder = Server::builder()
        .service(Service::new("T").handler(info, fail))
        .method("T.who", move |_: Nothing| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { name.to_owned() }
        })
        .method("T.slow", move |_: Nothing| {
            count_too.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(PATIENCE).await;
                name.to_owned()
            }
        })
        .limits(Limits::default().drain_timeout(Duration::from_secs(10)))
        .listen(address);
    // On a separate thread: one runtime must not block in another.
    let builder = more(builder);
    let bound = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(builder.bind())).join());
    let server = bound.unwrap().unwrap();
    let addresses: Vec<Address> = server.addresses().cloned().collect();
    let address = addresses[0].clone();
    let handle = server.handle();
    runtime.spawn(server.serve());
    Running { name, address, addresses, handle, calls, failure, runtime: Some(runtime) }
}

impl Running {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn fails(&self, code: Code, execution: Execution) {
        *self.failure.lock().unwrap() = Some(Status::new(code, execution, "requested by the test"));
    }

    pub fn recovers(&self) {
        *self.failure.lock().unwrap() = None;
    }

    /// Ends it without a goodbye. When this returns, it answers no call any more.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end_runtime(runtime);
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.address.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A step of a [`Script`].
pub enum Line {
    List(Vec<Endpoint>),
    Failed(&'static str),
    Confirmed,
    Panic,
}

/// A discovery that is controlled by a test.
pub struct Script(mpsc::UnboundedReceiver<Line>);

pub fn script() -> (mpsc::UnboundedSender<Line>, Script) {
    let (tell, told) = mpsc::unbounded_channel();
    (tell, Script(told))
}

impl Discovery for Script {
    fn describe(&self) -> String {
        "T in a script".to_owned()
    }

    async fn run(mut self, publisher: Publisher) {
        while let Some(line) = self.0.recv().await {
            match line {
                Line::List(endpoints) => publisher.publish(endpoints),
                Line::Failed(why) => publisher.failed(why),
                Line::Confirmed => publisher.confirm(),
                Line::Panic => panic!("as the script says"),
            }
        }
        std::future::pending::<()>().await;
    }
}

pub fn list(servers: &[&Running]) -> Line {
    Line::List(servers.iter().map(|server| server.endpoint()).collect())
}

/// A channel over all of these.
pub fn over(servers: &[&Running]) -> ChannelBuilder {
    servers.iter().fold(Channel::builder(), |builder, server| builder.to(server.address.clone()))
}

pub async fn who(channel: &Channel) -> String {
    channel.call("T.who", &()).idempotent().await.unwrap()
}
