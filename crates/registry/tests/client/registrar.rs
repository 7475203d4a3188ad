//! Registering, in either interface.

use std::time::Duration;

use farcall_discovery::{Instance, Registrar, Renewal};
use farcall_registry::client::{HttpRegistrar, SettingsError};
use serde_json::{Value, json as value};

use crate::told::{IMPATIENCE, PATIENCE, Reply, Request, Told, answer, json, not_found};

const INSTANCE: &str = "/v1/services/S/instances/tcp@10.0.0.1:7001";
const AGREED: &str = r#"{"epoch":"e","rev":1,"ttl_ms":30000,"heartbeat_ms":10000}"#;

fn instance() -> Instance {
    let mut instance = Instance::new("S", "tcp@10.0.0.1:7001".parse().unwrap());
    instance.weight = 7;
    instance.zone = Some("z1".to_owned());
    instance.version = Some("2.0".to_owned());
    instance.metadata.insert("rack".to_owned(), "4".to_owned());
    instance
}

fn registrar(told: &Told) -> HttpRegistrar {
    HttpRegistrar::new(&told.url()).unwrap().timeout(PATIENCE)
}

fn full(request: &Request) -> Reply {
    if request.is("PUT", INSTANCE) || request.is("POST", &format!("{INSTANCE}/heartbeat")) {
        json(AGREED)
    } else if request.is("DELETE", INSTANCE) {
        answer("204 No Content", "", "")
    } else {
        not_found()
    }
}

fn simple(request: &Request) -> Reply {
    if request.is("POST", "/registry") { json(AGREED) } else { not_found() }
}

#[tokio::test]
async fn an_instance_is_put_renewed_and_deleted() {
    let told = Told::new(full).await;
    let registrar = registrar(&told).ttl(Duration::from_secs(30)).token("write-me");
    let mut registered = registrar.register(&instance()).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(10));
    let renewed = registrar.renew(&instance(), &mut registered.lease).await.unwrap();
    assert_eq!(renewed, Renewal::Renewed(Duration::from_secs(10)));
    registrar.deregister(&instance(), registered.lease).await.unwrap();

    let requests = told.requests();
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
async fn a_heartbeat_that_nobody_knows_is_told() {
    let told = Told::new(full).await;
    let registrar = registrar(&told);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    told.tell(|_| answer("404 Not Found", "", r#"{"error":"no such instance"}"#));
    assert_eq!(registrar.renew(&instance(), &mut lease).await.unwrap(), Renewal::Unknown);
    // It is away: that is what was wanted.
    registrar.deregister(&instance(), lease).await.unwrap();
}

#[tokio::test]
async fn a_registry_with_the_simple_interface_is_spoken_to_so() {
    let told = Told::new(simple).await;
    let registrar = registrar(&told);
    let mut registered = registrar.register(&instance()).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(10));
    registrar.renew(&instance(), &mut registered.lease).await.unwrap();
    registrar.deregister(&instance(), registered.lease).await.unwrap();

    let requests: Vec<_> = told.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!(requests.len(), 3);
    for (request, weight, ttl) in
        [(&requests[0], "7", None), (&requests[1], "7", None), (&requests[2], "0", Some("1000"))]
    {
        assert_eq!(request.target, "/registry");
        assert_eq!(request.header("x-farcall-server"), Some("tcp@10.0.0.1:7001"));
        assert_eq!(request.header("x-farcall-service"), Some("S"));
        assert_eq!(request.header("x-farcall-zone"), Some("z1"));
        assert_eq!(request.header("x-farcall-version"), Some("2.0"));
        assert_eq!(request.header("x-farcall-weight"), Some(weight));
        assert_eq!(request.header("x-farcall-ttl-ms"), ttl);
        assert_eq!(request.body, "");
    }
}

#[tokio::test]
async fn a_registry_that_changes_its_interface_is_followed() {
    let told = Told::new(simple).await;
    let registrar = registrar(&told);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    told.tell(full);
    assert_eq!(registrar.renew(&instance(), &mut lease).await.unwrap(), Renewal::Unknown);
    let mut lease = registrar.register(&instance()).await.unwrap().lease;
    assert!(matches!(registrar.renew(&instance(), &mut lease).await, Ok(Renewal::Renewed(_))));
}

#[tokio::test]
async fn the_heartbeat_is_what_is_set_or_said_or_follows_from_the_time_to_live() {
    for (answered, set, expected) in [
        (AGREED, None, 10_000),
        (AGREED, Some(Duration::from_secs(3)), 3_000),
        (r#"{"ttl_ms":30000}"#, None, 10_000),
        ("{}", None, 240_000),
        (r#"{"heartbeat_ms":0}"#, None, 0),
    ] {
        let told = Told::new(move |_| json(answered)).await;
        let mut registrar = registrar(&told);
        if let Some(set) = set {
            registrar = registrar.heartbeat(set);
        }
        let registered = registrar.register(&instance()).await.unwrap();
        assert_eq!(registered.heartbeat.as_millis(), expected, "{answered}");
    }
}

#[tokio::test]
async fn nothing_else_is_taken_for_a_registration() {
    for (reply, why) in [
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
        let told = Told::new(move |_| reply.clone()).await;
        let registrar = HttpRegistrar::new(&told.url()).unwrap().timeout(IMPATIENCE);
        let error = registrar.register(&instance()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains(&told.address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_registered_is_not_sent() {
    let told = Told::new(full).await;
    let registrar = registrar(&told);
    let mut bad = instance();
    bad.addr = "tcp@0.0.0.0:7001".parse().unwrap();
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("nobody can dial it"));
    let mut bad = instance();
    bad.id = "..".to_owned();
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("`..`"));
    let mut bad = instance();
    bad.zone = Some("z\r\nx-farcall-weight: 9".to_owned());
    assert!(registrar.register(&bad).await.unwrap_err().to_string().contains("zone"));
    let short = HttpRegistrar::new(&told.url()).unwrap().ttl(Duration::from_millis(1));
    assert!(short.register(&instance()).await.unwrap_err().to_string().contains("ttl_ms 1"));
    assert!(told.requests().is_empty());
}

#[test]
fn what_is_wrong_with_the_settings_is_said_at_once() {
    let error = HttpRegistrar::new("registry:7100").unwrap_err();
    assert!(matches!(error, SettingsError::Url { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:7100/registry"), "{error}");
    let registrar = HttpRegistrar::new("https://registry").unwrap();
    assert!(matches!(registrar.extra_roots(b"not PEM").unwrap_err(), SettingsError::Roots(_)));
}
