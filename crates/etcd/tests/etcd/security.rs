//! Users and passwords, TLS, certificates of clients.

use std::time::Duration;

use farcall_discovery::Registrar;
use farcall_etcd::{EtcdOptions, EtcdRegistrar};
use farcall_test_support::pki::{Authority, Certificate};
use serde_json::json;
use tempfile::TempDir;

use crate::proxy::{Lie, Mode, Proxy};
use crate::server::EtcdServer;
use crate::support::{Follower, Kept, base64, config, instance};

/// Starts an etcd that requires a password: `root` may do all, `reader` may read what is under the prefix.
async fn with_passwords() -> EtcdServer {
    let etcd = EtcdServer::start().await;
    let range =
        json!({"permType": "READ", "key": base64("/farcall/v1/"), "range_end": base64("/farcall/v10")});
    for (method, request) in [
        ("auth/user/add", json!({"name": "root", "password": "a secret"})),
        ("auth/role/add", json!({"name": "root"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/user/add", json!({"name": "reader", "password": "another"})),
        ("auth/role/add", json!({"name": "reading"})),
        ("auth/role/grant", json!({"name": "reading", "perm": range})),
        ("auth/user/grant", json!({"user": "reader", "role": "reading"})),
        ("auth/enable", json!({})),
    ] {
        etcd.ask(method, request).await;
    }
    etcd
}

async fn refusal(config: &EtcdOptions) -> String {
    let registrar = EtcdRegistrar::new(config).unwrap();
    registrar.register(&instance("Arith", 7001)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn user_with_its_password_registers_and_finds() {
    let etcd = with_passwords().await;
    let mut follower = Follower::new(&config(&etcd.url()).user("reader", "another"), "Arith");
    follower.until_ports(&[]).await;
    let kept = Kept::new(&config(&etcd.url()).user("root", "a secret"), instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    kept.stop().await;
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn token_that_etcd_lost_is_requested_again() {
    let mut etcd = with_passwords().await;
    let config = config(&etcd.url()).user("root", "a secret");
    let mut follower = Follower::new(&config, "Arith");
    let registrar = EtcdRegistrar::new(&config).unwrap();
    let mut instance = instance("Arith", 7001);
    instance.ttl_ms = Some(3_600_000);
    let mut lease = registrar.register(&instance).await.unwrap().lease;
    follower.until_ports(&[7001]).await;
    // etcd keeps its tokens in memory.
    etcd.kill();
    etcd.start_again().await;
    let renewed = registrar.renew(&instance, &mut lease).await.unwrap();
    assert!(matches!(renewed, farcall_discovery::Renewal::Renewed(_)), "{renewed:?}");
    registrar.deregister(&instance, lease).await.unwrap();
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn password_is_sent_when_etcd_begins_to_require_it() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url()).user("root", "a secret");
    let mut follower = Follower::new(&config, "Arith");
    // etcd requires no password yet.
    let registrar = EtcdRegistrar::new(&config.clone().ttl(Duration::from_secs(3600))).unwrap();
    registrar.register(&instance("Arith", 7001)).await.unwrap();
    follower.until_ports(&[7001]).await;
    for (method, request) in [
        ("auth/user/add", json!({"name": "root", "password": "a secret"})),
        ("auth/role/add", json!({"name": "root"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/enable", json!({})),
    ] {
        etcd.ask(method, request).await;
    }
    registrar.register(&instance("Arith", 7002)).await.unwrap();
    follower.until_ports(&[7001, 7002]).await;
}

#[tokio::test]
async fn missing_permission_is_reported() {
    let etcd = with_passwords().await;
    for (config, expected) in [
        (config(&etcd.url()).user("root", "wrong"), "the user or the password is wrong"),
        (config(&etcd.url()).user("unknown", "a secret"), "the user or the password is wrong"),
        (config(&etcd.url()), "it wants a user and a password"),
        (config(&etcd.url()).user("reader", "another"), "permission denied"),
    ] {
        let error = refusal(&config).await;
        assert!(error.contains(expected) && error.contains("etcd says `etcdserver: "), "{error}");
        assert!(error.starts_with(&etcd.url()), "{error}");
        assert!(!error.contains("a secret") && !error.contains("another"), "{error}");
    }
    let mut follower = Follower::new(&config(&etcd.url()).user("root", "wrong"), "Arith");
    follower.until_failing("the user or the password is wrong").await;
    let mut follower =
        Follower::new(&config(&etcd.url()).prefix("/elsewhere").user("reader", "another"), "Arith");
    follower.until_failing("permission denied").await;
}

#[tokio::test]
async fn lost_permission_is_reported_and_keeps_the_last_list() {
    let etcd = with_passwords().await;
    let root = config(&etcd.url()).user("root", "a secret");
    let kept = Kept::new(&root, instance("Arith", 7001));
    let mut follower = Follower::new(&config(&etcd.url()).user("reader", "another"), "Arith");
    follower.until_ports(&[7001]).await;
    let token = etcd.ask("auth/authenticate", json!({"name": "root", "password": "a secret"})).await;
    let token = token["token"].as_str().unwrap();
    etcd.ask_as(Some(token), "auth/user/revoke", json!({"name": "reader", "role": "reading"})).await;
    // The check of the silent watch finds it.
    follower.until_failing("permission denied").await;
    assert_eq!(follower.ports(), [7001]);
    etcd.ask_as(Some(token), "auth/user/grant", json!({"user": "reader", "role": "reading"})).await;
    follower.until_ports(&[7001]).await;
    kept.stop().await;
}

/// Certificates of a test, as files for etcd.
struct Certificates {
    files: TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let authority = Authority::new("etcd");
        let files = tempfile::tempdir().unwrap();
        // Without key usages: the gateway in etcd uses the server's certificate as a client, too.
        let Certificate { chain, key } = authority.issue(&["127.0.0.1"]);
        for (name, text) in [("root", &authority.certificate), ("chain", &chain), ("key", &key)] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        Self { files, authority }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn etcd_over_tls_is_trusted_by_its_root_only() {
    let certificates = Certificates::new();
    let (chain, key) = (certificates.file("chain"), certificates.file("key"));
    let etcd = EtcdServer::start_with("https", &["--cert-file", &chain, "--key-file", &key]).await;
    let trusting = config(&etcd.url()).extra_roots(certificates.authority.certificate.as_str());
    let mut follower = Follower::new(&trusting, "Arith");
    let kept = Kept::new(&trusting, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    kept.stop().await;
    follower.until_ports(&[]).await;

    let error = refusal(&config(&etcd.url())).await;
    assert!(error.contains("certificate") && error.contains("UnknownIssuer"), "{error}");
    let plain = config(&etcd.url().replace("https", "http"));
    let error = refusal(&plain).await;
    assert!(error.starts_with("http://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn client_certificate_is_shown_to_an_etcd_that_requires_it() {
    let certificates = Certificates::new();
    let (chain, key, root) =
        (certificates.file("chain"), certificates.file("key"), certificates.file("root"));
    let etcd = EtcdServer::start_with(
        "https",
        &["--cert-file", &chain, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &root],
    )
    .await;
    let without = config(&etcd.url()).extra_roots(certificates.authority.certificate.as_str());
    let Certificate { chain, key } = certificates.authority.issue(&["127.0.0.1"]);
    let with = without.clone().client_certificate(chain, key);
    let mut follower = Follower::new(&with, "Arith");
    let kept = Kept::new(&with, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    kept.stop().await;

    let error = refusal(&without).await;
    assert!(error.contains("certificate") || error.contains("BadCertificate"), "{error}");
}

#[tokio::test]
async fn token_that_no_header_can_carry_is_no_answer_of_etcd() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let body = r#"{"token":"hush\r\nX-Other: 1"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    proxy.set(Mode::Lie(Lie::Complete(answer)));
    let mut follower = Follower::new(&config(&proxy.url()).user("me", "a secret"), "Arith");
    let reason =
        follower.until_failing("its token has a line break at position 5").await.failing.unwrap().reason;
    assert!(!reason.contains("hush"), "{reason}");
}
