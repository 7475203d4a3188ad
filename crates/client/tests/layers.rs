//! tower layers around the calls of a channel: what they see, what they can change, and what they leave alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use farcall_client::{
    CallError, CallService, Channel, ChannelBuilder, Phase, Request, Response, RetryPolicy, RpcError,
};
use farcall_context::Context as CallContext;
use farcall_protocol::{Code, Execution, Status};
use farcall_server::{Server, ServerHandle};
use farcall_test_support::loopback::refusing_address;
use farcall_test_support::wait::{pass, until};
use farcall_transport::Address;
use futures::future::BoxFuture;
use tower_layer::layer_fn;
use tower_service::Service;

type Outcome = Result<Response, RpcError>;
type Log = Arc<Mutex<Vec<String>>>;

/// A layer made of two functions, which writes what it sees to a log.
#[derive(Clone)]
struct Interceptor<E> {
    inner: CallService,
    log: Log,
    before: fn(&mut Request) -> Result<(), E>,
}

impl<E: From<RpcError> + Send + 'static> Service<Request> for Interceptor<E> {
    type Response = Response;
    type Error = E;
    type Future = BoxFuture<'static, Result<Response, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx).map_err(E::from)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Err(refused) = (self.before)(&mut request) {
            return Box::pin(ready(Err(refused)));
        }
        let seen = Seen { log: Arc::clone(&self.log), call: describe(&request), ended: false };
        let call = self.inner.call(request);
        Box::pin(async move { seen.end(call.await).map_err(E::from) })
    }
}

fn describe(request: &Request) -> String {
    let one_way = if request.is_one_way() { " one-way" } else { "" };
    let idempotent = if request.is_idempotent() { " idempotent" } else { "" };
    format!("{}{one_way}{idempotent}", request.method())
}

/// A call that a layer has seen.
struct Seen {
    log: Log,
    call: String,
    ended: bool,
}

impl Seen {
    fn end(mut self, outcome: Outcome) -> Outcome {
        self.ended = true;
        let end = match &outcome {
            Ok(response) => format!("{} bytes", response.body().len()),
            Err(error) => format!("{} {} {}", error.code(), error.execution(), error.attempts()),
        };
        self.log.lock().unwrap().push(format!("{}: {end}", self.call));
        outcome
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !self.ended {
            self.log.lock().unwrap().push(format!("{}: dropped", self.call));
        }
    }
}

/// The arguments of methods without parameters.
#[derive(serde::Deserialize)]
struct Nothing {}

