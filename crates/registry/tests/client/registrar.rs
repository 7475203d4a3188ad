//! Registering, in either interface.

use std::time::Duration;

use farcall_discovery::{Discovery, Instance, Registrar, Renewal};
use farcall_registry::client::{HttpDiscovery, HttpRegistrar, SettingsError};
use farcall_test_support::wait::PATIENCE;
use serde_json::{Value, json as value};

use crate::fake_registry::{FakeRegistry, Reply, Request, SHORT_TIMEOUT, answer, json, not_found};

const INSTANCE: &str = "/v1/services/S/instances/tcp@10.0.0.1:7001";
const REGISTRATION: &str = r#"{"epoch":"e","rev":1,"ttl_ms":30000,"heartbeat_ms":10000}"#;
const WITH_TOKEN: &str = r#"{"epoch":"e","rev":1,"token":"t-7","ttl_ms":30000,"heartbeat_ms":10000}"#;

fn instance() -> Instance {
    let mut instance = Instance::new("S", "tcp@10.0.0.1:7001".parse().unwrap());
    instance.weight = 7;
    instance.zone = Some("z1".to_owned());
    instance.version = Some("2.0".to_owned());
    instance.metadata.insert("rack".to_owned(), "4".to_owned());
    instance
}

fn registrar(fake: &FakeRegistry) -> HttpRegistrar {
    HttpRegistrar::new(&fake.url()).unwrap().timeout(PATIENCE)
}

fn full(request: &Request) -> Reply {
    if request.is("PUT", INSTANCE) || request.is("POST", &format!("{INSTANCE}/heartbeat")) {
        json(REGISTRATION)
    } else if request.is("DELETE", INSTANCE) {
        answer("204 No Content", "", "")
    } else {
        not_found()
    }
}

fn simple(request: &Request) -> Reply {
    if request.is("POST", "/registry") { json(REGISTRATION) } else { not_found() }
}

#[test]
fn sources_and_registrars_are_named_by_their_urls() {
    let url = "http://127.0.0.1:7100/registry";
    let described = |service| HttpDiscovery::new(url, service).unwrap().describe();
    assert_eq!(described("Arith"), "Arith at http://127.0.0.1:7100/registry");
    assert_eq!(described(""), "servers at http://127.0.0.1:7100/registry");
    assert_eq!(HttpRegistrar::new(url).unwrap().describe(), url);
}

