//! `demo server` over every way that leads to it: one suite of calls, cancels, deadlines, large bodies and
//! broken connections. And what curl gets from it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use demo::services::{ArithClient, ArithError, EchoClient};
use farcall::client::{ConnectionOptions, RetryPolicy};
use farcall::protocol::Execution;
use farcall::transport::TlsClient;
use farcall::{Bytes, CallError, Channel, Code};
use farcall_test_support::loopback::own_address;
use farcall_test_support::pki::Certificate;
use futures::future::join_all;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use self::support::{Demo, SOON, within};

/// A server of the demo that is reached by one scheme.
struct World {
    server: Demo,
    address: String,
    files: Files,
}

/// Certificates, and a place for a socket.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self::certified_for("127.0.0.1")
    }

    fn certified_for(host: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let made = Certificate::self_signed(&[host, "localhost"]);
        std::fs::write(files.path("cert.pem"), made.chain).unwrap();
        std::fs::write(files.path("key.pem"), made.key).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

impl World {
    fn new(scheme: &str) -> Self {
        let place = if scheme == "unix" { "socket" } else { "127.0.0.1:0" };
        Self::at(scheme, place, Files::new(), &[])
    }

    /// Starts it at a given place, with further options.
    fn at(scheme: &str, place: &str, files: Files, further: &[&str]) -> Self {
        let (option, place) = match scheme {
            "unix" => ("--listen", format!("unix@{}", files.text(place))),
            "tcp" | "tls" => ("--listen", format!("{scheme}@{place}")),
            "https" | "wss" => ("--https", place.to_owned()),
            _ => ("--http", place.to_owned()),
        };
        let (certificate, key) = (files.text("cert.pem"), files.text("key.pem"));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        let (server, addresses) = Demo::server(&[&[option, &place][..], &tls, further].concat());
        let (_, place) = addresses[0].split_once(['@', ':']).unwrap();
        let address = format!("{scheme}@{}", place.trim_start_matches("//"));
        Self { server, address, files }
    }

    fn channel(&self) -> Channel {
        let tls = TlsClient::builder().roots_file(self.files.path("cert.pem")).build().unwrap();
        Channel::builder().to(&self.address).options(ConnectionOptions::default().tls(tls)).build().unwrap()
    }

    fn echo(&self) -> EchoClient {
        EchoClient::new(self.channel())
    }

    /// Returns the address without its scheme.
    fn place(&self) -> &str {
        self.address.split_once('@').unwrap().1
    }
}

async fn each_call_gets_its_own_answer(scheme: &str) {
    let world = World::new(scheme);
    let arith = ArithClient::new(world.channel());
    let answers = join_all((0..200).map(|n| arith.multiply(n, 7).into_future())).await;
    assert!(answers.into_iter().eq((0..200).map(|n| Ok(n * 7))));
    let error = arith.divide(1, 0).await;
    assert_eq!(error, Err(CallError::Application(ArithError::DivisionByZero)));
}

async fn dropped_call_frees_its_slot(scheme: &str) {
    let place = if scheme == "unix" { "socket" } else { "127.0.0.1:0" };
    let world = World::at(scheme, place, Files::new(), &["--max-in-flight", "1"]);
    let echo = world.echo();
    echo.sleep(0).await.unwrap();
    for _ in 0..3 {
        let call = echo.sleep(600_000).start();
        sleep(Duration::from_millis(20)).await;
        drop(call);
        assert_eq!(timeout(SOON, echo.sleep(1)).await.unwrap(), Ok(1));
    }
}

async fn deadline_ends_a_call(scheme: &str) {
    let world = World::new(scheme);
    let echo = world.echo();
    echo.sleep(0).await.unwrap();
    let call = echo.sleep(600_000).timeout(Duration::from_millis(200));
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(echo.sleep(1).await, Ok(1));
}

async fn large_bodies_round_trip(scheme: &str) {
    let world = World::new(scheme);
    let echo = world.echo();
    let data: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    let calls = (0..4).map(|_| echo.echo(data.clone()).into_future());
    for echoed in timeout(SOON, join_all(calls)).await.unwrap() {
        assert!(echoed.unwrap() == data, "other bytes came back");
    }
    // Larger than a frame of the server.
    let error = echo.echo(vec![0; 5 << 20].into()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::NotSent));
}