/// A server that is stopped with the test.
struct Served {
    address: Address,
    handle: ServerHandle,
    calls: Arc<AtomicUsize>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

async fn serve() -> Served {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let server = Server::builder()
        .method("A.tenant", async |cx: CallContext, _: Nothing| {
            cx.metadata("tenant").unwrap_or("none").to_owned()
        })
        .method("A.count", move |_: Nothing| {
            let counted = Arc::clone(&counted);
            async move { counted.fetch_add(1, Ordering::SeqCst) }
        })
        .method("A.hang", async |_: Nothing| pending::<()>().await)
        .try_method("A.fail", async |_: Nothing| Err::<(), _>("out of stock".to_owned()))
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let (address, handle) = (server.addresses().next().unwrap().clone(), server.handle());
    tokio::spawn(server.serve());
    Served { address, handle, calls }
}

fn intercept<E>(builder: ChannelBuilder, before: fn(&mut Request) -> Result<(), E>) -> (ChannelBuilder, Log)
where
    E: From<RpcError> + Into<Box<dyn std::error::Error + Send + Sync>> + Clone + Send + Sync + 'static,
{
    let log = Log::default();
    let seen = Arc::clone(&log);
    let layer = layer_fn(move |inner| Interceptor { inner, log: Arc::clone(&seen), before });
    (builder.layer(layer), log)
}

/// Returns a channel with a layer that changes nothing, and the layer's log.
async fn observed() -> (Channel, Served, Log) {
    let server = serve().await;
    let (builder, log) = intercept(Channel::builder().to(server.address.clone()), |_| Ok::<_, RpcError>(()));
    (builder.build().unwrap(), server, log)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Waits until the log has an entry, for effects of dropped futures and tasks.
async fn assert_logged(log: &Log, expected: &str) {
    until("something is logged", || !log.lock().unwrap().is_empty()).await;
    assert_eq!(taken(log), [expected]);
}

#[tokio::test]
async fn layer_sees_outcomes_before_they_are_decoded() {
    let (channel, _server, log) = observed().await;
    assert_eq!(channel.call::<String>("A.tenant", &()).idempotent().await.unwrap(), "none");
    assert_eq!(taken(&log), ["A.tenant idempotent: 5 bytes"]);

    let failed = channel.call_fallible::<(), String>("A.fail", &()).await.unwrap_err();
    assert_eq!(failed, CallError::Application("out of stock".to_owned()));
    assert_eq!(taken(&log), ["A.fail: application done 1"]);

    let undecodable = channel.call::<i64>("A.tenant", &()).await.unwrap_err();
    assert_eq!((undecodable.code(), undecodable.rpc().unwrap().method()), (Code::Internal, Some("A.tenant")));
    assert_eq!(taken(&log), ["A.tenant: 5 bytes"], "decoding comes after the layer");
}

#[tokio::test]
async fn layer_adds_metadata_and_its_mistakes_fail_the_call() {
    let server = serve().await;
    let (builder, _) = intercept(Channel::builder().to(server.address.clone()), |request| {
        request.set_metadata("tenant", "blue");
        Ok::<_, RpcError>(())
    });
    let channel = builder.build().unwrap();
    assert_eq!(channel.call::<String>("A.tenant", &()).await.unwrap(), "blue");
    let all = channel.call::<String>("A.tenant", &()).broadcast().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].value, "blue");

    let (builder, _) = intercept(Channel::builder().to(server.address.clone()), |request| {
        request.set_metadata("Tenant", "blue");
        Ok::<_, RpcError>(())
    });
    let error = builder.build().unwrap().call::<String>("A.tenant", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::InvalidArgument, Execution::NotSent));
}

#[tokio::test]
async fn layer_refuses_calls_notifications_and_broadcasts() {
    let server = serve().await;
    let refuse = |_: &mut Request| Err(RpcError::not_sent(Code::PermissionDenied, "not for tenants"));
    let (builder, log) = intercept(Channel::builder().to(server.address.clone()), refuse);
    let channel = builder.build().unwrap();
    let error = channel.call::<usize>("A.count", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::PermissionDenied, Execution::NotSent));
    let error = error.rpc().unwrap();
    assert_eq!((error.phase(), error.method()), (Phase::Prepare, Some("A.count")));
    let error = channel.call::<usize>("A.count", &()).start().await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(channel.notify("A.count", &()).await.unwrap_err().code(), Code::PermissionDenied);
    let error = channel.call::<usize>("A.count", &()).broadcast().await.unwrap_err();
    assert_eq!(error.first().error.code(), Code::PermissionDenied);
    assert_eq!((server.calls.load(Ordering::SeqCst), channel.is_available()), (0, false));
    assert!(taken(&log).is_empty());
}

/// An error of a layer.
#[derive(Clone, Debug, thiserror::Error)]
enum LayerError {
    #[error("the layer failed")]
    Other,
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// A status as the error of a layer.
#[derive(Clone)]
struct Refusal(Status);

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Self {
        Self(error.into())
    }
}

impl From<Refusal> for Box<dyn std::error::Error + Send + Sync> {
    fn from(refusal: Refusal) -> Self {
        refusal.0.into()
    }
}

