//! ZooKeeper, the system's program: a prefix for each test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall_discovery::{Registrar, RegistrarErrorKind, Renewal};
use farcall_test_support::wait::{until, until_async};
use farcall_zookeeper::{ZookeeperDiscovery, ZookeeperOptions, ZookeeperRegistrar};
use futures::future::join_all;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::gate::Gate;
use crate::place::{LASTING_TTL, Listed, Place, Source, test_place};
use crate::watcher::{Watcher, instance};
use crate::zookeeper_server;

test_place!(Zookeeper);

struct Zookeeper {
    gate: Gate,
    server: SocketAddr,
    prefix: String,
    options: ZookeeperOptions,
    listed: Listed<ZookeeperRegistrar>,
}

impl Source for Zookeeper {
    type Discovery = ZookeeperDiscovery;

    async fn start(ttl: Duration) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = zookeeper_server::address().await;
        let gate = Gate::to(server).await;
        let prefix = format!("/test-{}/v1", NEXT.fetch_add(1, Ordering::Relaxed));
        // A generous timeout: a ZooKeeper on a busy machine is slow, not unreachable.
        let options = ZookeeperOptions::new(&gate.address().to_string()).unwrap().prefix(&prefix);
        let options = options.ttl(ttl).request_timeout(Duration::from_secs(20));
        let listed = Listed::with(ZookeeperRegistrar::new(&options).unwrap());
        Self { gate, server, prefix, options, listed }
    }

    fn discovery(&self, service: &str) -> ZookeeperDiscovery {
        ZookeeperDiscovery::new(&self.options, service).unwrap()
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        self.listed.list(service, ports).await;
    }

    async fn cut(&self) {
        self.gate.lead_to(None).await;
    }

    async fn restore(&self) {
        self.gate.lead_to(Some(self.server)).await;
    }

    fn connections(&self) -> Option<usize> {
        Some(self.gate.open_connections())
    }
}

impl Place for Zookeeper {
    type Registrar = ZookeeperRegistrar;

    fn registrar(&self) -> ZookeeperRegistrar {
        ZookeeperRegistrar::new(&self.options).unwrap()
    }

