//! Registration: what is registered and when; no registrar can delay a server.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_discovery::{
    Instance, InstanceError, Registered, Registrar, RegistrarError, RegistrarErrorKind, RegistrationState,
    Renewal, SourceError,
};
use farcall_protocol::Code;
use farcall_protocol::describe::HealthStatus;
use farcall_server::{BuildError, Limits, Server, ServerBuilder, ServerHandle};
use farcall_test_support::wait::until;
use serde_json::json;
use support::{LONG, Nothing, Raw, builder, millis, none, secs, serve_with, stage};
use tokio::time::{Instant, sleep, timeout};

use self::Request::{Deregister, Register, Renew};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Register,
    Renew,
    Deregister,
}

/// The behaviour of a [`Place`].
#[derive(Clone, Copy, Default)]
enum Manner {
    #[default]
    Obliging,
    /// Renewals are of something unknown.
    Forgetful,
    Failing,
    Hanging,
    /// Answers after this many milliseconds.
    Slow(u64),
    /// Hangs when an instance is deregistered.
    Clinging,
    Panicking,
}

/// A registrar that records its requests.
#[derive(Clone, Default)]
struct Place {
    manner: Manner,
    record: Arc<Mutex<Vec<(Request, Instance, Instant)>>>,
}

impl Place {
    fn new(manner: Manner) -> Self {
        Self { manner, record: Arc::default() }
    }

    async fn ask(&self, request: Request, instance: &Instance) -> Result<(), RegistrarError> {
        self.record.lock().unwrap().push((request, instance.clone(), Instant::now()));
        match self.manner {
            Manner::Failing => Err(RegistrarError::new(RegistrarErrorKind::Rejected, "it says no")),
            Manner::Hanging => std::future::pending().await,
            Manner::Clinging if request == Deregister => std::future::pending().await,
            Manner::Slow(after) => {
                sleep(millis(after)).await;
                Ok(())
            }
            Manner::Panicking => panic!("in a request"),
            Manner::Obliging | Manner::Forgetful | Manner::Clinging => Ok(()),
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.record.lock().unwrap().iter().map(|(request, ..)| *request).collect()
    }

    /// Returns the time of the first request of this kind.
    fn first(&self, wanted: Request) -> Instant {
        let record = self.record.lock().unwrap();
        record.iter().find(|(request, ..)| *request == wanted).expect("it was asked for").2
    }

    /// Returns the registered instances, ordered by name and address.
    fn registered(&self) -> Vec<Instance> {
        let record = self.record.lock().unwrap();
        let mut instances: Vec<_> =
            record.iter().filter(|(request, ..)| *request == Register).map(|(_, it, _)| it.clone()).collect();
        instances.sort_by(|a, b| (&a.service, &a.addr).cmp(&(&b.service, &b.addr)));
        instances
    }

    fn names_and_addresses(&self) -> Vec<(String, String)> {
        self.registered().into_iter().map(|it| (it.service, it.addr.to_string())).collect()
    }
}

impl Registrar for Place {
    type Lease = ();