#[tokio::test]
async fn errors_of_layers_keep_their_status_or_are_internal() {
    let server = serve().await;
    let to = || Channel::builder().to(server.address.clone());
    let (builder, _) =
        intercept(to(), |_| Err(Refusal(Status::refused(Code::ResourceExhausted, "too many"))));
    let error = builder.build().unwrap().call::<()>("A.count", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::Refused));

    let (builder, _) = intercept(to(), |_| Err(LayerError::Other));
    let error = builder.build().unwrap().call::<()>("A.count", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::NotSent));
    let cause = error.rpc().unwrap().cause().unwrap();
    assert!(cause.downcast_ref::<LayerError>().is_some());
    assert_eq!(server.calls.load(Ordering::SeqCst), 0);
}

/// A layer that loses the outcome of every call.
#[derive(Clone)]
struct Lossy(CallService);

impl Service<Request> for Lossy {
    type Response = Response;
    type Error = LayerError;
    type Future = BoxFuture<'static, Result<Response, LayerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = self.0.call(request);
        Box::pin(async move { call.await.map_err(LayerError::Rpc).and(Err(LayerError::Other)) })
    }
}

#[tokio::test]
async fn error_of_a_layer_after_the_call_says_that_it_may_have_happened() {
    let server = serve().await;
    let builder = Channel::builder().to(server.address.clone()).layer(layer_fn(Lossy));
    let channel = builder.layer(layer_fn(Lossy)).build().unwrap();
    let error = channel.call::<usize>("A.count", &()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::Maybe));
    let error = channel.call::<usize>("A.count", &()).broadcast().await.unwrap_err();
    assert_eq!(error.first().error.execution(), Execution::Maybe);
    assert_eq!(server.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn retries_happen_inside_of_layers() {
    // Both endpoints refuse connections: one outcome for the layer, with both attempts.
    let builder = [(); 2].map(|()| Address::tcp(refusing_address())).into_iter();
    let builder = builder.fold(Channel::builder(), ChannelBuilder::to);
    let (builder, log) = intercept(builder, |_| Ok::<_, RpcError>(()));
    let channel = builder.retry(RetryPolicy::fail_over()).build().unwrap();
    let error = channel.call::<()>("A.count", &()).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().attempts(), 2);
    assert_eq!(taken(&log), ["A.count: unavailable not_sent 2"]);
}