    async fn forget(&self) {
        let client = Client::connect(&self.server.to_string()).await.unwrap();
        for service in client.list_children(&self.prefix).await.unwrap() {
            let service = format!("{}/{service}", self.prefix);
            for node in client.list_children(&service).await.unwrap() {
                client.delete(&format!("{service}/{node}"), None).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_is_shared_and_closed_with_the_last_instance() {
    let place = Zookeeper::start(LASTING_TTL).await;
    let registrar = place.registrar();
    let first = registrar.register(&instance("Arith", 1)).await.unwrap().lease;
    let second = registrar.register(&instance("Text", 2)).await.unwrap().lease;
    assert_eq!(place.connections(), Some(1));
    registrar.deregister(&instance("Arith", 1), first).await.unwrap();
    assert_eq!(place.connections(), Some(1));
    registrar.deregister(&instance("Text", 2), second).await.unwrap();
    until("no connection is left", || place.connections() == Some(0)).await;
    // It registers again in another session.
    let lease = registrar.register(&instance("Arith", 1)).await.unwrap().lease;
    Watcher::of(&place, "Arith").until_ports(&[1]).await;
    registrar.deregister(&instance("Arith", 1), lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_of_an_earlier_session_is_replaced() {
    let place = Zookeeper::start(LASTING_TTL).await;
    let (registrar, registered) = (place.registrar(), instance("Arith", 1));
    let lease = registrar.register(&registered).await.unwrap().lease;
    let client = Client::connect(&place.server.to_string()).await.unwrap();
    let service = format!("{}/Arith", place.prefix);
    let node = format!("{service}/{}", client.list_children(&service).await.unwrap()[0]);
    registrar.deregister(&registered, lease).await.unwrap();
    // As if the registrar had lost the session, which lives on in ZooKeeper for a while.
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create(&node, b"{}", &ephemeral).await.unwrap();
    let mut lease = registrar.register(&registered).await.unwrap().lease;
    let stat = client.check_stat(&node).await.unwrap().unwrap();
    assert_ne!(stat.ephemeral_owner, client.session_id().0, "it would go with that session");
    assert!(matches!(registrar.renew(&registered, &mut lease).await.unwrap(), Renewal::Renewed(_)));
    registrar.deregister(&registered, lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrar_whose_session_expired_registers_in_another_one() {
    let place = Zookeeper::start(Duration::from_secs(1)).await;
    let (registrar, mut registered) = (place.registrar(), instance("Arith", 1));
    // So that the session ends, and not the registration.
    registered.ttl_ms = Some(LASTING_TTL.as_millis() as u64);
    let mut lease = registrar.register(&registered).await.unwrap().lease;
    let client = Client::connect(&place.server.to_string()).await.unwrap();
    let service = format!("{}/Arith", place.prefix);
    place.cut().await;
    until_async("the session expires", async || client.list_children(&service).await.unwrap().is_empty())
        .await;
    place.restore().await;
    // Until the client learns of it, it fails.
    until_async("it is not known any more", async || {
        matches!(registrar.renew(&registered, &mut lease).await, Ok(Renewal::Unknown))
    })
    .await;
    let lease = registrar.register(&registered).await.unwrap().lease;
    assert_eq!(client.list_children(&service).await.unwrap().len(), 1);
    registrar.deregister(&registered, lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_new_service_register_at_the_same_time() {
    let place = Zookeeper::start(LASTING_TTL).await;
    let registrars: Vec<_> = (0..16).map(|_| place.registrar()).collect();
    // Each has its session already.
    let mut leases = Vec::new();
    for registrar in &registrars {
        leases.push(registrar.register(&instance("Clock", 1)).await.unwrap());
    }
    let arith = instance("Arith", 1);
    let registered = join_all(registrars.iter().map(|registrar| registrar.register(&arith))).await;
    // Each finds no service, and most that another one has created it meanwhile.
    let registered: Vec<_> = registered.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(registered.len(), registrars.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_user_are_read_by_all_and_changed_by_no_other() {
    let place = Zookeeper::start(LASTING_TTL).await;
    let registrar = ZookeeperRegistrar::new(&place.options.clone().user("me", "a password")).unwrap();
    let _lease = registrar.register(&instance("Arith", 1)).await.unwrap();
    let mut watcher = Watcher::of(&place, "Arith");
    watcher.until_ports(&[1]).await;
    let client = Client::connect(&place.server.to_string()).await.unwrap();
    let service = format!("{}/Arith", place.prefix);
    let node = format!("{service}/{}", client.list_children(&service).await.unwrap()[0]);
    assert!(client.set_data(&node, b"{}", None).await.is_err());

    // A registrar that may not write says so.
    client.create(&format!("{}/Locked", place.prefix), b"", &locked()).await.unwrap();
    let error = place.registrar().register(&instance("Locked", 1)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), RegistrarErrorKind::Rejected, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_of_sasl_registers_nodes_that_no_other_changes() {
    let place = Zookeeper::start(LASTING_TTL).await;
    let registrar =
        |password| ZookeeperRegistrar::new(&place.options.clone().sasl_digest("me", password)).unwrap();
    let user = registrar("a password");
    let lease = user.register(&instance("Arith", 1)).await.unwrap().lease;
    let mut watcher = Watcher::of(&place, "Arith");
    watcher.until_ports(&[1]).await;
    let client = Client::connect(&place.server.to_string()).await.unwrap();
    let service = format!("{}/Arith", place.prefix);
    let node = format!("{service}/{}", client.list_children(&service).await.unwrap()[0]);
    let (acls, _) = client.get_acl(&node).await.unwrap();
    assert!(format!("{acls:?}").contains("sasl"), "{acls:?}");
    assert!(client.set_data(&node, b"{}", None).await.is_err());
    user.deregister(&instance("Arith", 1), lease).await.unwrap();

    let error = registrar("another").register(&instance("Arith", 2)).await.map(drop).unwrap_err();
    assert!(!error.to_string().contains("another"), "{error}");
    assert_eq!(error.kind(), RegistrarErrorKind::Rejected, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_services_that_have_instances_are_listed() {
    let place = Zookeeper::start(LASTING_TTL).await;
    assert!(place.discovery("").services().await.unwrap().is_empty(), "there is no prefix yet");
    let client = Client::connect(&place.server.to_string()).await.unwrap();
    // More than are asked for at once.
    for number in 0..150 {
        let instance = if number % 3 == 0 { "" } else { "/instance" };
        let path = format!("{}/Service{number:03}{instance}", place.prefix);
        client.mkdir(&path, &unlocked()).await.unwrap();
    }
    let expected: Vec<_> =
        (0..150).filter(|number| number % 3 != 0).map(|number| format!("Service{number:03}")).collect();
    assert_eq!(place.discovery("").services().await.unwrap(), expected);
}

fn unlocked() -> zookeeper_client::CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

fn locked() -> zookeeper_client::CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_read())
}
