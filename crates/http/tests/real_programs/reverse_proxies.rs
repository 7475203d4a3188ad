//! nginx and HAProxy in front of a server, configured as `docs/HTTP.md` shows.

use std::fs;
use std::time::Duration;

use farcall_client::{Channel, ConnectionOptions, RetryPolicy};
use farcall_protocol::{Code, KeepAlive};
use farcall_transport::{Dialer, TlsClient};
use serde_json::json;
use tokio::time::timeout;

use crate::authority::Authority;
use crate::document::block;
use crate::program::{Program, run, text};
use crate::support::{PATIENCE, S, World, no_args};

/// The time after which the proxies close a silent connection.
const IDLE: &str = "4s";
/// The silence before farcall pings: no shorter, because more than 10 pings in 5 s are refused.
const PING: Duration = Duration::from_millis(700);
/// The duration of a call without traffic.
const SILENT_MS: u64 = 6_000;

/// Starts nginx with the documented configuration; only the two addresses are replaced.
async fn nginx(world: &World, tls: Option<&Authority>) -> Program {
    Program::start("nginx", |place, dir| {
        let mut listen = format!("listen {place};\n    proxy_read_timeout {IDLE};");
        if let Some(authority) = tls {
            let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
            listen = listen.replacen(';', " ssl;", 1);
            listen += &format!("\n    ssl_certificate {certificate};\n    ssl_certificate_key {key};");
        }
        let block = block("nginx", &[("listen 80;", &listen), ("127.0.0.1:7080", &world.place)]);
        // The surrounding configuration of a distribution's nginx.conf, with this test's paths.
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", dir.display()))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{block}}}\n",
            dir.display()
        );
        fs::write(dir.join("nginx.conf"), config).unwrap();
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        ["-e", "stderr", "-p", &path(""), "-c", &path("nginx.conf")].map(str::to_owned).to_vec()
    })
    .await
}

/// Starts HAProxy with the documented configuration and shorter times.
async fn haproxy(world: &World) -> Program {
    Program::start("haproxy", |place, dir| {
        let replaced = [
            ("bind :80", &*format!("bind {place}")),
            ("127.0.0.1:7080", &world.place),
            ("timeout tunnel 1h", &format!("timeout tunnel {IDLE}")),
            ("inter 1s", "inter 50ms"),
        ];
        fs::write(dir.join("haproxy.cfg"), block("haproxy", &replaced)).unwrap();
        ["-db", "-f", dir.join("haproxy.cfg").to_str().unwrap()].map(str::to_owned).to_vec()
    })
    .await
}

fn channel(address: &str, idle: Option<Duration>, tls: Option<TlsClient>) -> Channel {
    let mut options = ConnectionOptions::default();
    if let Some(idle) = idle {
        options = options.keep_alive(KeepAlive::default().idle(idle));
    }
    if let Some(tls) = tls {
        options = options.dialer(Dialer::default().tls(tls));
    }
    Channel::builder().to(address).options(options).build().unwrap()
}

/// Asserts that small and large calls pass the proxy, and that a dropped call stops its handler.
async fn assert_calls_pass(world: &World, channel: &Channel, what: &str) {
    let large = "x".repeat(3_000_000);
    for text in ["small", &large] {
        let echoed = channel.call::<String>("Echo.echo", &json!({ "text": text }));
        let echoed = timeout(PATIENCE, echoed).await.unwrap();
        assert!(echoed.as_deref() == Ok(text), "{what}: {:?}", echoed.map(|text| text.len()));
    }
    let call = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    drop(call);
    world.wait_for_running(0).await;
    assert_eq!(world.handle.connections(), 1, "{what}");
}