#[tokio::test]
async fn notification_passes_layers_as_one_way_request() {
    let (channel, server, log) = observed().await;
    channel.notify("A.count", &()).await.unwrap();
    assert_eq!(taken(&log), ["A.count one-way: 0 bytes"]);
    // Requests of a connection are started in order.
    assert_eq!(channel.call::<usize>("A.count", &()).await.unwrap(), 1);
    assert_eq!(server.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn broadcast_passes_layers_once_for_each_endpoint() {
    let (one, other) = (serve().await, serve().await);
    let builder = Channel::builder().to(one.address.clone()).to(other.address.clone());
    let (builder, log) = intercept(builder, |_| Ok::<_, RpcError>(()));
    let channel = builder.build().unwrap();
    let replies = channel.call::<usize>("A.count", &()).broadcast().await.unwrap();
    assert_eq!(replies.len(), 2);
    assert_ne!(replies[0].endpoint, replies[1].endpoint);
    assert_eq!((one.calls.load(Ordering::SeqCst), other.calls.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(taken(&log), ["A.count: 1 bytes", "A.count: 1 bytes"]);
}

#[tokio::test]
async fn dropped_call_drops_the_future_of_the_layer() {
    let (channel, _server, log) = observed().await;
    let call = channel.call::<()>("A.hang", &()).into_future();
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!(taken(&log), ["A.hang: dropped"]);
    drop(channel.call::<()>("A.hang", &()).start());
    tokio::task::yield_now().await;
    assert!(matches!(&taken(&log)[..], [] | [_]), "the task may not have been polled at all");
}

#[tokio::test]
async fn started_call_passes_layers_without_being_awaited() {
    let (channel, server, log) = observed().await;
    let call = channel.call::<usize>("A.count", &()).start();
    assert_logged(&log, "A.count: 1 bytes").await;
    assert_eq!(server.calls.load(Ordering::SeqCst), 1);
    assert_eq!(call.await.unwrap(), 0);
}

/// A layer that never passes a call on.
#[derive(Clone)]
struct Closed;

impl Service<Request> for Closed {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request) -> Self::Future {
        pending()
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_a_call_that_a_layer_holds() {
    let channel = Channel::builder().to("tcp@127.0.0.1:1").layer(layer_fn(|_| Closed)).build().unwrap();
    let start = tokio::time::Instant::now();
    let limit = Duration::from_secs(2);
    let error = channel.call::<()>("A.count", &()).timeout(limit).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
    assert_eq!(start.elapsed(), limit);
    let error = channel.call::<()>("A.count", &()).timeout(limit).notify().await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let error = channel.call::<()>("A.count", &()).timeout(limit).broadcast().await.unwrap_err();
    assert_eq!(error.first().error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn call_in_flight_ends_by_its_deadline_behind_layers() {
    let (channel, server, log) = observed().await;
    let limit = Duration::from_secs(60);
    let call = tokio::spawn(channel.call::<()>("A.hang", &()).timeout(limit).into_future());
    until("the server runs it", || server.handle.in_flight() == 1).await;
    pass(limit).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::Maybe));
    assert_eq!(taken(&log), ["A.hang: deadline_exceeded maybe 1"]);
}

#[tokio::test]
async fn later_layers_are_further_out() {
    let server = serve().await;
    let (builder, _) = intercept(Channel::builder().to(server.address.clone()), |request| {
        request.set_metadata("tenant", "inner");
        Ok::<_, RpcError>(())
    });
    let (builder, _) = intercept(builder, |request| {
        request.set_metadata("tenant", "outer");
        Ok::<_, RpcError>(())
    });
    let channel = builder.build().unwrap();
    assert_eq!(channel.call::<String>("A.tenant", &()).await.unwrap(), "inner", "the inner layer is last");
}

#[tokio::test]
async fn channel_is_a_service_with_and_without_layers() {
    let (mut layered, server, log) = observed().await;
    let mut plain = Channel::to(server.address.clone()).unwrap();
    for channel in [&mut layered, &mut plain] {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let mut request = channel.request("A.tenant", &());
        request.set_metadata("tenant", "green");
        let response = Service::call(channel, request).await.unwrap();
        assert_eq!(response.endpoint(), &server.address);
        assert_eq!(response.decode::<String>().unwrap(), "green");
    }
    assert_eq!(taken(&log).len(), 1);
}

#[tokio::test]
async fn layers_do_not_keep_the_channel_open() {
    let server = serve().await;
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let layer = layer_fn(move |inner: CallService| {
        *keep.lock().unwrap() = Some(inner.clone());
        inner
    });
    let channel = Channel::builder().to(server.address.clone()).layer(layer).build().unwrap();
    assert_eq!(channel.call::<usize>("A.count", &()).await.unwrap(), 0);
    let request = channel.request("A.count", &());
    drop(channel);
    let mut inner = kept.lock().unwrap().take().unwrap();
    let error = inner.call(request).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}

#[tokio::test]
async fn interceptor_changes_refuses_and_observes_calls() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let layer = farcall_client::interceptor(move |mut request: Request, next: farcall_client::Next| {
        let log = Arc::clone(&log);
        async move {
            if request.method().starts_with("Admin.") {
                return Err(RpcError::not_sent(Code::PermissionDenied, "not for tenants"));
            }
            request.set_metadata("tenant", "blue");
            let outcome = next.call(request).await;
            log.lock().unwrap().push(outcome.as_ref().map(|_| ()).map_err(RpcError::code));
            outcome
        }
    });
    let channel = Channel::builder().to("tcp@127.0.0.1:1").layer(layer).build().unwrap();
    let refused = channel.call::<()>("Admin.stop", &()).await.unwrap_err();
    assert_eq!((refused.code(), refused.execution()), (Code::PermissionDenied, Execution::NotSent));
    let unreachable = channel.call::<()>("Arith.double", &(1,)).await.unwrap_err();
    assert_eq!(unreachable.code(), Code::Unavailable);
    assert_eq!(*seen.lock().unwrap(), [Err(Code::Unavailable)]);
}
