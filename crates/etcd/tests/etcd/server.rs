//! [`EtcdServer`]: a separate etcd process for one test, on free ports. Its data are removed with it.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farcall_test_support::wait::PATIENCE;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

pub(crate) struct EtcdServer {
    child: Child,
    data: TempDir,
    ports: Ports,
    scheme: &'static str,
    /// Those in addition to the ones that all have.
    arguments: Vec<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    peers: u16,
    metrics: u16,
}

impl EtcdServer {
    pub(crate) async fn start() -> Self {
        Self::start_with("http", &[]).await
    }

    /// Starts an etcd with further arguments, which clients reach by `http` or `https`.
    pub(crate) async fn start_with(scheme: &'static str, arguments: &[&str]) -> Self {
        Self::start_members(1, scheme, arguments).await.remove(0)
    }

    /// Starts a cluster of this many members.
    pub(crate) async fn start_cluster(members: usize) -> Vec<Self> {
        Self::start_members(members, "http", &[]).await
    }

    async fn start_members(members: usize, scheme: &'static str, arguments: &[&str]) -> Vec<Self> {
        // Another process may take a port between its choice and its use.
        for _ in 0..10 {
            let ports = Ports::free(members);
            let names = ports.iter().map(|ports| format!("{}={}", ports.name(), ports.peers_url()));
            let cluster = names.collect::<Vec<_>>().join(",");
            let mut servers: Vec<_> = ports
                .into_iter()
                .map(|ports| {
                    let data = tempfile::tempdir().unwrap();
                    let mut all = vec!["--initial-cluster".to_owned(), cluster.clone()];
                    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
                    Self { child: spawn(&data, ports, scheme, &all), data, ports, scheme, arguments: all }
                })
                .collect();
            let mut healthy = 0;
            for server in &mut servers {
                healthy += usize::from(server.is_soon_healthy().await);
            }
            if healthy == members {
                return servers;
            }
        }
        panic!(
            "etcd ended at once, ten times; run it with the same arguments to see the reason: {arguments:?}"
        );
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host_and_port())
    }

    pub(crate) fn host_and_port(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// Kills the process without notice, like a power cut.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`EtcdServer::kill`], with the same ports and data.
    pub(crate) async fn start_again(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.child = spawn(&self.data, self.ports, self.scheme, &self.arguments);
            if self.is_soon_healthy().await {
                return;
            }
        }
        panic!("etcd did not start again at {}", self.url());
    }

    /// Calls a method without the code under test; only over `http`.
    pub(crate) async fn ask(&self, method: &str, request: Value) -> Value {
        self.ask_as(None, method, request).await
    }

    /// Calls a method with a token.
    pub(crate) async fn ask_as(&self, token: Option<&str>, method: &str, request: Value) -> Value {
        let body = request.to_string();
        let authorization = token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
        let head = format!(
            "POST /v3/{method} HTTP/1.0\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = http(self.ports.clients, &head).await.unwrap();
        assert!(status.contains(" 200 "), "{method} of {body}: {status} {answer}");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{method}: {error}: {answer}"))
    }

    /// Waits until it is healthy. Returns `false` if it ended instead.
    async fn is_soon_healthy(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let health = http(self.ports.metrics, "GET /health HTTP/1.0\r\n\r\n");
            if let Ok(Ok((status, _))) = timeout(Duration::from_secs(5), health).await
                && status.contains(" 200 ")
            {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("etcd at {} was not healthy within {PATIENCE:?}", self.url());
    }
}

/// Kills the process, also if a test fails.
impl Drop for EtcdServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ports {
    /// Returns ports that are free now. They are below those that the system assigns to other
    /// connections, so that they are still free when a server is started again.
    fn free(servers: usize) -> Vec<Self> {
        let mut held = Vec::new();
        while held.len() < 3 * servers {
            let port = fastrand::u16(20_000..32_000);
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|listener| (listener, port)));
        }
        held.chunks(3).map(|of| Self { clients: of[0].1, peers: of[1].1, metrics: of[2].1 }).collect()
    }

    /// Returns a server's name among the members of its cluster.
    fn name(self) -> String {
        format!("member{}", self.peers)
    }

    fn peers_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peers)
    }
}

fn spawn(data: &TempDir, ports: Ports, scheme: &str, arguments: &[String]) -> Child {
    let clients = format!("{scheme}://127.0.0.1:{}", ports.clients);
    let peers = ports.peers_url();
    let metrics = format!("http://127.0.0.1:{}", ports.metrics);
    let mut command = Command::new("etcd");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
        command.env_remove(name);
    }
    command
        .args(["--name", &ports.name()])
        .arg("--data-dir")
        .arg(data.path())
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--listen-metrics-urls", &metrics])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "these tests need the program `etcd` (3.4 or later, Debian's etcd-server) in the PATH: {error}"
        )
    })
}

/// Returns the first line and the body of the answer to an HTTP/1.0 request. HTTP/1.0, because its answers are
/// never chunked.
async fn http(port: u16, request: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