    fn describe(&self) -> String {
        "a place".to_owned()
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<()>, RegistrarError> {
        self.ask(Register, instance).await?;
        Ok(Registered::new((), secs(10)))
    }

    async fn renew(&self, instance: &Instance, (): &mut ()) -> Result<Renewal, RegistrarError> {
        self.ask(Renew, instance).await?;
        let unknown = matches!(self.manner, Manner::Forgetful);
        Ok(if unknown { Renewal::Unknown } else { Renewal::Renewed(secs(10)) })
    }

    async fn deregister(&self, instance: &Instance, (): ()) -> Result<(), RegistrarError> {
        self.ask(Deregister, instance).await
    }
}

/// A server of the service `T` that listens nowhere and says where it would be.
fn advertised(place: &Place) -> ServerBuilder {
    builder(&stage()).advertise("tcp@10.0.0.5:7001").register_with(place.clone())
}

fn states(handle: &ServerHandle) -> Vec<RegistrationState> {
    handle.registrations().into_iter().map(|registration| registration.state).collect()
}

/// Asserts that a server answers.
async fn assert_serving(handle: &ServerHandle) {
    Raw::connect(handle).await.call("T.echo", json!({"text": "here"})).await.value();
}

#[tokio::test(start_paused = true)]
async fn stop_deregisters_pauses_sends_goaway_and_drains() {
    let place = Place::new(Manner::Slow(400));
    let stage = stage();
    let builder = builder(&stage).advertise("tcp@10.0.0.5:7001").register_with(place.clone());
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    client.request("T.wait", none()).await;
    sleep(secs(1)).await;
    let begun = Instant::now();
    server.handle.stop();
    // While it deregisters and pauses, it still serves new connections.
    for _ in 0..6 {
        sleep(millis(100)).await;
        assert_serving(&server.handle).await;
        assert_eq!(server.handle.health(), HealthStatus::Draining);
    }
    let deregistered = place.first(Deregister);
    assert!(deregistered - begun < millis(10), "{:?}", deregistered - begun);
    client.assert_goaway(1, Code::Unavailable).await;
    // 400 ms for deregistering, 250 ms of pause.
    assert!((millis(645)..millis(700)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // New connections are refused, and running calls are finished.
    assert!(Raw::try_connect(&server.handle, &Default::default()).await.is_err());
    sleep(secs(5)).await;
    assert!(!server.serving.is_finished());
    server.stage.gate.add_permits(1);
    assert_eq!(client.response().await.value(), "done");
    timeout(LONG, server.serving).await.unwrap().unwrap();
    assert_eq!(place.requests(), [Register, Deregister]);
    assert_eq!(states(&server.handle), [RegistrationState::Deregistered]);
}

#[tokio::test(start_paused = true)]
async fn serve_until_deregisters_before_it_stops() {
    let place = Place::default();
    let server = advertised(&place).build().unwrap();
    let begun = Instant::now();
    timeout(LONG, server.serve_until(sleep(secs(60)))).await.unwrap();
    assert!((millis(60_245)..millis(60_300)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let requests = place.requests();
    assert_eq!((requests[0], *requests.last().unwrap()), (Register, Deregister));
    assert!((5..=7).contains(&requests.iter().filter(|request| **request == Renew).count()), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn deregister_pause_is_configurable_and_only_after_a_registration() {
    let set = Limits::default().deregister_pause(secs(7));
    let nobody = builder(&stage());
    let failing = advertised(&Place::new(Manner::Failing));
    for (builder, expected) in
        [(advertised(&Place::default()), secs(7)), (failing, secs(0)), (nobody, secs(0))]
    {
        let server = serve_with(stage(), builder.limits(set.clone()));
        sleep(secs(30)).await;
        let begun = Instant::now();
        server.handle.stop();
        timeout(LONG, server.serving).await.unwrap().unwrap();
        assert!(begun.elapsed().abs_diff(expected) < millis(50), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_registered_before_serving() {
    let place = Place::default();
    let server = advertised(&place).build().unwrap();
    let handle = server.handle();
    sleep(secs(30)).await;
    assert!(place.requests().is_empty());
    assert_eq!(states(&handle), [RegistrationState::Registering]);
    let serving = tokio::spawn(server.serve());
    sleep(millis(10)).await;
    assert_eq!(place.requests(), [Register]);
    let [registration] = &handle.registrations()[..] else { panic!("one registration") };
    assert_eq!((&*registration.place, &*registration.instance.service), ("a place", "T"));
    assert!(matches!(registration.state, RegistrationState::Registered { .. }), "{registration:?}");
    assert!(format!("{handle:?}").contains("a place"));
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn server_stopped_before_serving_registers_nothing() {
    let place = Place::default();
    let server = advertised(&place).build().unwrap();
    server.handle().stop();
    let refused = Raw::try_connect(&server.handle(), &Default::default()).await;
    assert!(refused.is_err());
    timeout(millis(100), server.serve()).await.unwrap();
    assert!(place.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropped_serve_future_stops_renewing_without_deregistering() {
    let place = Place::default();
    let server = serve_with(stage(), advertised(&place));
    sleep(secs(5)).await;
    server.serving.abort();
    sleep(secs(60)).await;
    assert_eq!(place.requests(), [Register]);
}

#[tokio::test(start_paused = true)]
async fn dropped_serve_future_ends_a_stop_at_once() {
    let place = Place::new(Manner::Clinging);
    let server = serve_with(stage(), advertised(&place));
    let mut client = server.connect().await;
    sleep(secs(5)).await;
    server.handle.stop();
    sleep(secs(1)).await;
    server.serving.abort();
    client.assert_closed().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn failing_registrar_delays_neither_start_nor_stop() {
    // The manner, the expected reason, and the part of the two seconds that the stop takes.
    let manners = [
        (Manner::Failing, "it says no", secs(0)),
        (Manner::Panicking, "the registrar panicked: in a request", secs(0)),
        (Manner::Hanging, "no answer within 10 s", secs(2)),
    ];
    for (manner, expected, end) in manners {
        let server = serve_with(stage(), advertised(&Place::new(manner)));
        assert_serving(&server.handle).await;
        sleep(secs(3600)).await;
        assert_serving(&server.handle).await;
        let [RegistrationState::Failing(SourceError { since, reason: why, .. })] =
            &states(&server.handle)[..]
        else {
            panic!("it fails")
        };
        assert_eq!(&**why, expected);
        assert!(since.elapsed() > secs(3580), "{:?}", since.elapsed());
        let begun = Instant::now();
        server.handle.stop();
        timeout(LONG, server.serving).await.unwrap().unwrap();
        assert!(begun.elapsed() <= end + millis(50), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn many_registrars_are_deregistered_concurrently_within_two_seconds() {
    let good = Place::default();
    let mut builder = advertised(&good);
    let others: Vec<_> = (0..20)
        .map(|n| match n % 4 {
            0 => Manner::Clinging,
            1 => Manner::Hanging,
            2 => Manner::Panicking,
            _ => Manner::Slow(1_500),
        })
        .map(Place::new)
        .collect();
    for other in &others {
        builder = builder.register_with(other.clone());
    }
    let server = serve_with(stage(), builder);
    sleep(secs(5)).await;
    assert_eq!(good.requests(), [Register]);
    let begun = Instant::now();
    server.handle.stop();
    timeout(LONG, server.serving).await.unwrap().unwrap();
    assert!(begun.elapsed() <= millis(2_000 + 250 + 50), "{:?}", begun.elapsed());
    assert!(good.first(Deregister) - begun < millis(10));
    assert!(others.iter().step_by(4).all(|clinging| clinging.requests() == [Register, Deregister]));
}

#[tokio::test(start_paused = true)]
async fn registration_in_progress_at_stop_is_deregistered() {
    let place = Place::new(Manner::Slow(800));
    let server = serve_with(stage(), advertised(&place));
    sleep(millis(100)).await;
    server.handle.stop();
    timeout(LONG, server.serving).await.unwrap().unwrap();
    assert_eq!(place.requests(), [Register, Deregister]);
    assert_eq!(states(&server.handle), [RegistrationState::Deregistered]);
}

#[tokio::test(start_paused = true)]
async fn unknown_registration_is_registered_again() {
    let place = Place::new(Manner::Forgetful);
    let server = serve_with(stage(), advertised(&place));
    sleep(secs(15)).await;
    assert_eq!(place.requests(), [Register, Renew, Register]);
    server.serving.abort();
}

/// Serves for a second; returns the place with what was registered.
async fn registered(builder: ServerBuilder) -> Place {
    let place = Place::default();
    let server = builder.register_with(place.clone()).build().unwrap();
    let _ = timeout(secs(1), server.serve()).await;
    place
}

fn two_services() -> ServerBuilder {
    Server::builder()
        .method("shop.Arith.add", async |_: Nothing| ())
        .method("Text.words", async |_: Nothing| ())
        .method("Text.lines", async |_: Nothing| ())
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn each_service_is_registered_at_each_address() {
    let place = registered(two_services().advertise("10.0.0.5:1").advertise("10.0.0.5:2")).await;
    let (first, second) = ("tcp@10.0.0.5:1", "tcp@10.0.0.5:2");
    let expected = [("Text", first), ("Text", second), ("shop.Arith", first), ("shop.Arith", second)];
    assert_eq!(place.names_and_addresses(), pairs(&expected));
    assert!(place.registered().iter().all(|instance| instance.id == instance.addr.to_string()));
}

#[tokio::test(start_paused = true)]
async fn register_as_replaces_the_service_names() {
    let named = two_services().advertise("a:1").register_as("").register_as("arith").register_as("arith");
    let place = registered(named).await;
    assert_eq!(place.names_and_addresses(), pairs(&[("", "tcp@a:1"), ("arith", "tcp@a:1")]));
    // A server without services can be registered as well.
    let place = registered(Server::builder().advertise("a:1").register_as("")).await;
    assert_eq!(place.names_and_addresses(), pairs(&[("", "tcp@a:1")]));
}

#[tokio::test(start_paused = true)]
async fn instance_carries_the_servers_settings() {
    let builder = builder(&stage()).advertise("tls@arith.example:7001").instance_id("arith-1").weight(7);
    let builder = builder.zone("a").version("1.4.2").label("region", "eu").registration_ttl(secs(30));
    let [instance] = &registered(builder).await.registered()[..] else { panic!("one instance") };
    let expected = json!({
        "service": "T", "id": "arith-1", "addr": "tls@arith.example:7001", "weight": 7, "zone": "a",
        "version": "1.4.2", "metadata": {"region": "eu"}, "ttl_ms": 30_000,
    });
    assert_eq!(serde_json::to_value(instance).unwrap(), expected);
}

#[tokio::test]
async fn listening_addresses_are_advertised() {
    let place = Place::default();
    let listening = two_services().register_as("").listen("tcp@127.0.0.1:0").register_with(place.clone());
    let server = listening.bind().await.unwrap();
    let bound = server.addresses().next().unwrap().to_string();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    until("it is registered", || place.requests() == [Register]).await;
    assert_eq!(place.names_and_addresses(), pairs(&[("", &bound)]));
    handle.stop();
    timeout(secs(60), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn port_0_is_advertised_as_the_bound_port() {
    let builder = builder(&stage()).listen("tcp@127.0.0.1:0").advertise("tcp@10.0.0.5:0");
    let server = builder.register_with(Place::default()).bind().await.unwrap();
    let port = server.addresses().next().unwrap().port().unwrap();
    let [registration] = &server.handle().registrations()[..] else { panic!("one registration") };
    assert_eq!(registration.instance.addr.to_string(), format!("tcp@10.0.0.5:{port}"));
    assert_eq!(registration.instance.id, format!("tcp@10.0.0.5:{port}"));
}

#[test]
fn undialable_address_is_refused() {
    let refused = |builder: ServerBuilder| builder.register_with(Place::default()).build().unwrap_err();
    assert_eq!(refused(builder(&stage())), BuildError::NothingToDial);
    let error = refused(builder(&stage()).advertise("tcp@10.0.0.5:0"));
    assert!(matches!(error, BuildError::NoBoundPort { .. }), "{error}");
    for undialable in ["0.0.0.0:7001", "[::]:7001"] {
        let error = refused(builder(&stage()).advertise(undialable));
        assert!(matches!(error, BuildError::Instance(InstanceError::Undialable { .. })), "{error}");
    }
    // An invalid address is reported without a registrar, too.
    assert!(matches!(builder(&stage()).advertise("nowhere").build(), Err(BuildError::Address(_))));
}

#[test]
fn invalid_registrations_are_refused() {
    let refused = |builder: ServerBuilder| {
        builder.advertise("10.0.0.5:1").register_with(Place::default()).build().unwrap_err()
    };
    assert_eq!(refused(Server::builder()), BuildError::NothingToRegister);
    let shared = two_services().instance_id("arith").advertise("10.0.0.5:2");
    assert_eq!(refused(shared), BuildError::SharedId { id: "arith".to_owned() });
    let mistakes = [
        (two_services().register_as("white space"), "service `white space` must be 1 to 128 letters"),
        (Server::builder().method("größe.a", async |_: Nothing| ()), "service `größe` must be"),
        (two_services().zone(""), "zone `` must be 1 to 128 letters"),
        (two_services().version("1, 2"), "version `1, 2` must be"),
        (two_services().instance_id("a\nb"), r"id `a\nb` must be"),
        (two_services().label("key", "x".repeat(5000)), "metadata has 1 pairs and 5003 bytes"),
        (two_services().registration_ttl(Duration::MAX), "must be from 1000 (1 s) to 86400000 (1 day)"),
    ];
    for (builder, expected) in mistakes {
        let error = refused(builder).to_string();
        assert!(error.starts_with("registering: ") && error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn blocking_registrar_delays_neither_calls_nor_stop() {
    struct Blocking(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Registrar for Blocking {
        type Lease = ();

        fn describe(&self) -> String {
            "a place that blocks".to_owned()
        }

        async fn register(&self, _: &Instance) -> Result<Registered<()>, RegistrarError> {
            // Blocks until the test has ended.
            let _ = self.0.lock().unwrap().recv();
            Err(RegistrarError::new(RegistrarErrorKind::Timeout, "late"))
        }

        async fn renew(&self, _: &Instance, (): &mut ()) -> Result<Renewal, RegistrarError> {
            Ok(Renewal::Unknown)
        }

        async fn deregister(&self, _: &Instance, (): ()) -> Result<(), RegistrarError> {
            Ok(())
        }
    }

    let (release, blocks) = std::sync::mpsc::channel();
    let builder = builder(&stage()).advertise("10.0.0.5:1").register_with(Blocking(Mutex::new(blocks)));
    let server = serve_with(stage(), builder);
    timeout(secs(60), assert_serving(&server.handle)).await.unwrap();
    server.handle.stop();
    timeout(secs(60), server.serving).await.unwrap().unwrap();
    drop(release);
}
