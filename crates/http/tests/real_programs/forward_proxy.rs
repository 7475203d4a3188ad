//! tinyproxy between a client and a server: the client opens tunnels with `CONNECT`.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

use farcall_client::{Channel, RetryPolicy};
use farcall_test_support::loopback::refusing_address;
use farcall_transport::{Dialer, Resolve, Resolving};
use serde_json::json;
use tokio::time::timeout;

use crate::program::{Program, text};
use crate::support::{PATIENCE, World, channel_with};

/// Starts a proxy that accepts the user `me` with the password `s3cret`.
async fn tinyproxy() -> Program {
    Program::start("tinyproxy", |place, dir| {
        let (_, port) = place.rsplit_once(':').unwrap();
        let config =
            format!("Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nBasicAuth me s3cret\n");
        fs::write(dir.join("tinyproxy.conf"), config).unwrap();
        ["-d", "-c", dir.join("tinyproxy.conf").to_str().unwrap()].map(str::to_owned).to_vec()
    })
    .await
}

fn through(proxy: &str, address: &str) -> Channel {
    channel_with(address, Dialer::default().proxy(proxy).unwrap())
}

async fn echo(channel: &Channel) -> Result<String, String> {
    let args = json!({"text": "hello"});
    let call = channel.call::<String>("Echo.echo", &args).retry(RetryPolicy::fail_fast());
    timeout(PATIENCE, call).await.unwrap().map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_network_scheme_dials_through_tinyproxy() {
    let proxy = tinyproxy().await;
    for scheme in ["tcp", "tls", "http", "connect", "ws", "https", "wss"] {
        // `tls@` needs a server that serves HTTP on the same port.
        let world = World::new(if scheme == "tls" { "one_port_tls" } else { scheme }).await;
        let channel = through(&format!("http://me:s3cret@{}", proxy.place), &world.address());
        assert_eq!(echo(&channel).await.as_deref(), Ok("hello"), "{scheme}\n{}", proxy.log());
        let carried = format!("CONNECT {} ", world.place);
        assert!(proxy.log().contains(&carried), "{scheme}\n{}", proxy.log());
    }
}

#[tokio::test]
async fn proxy_refusals_are_reported_without_the_password() {
    let proxy = tinyproxy().await;
    let world = World::new("http").await;
    let error =
        echo(&through(&format!("http://me:wr0ng@{}", proxy.place), &world.address())).await.unwrap_err();
    let expected = format!("through the proxy http://{}: it answered 40", proxy.place);
    assert!(error.contains(&expected) && !error.contains("wr0ng"), "{error}");

    let error = echo(&through(&format!("http://{}", proxy.place), &world.address())).await.unwrap_err();
    assert!(error.contains("it answered 407 Proxy Authentication Required"), "{error}");

    let refusing = refusing_address();
    let error = echo(&through(&format!("http://me:s3cret@{}", proxy.place), &format!("http@{refusing}")))
        .await
        .unwrap_err();
    assert!(error.contains("it answered 50"), "{error}");
}

/// The environment variable with the address that the test's child process calls.
const CALL: &str = "FARCALL_TEST_CALL";

/// A name for this machine that is dialed through a proxy; `localhost` and loopback addresses never are.
const NAME: &str = "calc.internal";

/// Resolves [`NAME`] to this machine.
struct ThisMachine;

impl Resolve for ThisMachine {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        assert_eq!(host, NAME);
        Box::pin(async move { Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]) })
    }
}

/// Runs this test in a child process with these variables, to call the server.
async fn called_with(address: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "forward_proxy::proxy_environment_variables_are_respected", "--nocapture"]);
    for name in
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "REQUEST_METHOD"]
    {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env(CALL, address);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_environment_variables_are_respected() {
    if let Ok(address) = std::env::var(CALL) {
        // This is the child process.
        let channel = channel_with(&address, Dialer::default().resolver(ThisMachine));
        return assert_eq!(echo(&channel).await.as_deref(), Ok("hello"));
    }
    let proxy = tinyproxy().await;
    let world = World::new("http").await;
    let address = world.address().replace("127.0.0.1", NAME);
    // The proxy refuses these credentials, which shows that a call went through it.
    let refusing = format!("http://me:wr0ng@{}", proxy.place);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let output = called_with(&address, &[(variable, &refusing), ("NO_PROXY", "example.com")]).await;
        let expected = format!("through the proxy http://{}: it answered 40", proxy.place);
        assert!(
            !output.status.success() && text(&output).contains(&expected),
            "{variable}: {}",
            text(&output)
        );
    }
    for direct in [NAME, "example.com, .internal", "*"] {
        let output = called_with(&address, &[("http_proxy", &refusing), ("NO_PROXY", direct)]).await;
        assert!(output.status.success(), "{direct}: {}", text(&output));
    }
    // Variables for other schemes do not apply, and loopback addresses are dialed directly.
    let output = called_with(&address, &[("https_proxy", &refusing)]).await;
    assert!(output.status.success(), "{}", text(&output));
    let output = called_with(&world.address(), &[("http_proxy", &refusing)]).await;
    assert!(output.status.success(), "{}", text(&output));
}