async fn killed_server_ends_its_calls_and_its_successor_is_found(scheme: &str) {
    // Its successor listens at the same port.
    let own = own_address();
    let place = if scheme == "unix" { "socket" } else { &own };
    let world = World::at(scheme, place, Files::certified_for(own.split(':').next().unwrap()), &[]);
    let echo = world.echo();
    let who = echo.whoami().await.unwrap();
    assert_eq!(who.pid, world.server.pid() as u32);
    let call = echo.sleep(600_000).retry(RetryPolicy::fail_fast()).start();
    echo.sleep(0).await.unwrap(); // the call before it is under way
    world.server.signal(Signal::KILL);
    let error = timeout(SOON, call).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");

    let place = if scheme == "unix" { "socket".to_owned() } else { world.place().to_owned() };
    let World { server, files, .. } = world;
    server.ended();
    let successor = World::at(scheme, &place, files, &[]);
    // The first tries may be made before it listens.
    let finding = async {
        loop {
            match echo.whoami().await {
                Ok(who) => break who,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    assert_eq!(timeout(SOON, finding).await.unwrap().pid, successor.server.pid() as u32);
}

async fn stop_lets_calls_finish(scheme: &str) {
    let world = World::new(scheme);
    let echo = world.echo();
    echo.sleep(0).await.unwrap();
    let call = echo.sleep(300).start();
    echo.sleep(0).await.unwrap(); // the call before it is under way
    world.server.signal(Signal::TERM);
    assert_eq!(call.await, Ok(300));
    world.server.ended().assert_code(0);
}

/// Each fact over each scheme.
macro_rules! suite {
    ($facts:tt over $($scheme:ident)*) => { $(suite!(@one $scheme $facts);)* };
    (@one $scheme:ident [$($fact:ident)*]) => {
        mod $scheme {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $fact() {
                    super::$fact(stringify!($scheme)).await;
                }
            )*
        }
    };
}

suite! {
    [
        each_call_gets_its_own_answer
        dropped_call_frees_its_slot
        deadline_ends_a_call
        large_bodies_round_trip
        killed_server_ends_its_calls_and_its_successor_is_found
        stop_lets_calls_finish
    ]
    over tcp unix tls http connect ws https wss
}

/// curl, without whatever this machine says of proxies.
fn curl(arguments: &[&str]) -> Output {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60"])
        .args(arguments)
        .output();
    output.expect("curl is needed; `./test` installs it")
}

/// The status and the body that curl gets.
fn answer(arguments: &[&str]) -> (String, String) {
    let output = curl(&[&["--write-out", "%{stderr}%{http_code}"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap())
}

const PRODUCT: [&str; 2] = ["-d", "{\"a\": 6, \"b\": 7}"];

fn with<'a>(options: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [options, &[url]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_can_fetch_pages_and_make_calls() {
    let files = Files::new();
    let (certificate, key) = (files.text("cert.pem"), files.text("key.pem"));
    let (_server, urls) = Demo::server(&[
        "--http",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ]);
    let ca = ["--cacert", certificate.as_str()];
    for (url, options) in [(&urls[0], &[][..]), (&urls[1], &ca)] {
        let page = |path: &str| answer(&with(options, &format!("{url}{path}")));
        assert_eq!(page("/healthz"), ("200".to_owned(), "ok\n".to_owned()));
        assert_eq!(page("/readyz"), ("200".to_owned(), "ready\n".to_owned()));
        let product = [options, &PRODUCT].concat();
        let product = answer(&with(&product, &format!("{url}/rpc/Arith.multiply")));
        assert_eq!((product.0.as_str(), product.1.trim_end()), ("200", "42"));
        let (status, services) = page("/rpc");
        assert!(status == "200" && services.contains("Arith"), "{status} {services}");
        let (status, document) = page("/rpc/openapi.json");
        assert!(status == "200" && document.contains("Arith.multiply"), "{status} {document}");
        let (status, metrics) = page("/metrics");
        let calls = "farcall_server_calls_total{service=\"Arith\",method=\"multiply\"}";
        assert!(status == "200" && metrics.contains(calls), "{status} {metrics}");
        let (status, debug) = page("/debug/farcall");
        assert!(
            status == "200" && debug.to_ascii_lowercase().starts_with("<!doctype html>"),
            "{status} {debug}"
        );
        let (status, sentence) = page("/_farcall_");
        assert!(status == "426" && sentence.contains("dial it as http@host:port"), "{status} {sentence}");
    }
    assert!(
        urls[0].starts_with("http://127.0.0.1:") && urls[1].starts_with("https://127.0.0.1:"),
        "{urls:?}"
    );

    // Refused: clients that do not trust the certificate, and plain text.
    assert_eq!(curl(&[&format!("{}/healthz", urls[1])]).status.code(), Some(60));
    let plain = urls[1].replace("https://", "http://");
    assert!(!curl(&[&format!("{plain}/healthz")]).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_server_is_healthy_but_not_ready() {
    let (server, addresses) = Demo::server(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let echo = EchoClient::new(Channel::to(addresses[0].as_str()).unwrap());
    echo.sleep(0).await.unwrap();
    let call = echo.sleep(600_000).start();
    echo.sleep(0).await.unwrap(); // the call before it is under way
    let status = |path: &str| answer(&[&format!("{}{path}", addresses[1])]).0;
    assert_eq!((status("/readyz"), status("/healthz")), ("200".to_owned(), "200".to_owned()));
    server.signal(Signal::TERM);
    assert!(within(SOON, || status("/readyz") == "503"), "it is still ready");
    assert_eq!(status("/healthz"), "200");
    drop(call);
    server.ended().assert_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_serves_calls_and_pages() {
    let files = Files::new();
    let (certificate, key) = (files.text("cert.pem"), files.text("key.pem"));
    let (_server, urls) = Demo::server(&[
        "--http",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--one-port",
    ]);
    let tls = TlsClient::builder().roots_file(&certificate).build().unwrap();
    for (url, scheme) in urls.iter().zip(["tcp", "tls"]) {
        let address = format!("{scheme}@{}", url.split_once("://").unwrap().1);
        let options = ConnectionOptions::default().tls(tls.clone());
        let channel = Channel::builder().to(&address).options(options).build().unwrap();
        assert_eq!(ArithClient::new(channel).multiply(6, 7).await, Ok(42), "{address}");
        assert_eq!(answer(&["--cacert", &certificate, &format!("{url}/healthz")]).0, "200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_or_certificate_is_required_if_configured() {
    let files = Files::new();
    std::fs::write(files.path("tokens"), "web q8mXe01rHsZ9\n").unwrap();
    let (certificate, key, tokens) = (files.text("cert.pem"), files.text("key.pem"), files.text("tokens"));
    let (_server, addresses) =
        Demo::server(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--token-file", &tokens]);
    let call = |token: Option<&str>| {
        let options =
            token.map_or_else(ConnectionOptions::default, |token| ConnectionOptions::default().token(token));
        let channel = Channel::builder().to(&addresses[0]).options(options).build().unwrap();
        ArithClient::new(channel).multiply(6, 7).into_future()
    };
    assert_eq!(call(None).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(call(Some("q8mXe01rHsZ9")).await, Ok(42));
    let url = format!("{}/rpc/Arith.multiply", addresses[1]);
    assert_eq!(answer(&with(&PRODUCT, &url)).0, "401");
    let bearer = ["-H", "Authorization: Bearer q8mXe01rHsZ9"];
    assert_eq!(answer(&with(&[PRODUCT, bearer].concat(), &url)).0, "200");

    // The server's certificate is self-signed, and serves as the client's certificate as well.
    let (_server, addresses) = Demo::server(&[
        "--listen",
        "tls@127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--tls-client-ca",
        &certificate,
    ]);
    let known = TlsClient::builder().roots_file(&certificate).certificate_files(&certificate, &key);
    for (tls, expected) in [(TlsClient::builder().roots_file(&certificate), false), (known, true)] {
        let options = ConnectionOptions::default().tls(tls.build().unwrap());
        let channel = Channel::builder().to(&addresses[0]).options(options).build().unwrap();
        let called = ArithClient::new(channel).multiply(6, 7).retry(RetryPolicy::fail_fast()).await;
        assert_eq!(called.is_ok(), expected, "{called:?}");
    }
    let url = format!("{}/healthz", addresses[1]);
    assert!(!curl(&["--cacert", &certificate, &url]).status.success());
    let shown = ["--cacert", &certificate, "--cert", &certificate, "--key", &key];
    assert_eq!(answer(&with(&shown, &url)).0, "200");
}

#[test]
fn unreadable_certificate_is_a_one_line_failure() {
    let nowhere = Path::new("/nowhere/cert.pem").to_str().unwrap();
    let ended = Demo::run(["server", "--https", "127.0.0.1:0", "--tls-cert", nowhere, "--tls-key", nowhere]);
    let ended = ended.assert_code(1);
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(nowhere), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let ended = Demo::run(["server", "--listen", "tls@127.0.0.1:0"]).assert_code(1);
    assert!(ended.stderr.contains("it needs a certificate"), "{}", ended.stderr);
}