/// Asserts that pings keep a call alive for longer than the proxy keeps a silent connection open, and
/// that the call fails without them.
async fn assert_pings_keep_a_call_alive(world: &World, address: &str) {
    let call = |idle| {
        let channel = channel(address, Some(idle), None);
        let args = json!({"ms": SILENT_MS});
        let call = channel.call::<String>("Probe.sleep", &args).retry(RetryPolicy::fail_fast()).into_future();
        async move { (timeout(PATIENCE, call).await.unwrap(), channel) }
    };
    let ((kept, _), (lost, _)) = tokio::join!(call(PING), call(60 * S));
    assert_eq!(kept.as_deref(), Ok("awake"), "{address}");
    assert_eq!(lost.unwrap_err().code(), Code::Unavailable, "{address}: the proxy has no such limit");
    world.wait_for_running(0).await;
}

/// Returns the error of a call.
async fn failure(address: &str) -> String {
    let call =
        channel(address, None, None).call::<()>("Echo.echo", &no_args()).retry(RetryPolicy::fail_fast());
    timeout(PATIENCE, call).await.unwrap().unwrap_err().to_string()
}

async fn assert_nginx_passes(scheme: &'static str) {
    let world = World::new(scheme).await;
    let nginx = nginx(&world, None).await;
    let address = format!("{scheme}@{}", nginx.place);
    let channel = channel(&address, None, None);
    assert_calls_pass(&world, &channel, &format!("{scheme}\n{}", nginx.log())).await;
    drop(channel);
    assert_pings_keep_a_call_alive(&world, &address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_as_documented_passes_an_upgrade() {
    assert_nginx_passes("http").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_as_documented_passes_a_websocket() {
    assert_nginx_passes("ws").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_terminates_tls_for_a_plaintext_server() {
    let authority = Authority::new();
    for (scheme, inside) in [("https", "http"), ("wss", "ws")] {
        let world = World::new(inside).await;
        let nginx = nginx(&world, Some(&authority)).await;
        let channel = channel(&format!("{scheme}@{}", nginx.place), None, Some(authority.client()));
        assert_calls_pass(&world, &channel, scheme).await;
    }
}

#[tokio::test]
async fn refusals_of_reverse_proxies_are_reported() {
    let world = World::new("http").await;
    let nginx = nginx(&world, None).await;
    let refused = failure(&format!("connect@{}", nginx.place)).await;
    assert!(refused.contains("it answered 40"), "{refused}");
    let haproxy = haproxy(&world).await;
    let refused = failure(&format!("connect@{}", haproxy.place)).await;
    assert!(refused.contains("it answered 40"), "{refused}");
    world.handle.stop();
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
    let refused = failure(&format!("http@{}", nginx.place)).await;
    assert!(refused.contains("it answered 502 Bad Gateway"), "{refused}");
}

async fn assert_haproxy_passes(scheme: &'static str) {
    let world = World::new(scheme).await;
    let haproxy = haproxy(&world).await;
    let address = format!("{scheme}@{}", haproxy.place);
    let channel = channel(&address, None, None);
    assert_calls_pass(&world, &channel, &format!("{scheme}\n{}", haproxy.log())).await;
    drop(channel);
    assert_pings_keep_a_call_alive(&world, &address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_as_documented_passes_an_upgrade() {
    assert_haproxy_passes("http").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_as_documented_passes_a_websocket() {
    assert_haproxy_passes("ws").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_as_documented_stops_routing_to_a_draining_server() {
    let world = World::new("http").await;
    let haproxy = haproxy(&world).await;
    let url = format!("http://{}/_farcall_", haproxy.place);
    let status = async || {
        let arguments =
            ["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        text(&run("curl", &arguments, b"").await)
    };
    assert_eq!(status().await, "426", "the server answers");
    let channel = channel(&format!("http@{}", haproxy.place), None, None);
    let call = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    world.handle.stop();
    let unavailable = async { while status().await != "503" {} };
    timeout(PATIENCE, unavailable).await.unwrap();
    assert!(world.get("/healthz").await.starts_with("HTTP/1.1 200 "), "the server itself still answers");
    drop(call);
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
}
