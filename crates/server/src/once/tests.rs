//! The rules of calls that are carried out once, one test for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use farcall_context::{Context, Identity};
use farcall_protocol::metadata::IDEMPOTENCY_KEY;
use farcall_protocol::{BoxError, Code, Codec, Execution, Metadata, Status};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower::filter::FilterLayer;

use crate::{
    BuildError, Claim, Credential, DedupStore, Invocation, Limits, MemoryDedupStore, OnceCall, OnceOptions,
    Request, Response, Sender, Server, ServerBuilder, ServerHandle, Service,
};

const S: Duration = Duration::from_secs(1);

/// A server with methods that are declared `once`, and the number of calls that their handlers began and ended.
struct Bank {
    handle: ServerHandle,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

fn service(begun: &Arc<AtomicUsize>, ended: &Arc<AtomicUsize>) -> Service {
    let counters = (Arc::clone(begun), Arc::clone(ended));
    let pay = move |cents: u64| {
        let (begun, ended) = counters.clone();
        async move {
            let number = begun.fetch_add(1, Relaxed) + 1;
            match cents {
                // The amount is the time that it takes, in seconds.
                1..100 => sleep(S * u32::try_from(cents).unwrap()).await,
                666 => panic!("as the test says"),
                _ => {}
            }
            ended.fetch_add(1, Relaxed);
            format!("{number}: {cents}")
        }
    };
    let refusals = Arc::clone(begun);
    let refuse = move |(): ()| {
        refusals.fetch_add(1, Relaxed);
        async { Err::<(), Status>(Status::refused(Code::Unavailable, "closed")) }
    };
    let large = async |bytes: usize| "x".repeat(bytes);
    let service = Service::new("Bank").method("pay", pay).try_method("refuse", refuse).method("large", large);
    service.once("pay").once("refuse").once("large")
}

fn bank_with(more: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Bank {
    let (begun, ended) = (Arc::default(), Arc::default());
    let builder = more(Server::builder().service(service(&begun, &ended)));
    Bank { handle: builder.build().unwrap().handle(), begun, ended }
}

fn bank(options: OnceOptions) -> Bank {
    bank_with(|builder| builder.once_options(options))
}

fn call(method: &str, key: &str, arguments: &str) -> Invocation {
    let mut metadata = Metadata::new();
    metadata.insert(IDEMPOTENCY_KEY, key).unwrap();
    Invocation::new(method, Codec::Json, Bytes::copy_from_slice(arguments.as_bytes())).metadata(metadata)
}

fn pay(key: &str, cents: u64) -> Invocation {
    call("Bank.pay", key, &cents.to_string())
}

fn error(response: &Response) -> (Code, Execution) {
    let status = response.status().expect("it failed");
    (status.code, status.execution)
}

fn text(response: &Response) -> String {
    assert_eq!(response.status(), None);
    String::from_utf8(response.body().to_vec()).unwrap()
}

impl Bank {
    async fn invoke(&self, invocation: Invocation) -> Response {
        self.handle.invoke(invocation).await
    }

    /// Makes a call in a task, which has begun when this returns.
    async fn start(&self, invocation: Invocation) -> JoinHandle<Response> {
        let handle = self.handle.clone();
        let call = tokio::spawn(async move { handle.invoke(invocation).await });
        sleep(S / 1000).await;
        call
    }

    fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }

    fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn second_try_joins_a_running_call() {
    let bank = bank(OnceOptions::default());
    let first = bank.start(pay("a", 10)).await;
    let second = bank.start(pay("a", 10)).await;
    assert_eq!((bank.begun(), bank.handle.once_in_flight()), (1, 1));
    let answers = (text(&first.await.unwrap()), text(&second.await.unwrap()));
    assert_eq!(answers, ("\"1: 10\"".to_owned(), "\"1: 10\"".to_owned()));
    assert_eq!((bank.begun(), bank.handle.once_in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn later_try_gets_the_answer() {
    let bank = bank(OnceOptions::default());
    for _ in 0..3 {
        assert_eq!(text(&bank.invoke(pay("a", 500)).await), "\"1: 500\"");
    }
    assert_eq!(text(&bank.invoke(pay("b", 500)).await), "\"2: 500\"");
    assert_eq!(bank.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn call_without_a_key_is_carried_out_each_time() {
    let bank = bank(OnceOptions::default());
    for _ in 0..2 {
        let _ = bank.invoke(Invocation::new("Bank.pay", Codec::Json, "500".into())).await;
    }
    assert_eq!(bank.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn cancelled_call_goes_on_and_its_answer_is_kept() {
    let bank = bank(OnceOptions::default());
    assert!(timeout(S, bank.invoke(pay("a", 10))).await.is_err());
    // Its task notices in virtual time.
    sleep(S / 1000).await;
    assert_eq!((bank.handle.in_flight(), bank.handle.once_in_flight()), (0, 1));
    // One that joins without the first caller waits for the same handler.
    assert_eq!(text(&bank.invoke(pay("a", 10)).await), "\"1: 10\"");
    assert_eq!((bank.begun(), bank.ended()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn cancelled_call_goes_on_for_those_who_have_joined() {
    let bank = bank(OnceOptions::default());
    let first = bank.start(pay("a", 10)).await;
    let second = bank.start(pay("a", 10)).await;
    first.abort();
    assert_eq!(text(&second.await.unwrap()), "\"1: 10\"");
    assert_eq!((bank.begun(), bank.ended()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn call_ends_at_its_deadline_and_is_not_begun_again() {
    let bank = bank(OnceOptions::default());
    let first = bank.invoke(pay("a", 10).timeout(S)).await;
    assert_eq!(error(&first), (Code::DeadlineExceeded, Execution::Maybe));
    sleep(S).await;
    assert_eq!((bank.begun(), bank.ended(), bank.handle.once_in_flight()), (1, 0, 0));
    let second = bank.invoke(pay("a", 10)).await;
    assert_eq!(error(&second), (Code::DeadlineExceeded, Execution::Maybe));
    assert_eq!(bank.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn call_goes_on_until_the_last_deadline_of_its_callers() {
    let bank = bank(OnceOptions::default());
    let first = bank.start(pay("a", 10).timeout(2 * S)).await;
    let second = bank.start(pay("a", 10).timeout(20 * S)).await;
    assert_eq!(error(&first.await.unwrap()), (Code::DeadlineExceeded, Execution::Maybe));
    assert_eq!(text(&second.await.unwrap()), "\"1: 10\"");
}

#[tokio::test(start_paused = true)]
async fn panic_is_the_answer_of_all_tries() {
    let bank = bank(OnceOptions::default());
    for _ in 0..2 {
        let response = bank.invoke(pay("a", 666)).await;
        assert_eq!(error(&response), (Code::Internal, Execution::Done));
    }
    assert_eq!((bank.begun(), bank.handle.once_in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn call_of_which_nothing_was_done_is_not_kept() {
    let bank = bank(OnceOptions::default());
    for begun in 1..=2 {
        let response = bank.invoke(call("Bank.refuse", "a", "null")).await;
        assert_eq!(error(&response), (Code::Unavailable, Execution::Refused));
        assert_eq!(bank.begun(), begun);
    }
    // Arguments that do not decode begin nothing, either.
    assert_eq!(
        error(&bank.invoke(call("Bank.pay", "b", "true")).await),
        (Code::InvalidArgument, Execution::Refused)
    );
    assert_eq!(text(&bank.invoke(pay("b", 500)).await), "\"3: 500\"");
}

#[tokio::test(start_paused = true)]
async fn key_with_other_arguments_is_refused() {
    let bank = bank(OnceOptions::default());
    let running = bank.start(pay("a", 10)).await;
    let while_it_runs = bank.invoke(pay("a", 11)).await;
    let _ = running.await.unwrap();
    let afterwards = bank.invoke(pay("a", 11)).await;
    for response in [while_it_runs, afterwards] {
        assert_eq!(error(&response), (Code::InvalidArgument, Execution::Refused));
        assert!(response.status().unwrap().message.contains("other arguments"));
    }
    assert_eq!(bank.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn answer_is_forgotten_after_its_retention() {
    let bank = bank(OnceOptions::default().retention(60 * S));
    let _ = bank.invoke(pay("a", 500)).await;
    sleep(59 * S).await;
    assert_eq!(text(&bank.invoke(pay("a", 500)).await), "\"1: 500\"");
    sleep(2 * S).await;
    assert_eq!(text(&bank.invoke(pay("a", 500)).await), "\"2: 500\"");
}

#[tokio::test(start_paused = true)]
async fn full_store_refuses_and_keeps_what_it_has() {
    let bank = bank(OnceOptions::default().max_bytes(4 * 1024).retention(60 * S));
    let mut kept = 0;
    let refused = loop {
        let response = bank.invoke(pay(&format!("key-{kept}"), 500)).await;
        if response.status().is_some() {
            break response;
        }
        kept += 1;
    };
    // All come from one caller, which has a half.
    assert_eq!((kept, error(&refused)), (3, (Code::ResourceExhausted, Execution::Refused)));
    let message = &refused.status().unwrap().message;
    assert!(message.contains("half of `OnceOptions::max_bytes`"), "{message}");
    assert_eq!(text(&bank.invoke(pay("key-0", 500)).await), "\"1: 500\"");
    sleep(61 * S).await;
    assert_eq!(bank.invoke(pay("key-9", 500)).await.status(), None);
}

#[tokio::test(start_paused = true)]
async fn callers_leave_room_for_each_other() {
    let store = MemoryDedupStore::new(4 * 1024, 1024, 60 * S);
    let claim = |host: u8, key: usize| {
        let peer = farcall_transport::PeerAddress::Tcp(([10, 0, 0, host], 1).into());
        let info = farcall_context::ConnectionInfo::new(1, peer).with_peer_key(peer.key());
        let name = farcall_protocol::ByteStr::from("Bank.pay".to_owned());
        let context = Context::new(name, farcall_protocol::Seq(1), Default::default(), false, Arc::new(info));
        let call = OnceCall::new(&context, &Codec::Json, b"5", &key.to_string()).unwrap();
        store.claim(&call).now_or_never().unwrap().is_ok()
    };
    assert_eq!((0..9).filter(|key| claim(1, *key)).count(), 3);
    assert_eq!((10..19).filter(|key| claim(2, *key)).count(), 3);
    // The whole is a limit, too.
    assert_eq!((20..29).filter(|key| claim(3, *key)).count(), 1);
    assert_eq!(store.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn number_of_running_calls_is_limited() {
    let bank = bank(OnceOptions::default().max_running(4));
    let mut running = Vec::new();
    for key in ["a", "b"] {
        running.push(bank.start(pay(key, 10)).await);
    }
    let refused = bank.invoke(pay("c", 10)).await;
    assert_eq!(error(&refused), (Code::ResourceExhausted, Execution::Refused));
    assert!(refused.status().unwrap().message.contains("`OnceOptions::max_running`"));
    // Joining needs no place.
    assert_eq!(text(&bank.invoke(pay("a", 10)).await), "\"1: 10\"");
    for call in running {
        let _ = call.await.unwrap();
    }
    assert_eq!(bank.handle.once_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn answer_that_is_too_large_is_told_of() {
    let bank = bank(OnceOptions::default().max_answer_bytes(1000));
    let first = bank.invoke(call("Bank.large", "a", "2000")).await;
    assert_eq!(first.body().len(), 2002);
    let second = bank.invoke(call("Bank.large", "a", "2000")).await;
    assert_eq!(error(&second), (Code::ResourceExhausted, Execution::Done));
    assert!(second.status().unwrap().message.contains("was carried out, and its answer of"));
}

#[tokio::test(start_paused = true)]
async fn identities_have_keys_apart() {
    let check = async |credential: Credential| {
        let name = credential.token().unwrap_or_default().to_owned();
        Ok::<_, Status>(Identity::new(name))
    };
    let bank = bank_with(|builder| builder.authenticate(check));
    assert_eq!(text(&bank.invoke(pay("a", 500).token("one")).await), "\"1: 500\"");
    assert_eq!(text(&bank.invoke(pay("a", 500).token("two")).await), "\"2: 500\"");
    assert_eq!(text(&bank.invoke(pay("a", 500).token("one")).await), "\"1: 500\"");
}

#[tokio::test(start_paused = true)]
async fn caller_that_may_not_call_gets_no_answer_that_is_kept() {
    let only = FilterLayer::new(|request: Request| match request.context().metadata("role") {
        Some("payer") => Ok(request),
        _ => Err(Status::refused(Code::PermissionDenied, "no payer")),
    });
    let bank = bank_with(|builder| builder.layer(only));
    let mut metadata = Metadata::new();
    metadata.insert(IDEMPOTENCY_KEY, "a").unwrap();
    metadata.insert("role", "payer").unwrap();
    let payer = Invocation::new("Bank.pay", Codec::Json, "500".into()).metadata(metadata);
    assert_eq!(text(&bank.invoke(payer).await), "\"1: 500\"");
    assert_eq!(error(&bank.invoke(pay("a", 500)).await), (Code::PermissionDenied, Execution::Refused));
}

#[tokio::test(start_paused = true)]
async fn restarted_server_has_a_store_with_another_name() {
    let name = || MemoryDedupStore::new(1024, 1024, S).name();
    assert_ne!(name(), name());
}

#[tokio::test(start_paused = true)]
async fn stopping_server_waits_for_calls_whose_callers_have_gone() {
    let (begun, ended) = (Arc::default(), Arc::<AtomicUsize>::default());
    let server = Server::builder().service(service(&begun, &ended)).build().unwrap();
    assert!(timeout(S, server.handle().invoke(pay("a", 10))).await.is_err());
    let start = Instant::now();
    server.serve_until(async {}).await;
    assert_eq!((ended.load(Relaxed), start.elapsed().as_secs()), (1, 9));
}

#[tokio::test(start_paused = true)]
async fn stopping_server_stops_calls_that_do_not_end() {
    let (begun, ended) = (Arc::default(), Arc::<AtomicUsize>::default());
    let limits = Limits::default().drain_timeout(S);
    let server = Server::builder().service(service(&begun, &ended)).limits(limits).build().unwrap();
    let handle = server.handle();
    assert!(timeout(S, handle.invoke(pay("a", 90))).await.is_err());
    server.serve_until(async {}).await;
    assert_eq!((ended.load(Relaxed), handle.once_in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_errors_when_the_server_is_built() {
    let build = |builder: ServerBuilder| builder.build().map(drop).unwrap_err();
    let unknown = build(Server::builder().method("Bank.pay", async |n: u64| n).once("Bank.repay"));
    assert_eq!(unknown, BuildError::UnknownOnce { name: "Bank.repay".to_owned() });
    let unknown = build(Server::builder().service(Service::new("Bank").once("pay")));
    assert_eq!(unknown, BuildError::UnknownOnce { name: "Bank.pay".to_owned() });
    let streams = Service::new("Feed").stream_out("all", async |(): (), _: Sender<u8>| ()).once("all");
    let streams = build(Server::builder().service(streams));
    assert_eq!(streams, BuildError::OnceStream { name: "Feed.all".to_owned() });
}

/// A store of two servers.
#[derive(Clone)]
struct Shared(Arc<MemoryDedupStore>);

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

#[tokio::test(start_paused = true)]
async fn servers_with_one_store_carry_a_call_out_once() {
    let store = Shared(Arc::new(MemoryDedupStore::new(1 << 20, 1024, 60 * S)));
    let banks = [store.clone(), store].map(|store| bank(OnceOptions::default().store(store)));
    let first = banks[0].start(pay("a", 10)).await;
    // The other server asks the store until the first one has answered.
    assert_eq!(text(&banks[1].invoke(pay("a", 10)).await), "\"1: 10\"");
    assert_eq!(text(&first.await.unwrap()), "\"1: 10\"");
    assert_eq!((banks[0].begun(), banks[1].begun()), (1, 0));
}

/// A store that cannot be reached, or has lost the server that claimed a key; with its name.
struct Broken(Result<Claim, Status>, &'static str);

impl DedupStore for Broken {
    fn name(&self) -> String {
        self.1.to_owned()
    }

    fn claim<'a>(&'a self, _: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
        ready(self.0.clone()).boxed()
    }

    fn keep<'a>(&'a self, _: &'a OnceCall, _: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
        ready(Err("it is full".into())).boxed()
    }

    fn release<'a>(&'a self, _: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
        ready(Ok(())).boxed()
    }
}

#[test]
fn store_without_a_name_is_refused() {
    let build = |name, is_once| {
        let pay = Service::new("Bank").method("pay", async |n: u64| n);
        let options = OnceOptions::default().store(Broken(Ok(Claim::Granted), name));
        let service = if is_once { pay.once("pay") } else { pay };
        Server::builder().service(service).once_options(options).build().map(drop)
    };
    assert_eq!(build("", true), Err(BuildError::NoStoreName));
    assert_eq!((build("x", true), build("", false)), (Ok(()), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_is_told_of() {
    let unreachable = Status::refused(Code::Unavailable, "no connection to the store");
    for (claim, expected) in [
        (Err(unreachable), (Code::Unavailable, Execution::Refused)),
        (Ok(Claim::Abandoned), (Code::Unavailable, Execution::Maybe)),
        (Ok(Claim::OtherArguments), (Code::InvalidArgument, Execution::Refused)),
    ] {
        let bank = bank(OnceOptions::default().store(Broken(claim, "broken")));
        assert_eq!(error(&bank.invoke(pay("a", 500)).await), expected);
        assert_eq!((bank.begun(), bank.handle.once_in_flight()), (0, 0));
    }
    // The answer reaches its caller if it cannot be kept.
    let bank = bank(OnceOptions::default().store(Broken(Ok(Claim::Granted), "broken")));
    assert_eq!(text(&bank.invoke(pay("a", 500)).await), "\"1: 500\"");
}

/// A store that fails at first, and the number of times that it was asked to keep an answer or to release a key.
#[derive(Clone)]
struct Shaky(Arc<MemoryDedupStore>, Arc<AtomicUsize>, usize);

impl Shaky {
    fn ask(&self) -> Result<(), BoxError> {
        if self.1.fetch_add(1, Relaxed) < self.2 { Err("it restarts".into()) } else { Ok(()) }
    }
}

impl DedupStore for Shaky {
    fn name(&self) -> String {
        self.0.name()
    }

    fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
        self.0.claim(call)
    }

    fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
        self.ask().map_or_else(|error| ready(Err(error)).boxed(), |()| self.0.keep(call, answer))
    }

    fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
        self.ask().map_or_else(|error| ready(Err(error)).boxed(), |()| self.0.release(call))
    }
}

#[tokio::test(start_paused = true)]
async fn store_is_asked_three_times_to_keep_an_answer_or_to_release_a_key() {
    for (failures, asked) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
        let store =
            || Shaky(Arc::new(MemoryDedupStore::new(1 << 20, 1024, 60 * S)), Arc::default(), failures);
        let (keeps, releases) = (store(), store());
        let bank_of = |store: &Shaky| bank(OnceOptions::default().store(store.clone()));
        let (paying, refusing) = (bank_of(&keeps), bank_of(&releases));
        let refused = async || error(&refusing.invoke(call("Bank.refuse", "b", "null")).await).1;
        assert_eq!(text(&paying.invoke(pay("a", 500)).await), "\"1: 500\"");
        assert_eq!(refused().await, Execution::Refused);
        assert_eq!((keeps.1.load(Relaxed), releases.1.load(Relaxed)), (asked, asked));
        if failures < asked {
            assert_eq!(text(&paying.invoke(pay("a", 500)).await), "\"1: 500\"", "it was kept");
            assert_eq!(refused().await, Execution::Refused);
            assert_eq!(refusing.begun(), 2, "it was released");
        }
    }
}