#[tokio::test]
async fn instance_is_put_renewed_and_deleted() {
    let fake = FakeRegistry::new(full).await;
    let registrar = registrar(&fake).ttl(Duration::from_secs(30)).token("write-me");
    let mut registered = registrar.register(&instance()).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(10));
    let renewed = registrar.renew(&instance(), &mut registered.lease).await.unwrap();
    assert_eq!(renewed, Renewal::Renewed(Duration::from_secs(10)));
    registrar.deregister(&instance(), registered.lease).await.unwrap();

    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer write-me")));
    assert_eq!(requests[1].body, "");
    let body: Value = serde_json::from_str(&requests[0].body).unwrap();
    let expected = value!({
        "service": "S", "id": "tcp@10.0.0.1:7001", "addr": "tcp@10.0.0.1:7001", "weight": 7, "zone": "z1",
        "version": "2.0", "metadata": {"rack": "4"}, "ttl_ms": 30000,
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn renewals_and_the_removal_carry_the_token_that_was_answered() {
    for interface in ["full", "simple"] {
        let fake = FakeRegistry::new(move |request| match request.method.as_str() {
            "PUT" if interface == "simple" => not_found(),
            "DELETE" => answer("204 No Content", "", ""),
            _ => json(WITH_TOKEN),
        })
        .await;
        let registrar = registrar(&fake);
        let mut lease = registrar.register(&instance()).await.unwrap().lease;
        registrar.renew(&instance(), &mut lease).await.unwrap();
        registrar.deregister(&instance(), lease).await.unwrap();
        let requests = fake.requests();
        let (last, first) = requests.split_at(requests.len() - 2);
        assert_eq!(first.iter().map(token).collect::<Vec<_>>(), ["t-7", "t-7"], "{interface}");
        assert!(last.iter().all(|request| token(request).len() == 32), "{interface}: the registrar's");
    }
}

#[tokio::test]
async fn token_of_an_attempt_that_was_not_answered_is_used_again() {
    let fake = FakeRegistry::new(|_| Reply::Reset).await;
    let registrar = registrar(&fake);
    registrar.register(&instance()).await.unwrap_err();
    fake.set_script(full);
    registrar.register(&instance()).await.unwrap();
    registrar.register(&instance()).await.unwrap();
    let puts: Vec<_> = fake.requests().iter().filter(|request| request.method == "PUT").map(token).collect();
    let [failed @ .., registered, second] = puts.as_slice() else { panic!("{puts:?}") };
    assert!(!failed.is_empty() && failed.iter().all(|token| token == registered), "{puts:?}");
    assert_ne!(registered, second, "a registration that was answered is another one");
}

fn token(request: &Request) -> String {
    request.header("x-farcall-token").unwrap().to_owned()
}

#[tokio::test]
async fn unknown_heartbeat_is_reported() {
    let fake = FakeRegistry::new(full).await;
    let registrar = registrar(&fake);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    fake.set_script(|_| answer("404 Not Found", "", r#"{"error":"no such instance"}"#));
    assert_eq!(registrar.renew(&instance(), &mut lease).await.unwrap(), Renewal::Unknown);
    // An unknown instance is deregistered already.
    registrar.deregister(&instance(), lease).await.unwrap();
}

#[tokio::test]
async fn simple_interface_is_used_if_there_is_no_other() {
    let fake = FakeRegistry::new(simple).await;
    let registrar = registrar(&fake).ttl(Duration::from_secs(30));
    let mut registered = registrar.register(&instance()).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(10));
    registrar.renew(&instance(), &mut registered.lease).await.unwrap();
    registrar.deregister(&instance(), registered.lease).await.unwrap();

    let requests: Vec<_> = fake.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!(requests.len(), 3);
    for (request, weight, ttl) in
        [(&requests[0], "7", "30000"), (&requests[1], "7", "30000"), (&requests[2], "0", "1000")]
    {
        assert_eq!(request.target, "/registry");
        assert_eq!(request.header("x-farcall-server"), Some("tcp@10.0.0.1:7001"));
        assert_eq!(request.header("x-farcall-service"), Some("S"));
        assert_eq!(request.header("x-farcall-zone"), Some("z1"));
        assert_eq!(request.header("x-farcall-version"), Some("2.0"));
        assert_eq!(request.header("x-farcall-weight"), Some(weight));
        assert_eq!(request.header("x-farcall-ttl-ms"), Some(ttl));
        assert_eq!(request.body, "");
    }
}

#[tokio::test]
async fn registrar_follows_a_change_of_the_interface() {
    let fake = FakeRegistry::new(simple).await;
    let registrar = registrar(&fake);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    fake.set_script(full);
    assert_eq!(registrar.renew(&instance(), &mut lease).await.unwrap(), Renewal::Unknown);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    assert!(matches!(registrar.renew(&instance(), &mut lease).await, Ok(Renewal::Renewed(_))));
}

#[tokio::test]
async fn heartbeat_is_the_setting_the_response_or_a_third_of_the_ttl() {
    for (answered, set, expected) in [
        (REGISTRATION, None, 10_000),
        (REGISTRATION, Some(Duration::from_secs(3)), 3_000),
        (r#"{"ttl_ms":30000}"#, None, 10_000),
        ("{}", None, 240_000),
        (r#"{"heartbeat_ms":0}"#, None, 0),
    ] {
        let fake = FakeRegistry::new(move |_| json(answered)).await;
        let mut registrar = registrar(&fake);
        if let Some(set) = set {
            registrar = registrar.heartbeat(set);
        }
        let registered = registrar.register(&instance()).await.unwrap();
        assert_eq!(registered.heartbeat.as_millis(), expected, "{answered}");
    }
}

#[tokio::test]
async fn ttl_is_the_registrys_unless_one_is_set() {
    let fake = FakeRegistry::new(|_| json("{}")).await;
    let ttl_ms = |request: &Request| serde_json::from_str::<Value>(&request.body).unwrap()["ttl_ms"].clone();
    let limited = registrar(&fake).ttl(Duration::from_secs(30));
    limited.register(&instance()).await.unwrap();
    let registered = registrar(&fake).register(&instance()).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(240));
    assert_eq!(fake.requests().iter().map(ttl_ms).collect::<Vec<_>>(), [value!(30_000), Value::Null]);
}

#[tokio::test]
async fn other_responses_are_registration_errors() {
    for (reply, reason) in [
        (answer("200 OK", "content-type: text/html\r\n", "<title>Sign in</title>"), "the answer is HTML"),
        (json(""), "the answer is empty"),
        (json(r#"{"heartbeat_ms":"#), "the answer ends early"),
        (json("[]"), "not what was asked for"),
        (Reply::Hold(Vec::new()), "no answer within"),
        (Reply::Reset, "the answer broke off"),
        (answer("302 Found", "location: http://example.invalid/\r\n", ""), "which is not followed"),
        (answer("403 Forbidden", "", r#"{"error":"not yours"}"#), "answered 403 Forbidden: not yours"),
        (not_found(), "answered 404 Not Found"),
    ] {
        let timeout = if matches!(reply, Reply::Hold(_)) { SHORT_TIMEOUT } else { PATIENCE };
        let fake = FakeRegistry::new(move |_| reply.clone()).await;
        let registrar = HttpRegistrar::new(&fake.url()).unwrap().timeout(timeout);
        let error = registrar.register(&instance()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(&fake.address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn invalid_instances_are_not_sent() {
    let fake = FakeRegistry::new(full).await;
    let registrar = registrar(&fake);
    let mut bad = instance();
    bad.addr = "tcp@0.0.0.0:7001".parse().unwrap();
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("it cannot be dialed"));
    let mut bad = instance();
    bad.id = "..".to_owned();
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("`..`"));
    let mut bad = instance();
    bad.zone = Some("z\r\nx-farcall-weight: 9".to_owned());
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("zone"));
    let short = HttpRegistrar::new(&fake.url()).unwrap().ttl(Duration::from_millis(1));
    assert!(short.register(&instance()).await.unwrap_err().to_string().contains("ttl_ms 1"));
    assert!(fake.requests().is_empty());
}

#[test]
fn invalid_settings_are_refused_at_once() {
    let error = HttpRegistrar::new("registry:7100").unwrap_err();
    assert!(matches!(error, SettingsError::Url { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:7100/registry"), "{error}");
    let registrar = HttpRegistrar::new("https://registry").unwrap();
    assert!(matches!(registrar.extra_roots(b"not PEM").unwrap_err(), SettingsError::Roots(_)));
}
