//! tinyproxy before a client, which asks it by `CONNECT`.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

use farcall_client::{Channel, RetryPolicy};
use farcall_transport::{Dialer, Resolve, Resolving};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::program::{Program, text};
use crate::support::{PATIENCE, World, channel_with};

/// A proxy for one user.
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
async fn every_way_of_the_network_leads_through_it() {
    let proxy = tinyproxy().await;
    for scheme in ["tcp", "tls", "http", "connect", "ws", "https", "wss"] {
        // A server of TLS without HTTP is one port's.
        let world = World::new(if scheme == "tls" { "one_port_tls" } else { scheme }).await;
        let channel = through(&format!("http://me:s3cret@{}", proxy.place), &world.address());
        assert_eq!(echo(&channel).await.as_deref(), Ok("hello"), "{scheme}\n{}", proxy.log());
        let carried = format!("CONNECT {} ", world.place);
        assert!(proxy.log().contains(&carried), "{scheme}\n{}", proxy.log());
    }
}

#[tokio::test]
async fn its_refusals_are_told_without_the_password() {
    let proxy = tinyproxy().await;
    let world = World::new("http").await;
    let error =
        echo(&through(&format!("http://me:wr0ng@{}", proxy.place), &world.address())).await.unwrap_err();
    let told = format!("through the proxy http://{}: it answered 40", proxy.place);
    assert!(error.contains(&told) && !error.contains("wr0ng"), "{error}");

    let error = echo(&through(&format!("http://{}", proxy.place), &world.address())).await.unwrap_err();
    assert!(error.contains("it answered 407 Proxy Authentication Required"), "{error}");

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = echo(&through(&format!("http://me:s3cret@{}", proxy.place), &format!("http@{gone}")))
        .await
        .unwrap_err();
    assert!(error.contains("it answered 50"), "{error}");
}

/// The environment variable with the address that the test's child process calls.
const CALL: &str = "FARCALL_TEST_CALL";

/// A name for this machine that it asks a proxy for: `localhost` and its addresses it never does.
const NAME: &str = "calc.internal";

/// Knows that name.
struct ThisMachine;

impl Resolve for ThisMachine {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        assert_eq!(host, NAME);
        Box::pin(async move { Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]) })
    }
}

/// Makes a child process call the server, in this environment.
async fn called_with(address: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "forward_proxy::what_the_environment_says_holds", "--nocapture"]);
    for name in
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "REQUEST_METHOD"]
    {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env(CALL, address);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_environment_says_holds() {
    if let Ok(address) = std::env::var(CALL) {
        // This is the process of its own.
        let channel = channel_with(&address, Dialer::default().resolver(ThisMachine));
        return assert_eq!(echo(&channel).await.as_deref(), Ok("hello"));
    }
    let proxy = tinyproxy().await;
    let world = World::new("http").await;
    let address = world.address().replace("127.0.0.1", NAME);
    // Whoever asks the proxy is refused, and so is known to have asked it.
    let refusing = format!("http://me:wr0ng@{}", proxy.place);
    for asked in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let output = called_with(&address, &[(asked, &refusing), ("NO_PROXY", "example.com")]).await;
        let told = format!("through the proxy http://{}: it answered 40", proxy.place);
        assert!(!output.status.success() && text(&output).contains(&told), "{asked}: {}", text(&output));
    }
    for direct in [NAME, "example.com, .internal", "*"] {
        let output = called_with(&address, &[("http_proxy", &refusing), ("NO_PROXY", direct)]).await;
        assert!(output.status.success(), "{direct}: {}", text(&output));
    }
    // What is for others, and what is on this machine, is reached directly.
    let output = called_with(&address, &[("https_proxy", &refusing)]).await;
    assert!(output.status.success(), "{}", text(&output));
    let output = called_with(&world.address(), &[("http_proxy", &refusing)]).await;
    assert!(output.status.success(), "{}", text(&output));
}
