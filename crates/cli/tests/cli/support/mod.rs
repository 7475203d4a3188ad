//! Servers in this process, and the command as a process.

pub(crate) mod feed;
pub(crate) mod tmux;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use farcall::http::{HttpOptions, ServeOptions};
use farcall::server::{ServerBuilder, ServerHandle};
use farcall::transport::{Listener, TlsServer};
use farcall::{Address, Bytes, Server, Status};
use farcall_test_support::pki::Certificate;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Integer arithmetic.
#[farcall::service]
pub(crate) trait Arith {
    /// Multiplies two numbers.
    #[rpc(idempotent)]
    async fn multiply(&self, a: i64, b: i64) -> i64;
    /// Divides; fails on zero.
    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError>;
    /// Returns the data.
    async fn echo(&self, data: Bytes, note: Option<String>) -> (Bytes, Option<String>);
    /// Waits without end.
    async fn hang(&self);
    /// Refuses every call.
    async fn refuse(&self) -> Result<(), Status>;
}

/// The error of a division.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{dividend} cannot be divided by 0\u{1b}[2J")]
pub(crate) struct DivideError {
    dividend: i64,
}

struct Calculator;

impl Arith for Calculator {
    async fn multiply(&self, a: i64, b: i64) -> i64 {
        a.wrapping_mul(b)
    }

    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError> {
        a.checked_div(b).ok_or(DivideError { dividend: a })
    }

    async fn echo(&self, data: Bytes, note: Option<String>) -> (Bytes, Option<String>) {
        (data, note)
    }

    async fn hang(&self) {
        std::future::pending::<()>().await;
    }

    async fn refuse(&self) -> Result<(), Status> {
        Err(Status::refused(farcall::Code::PermissionDenied, "not you"))
    }
}

/// Describes a server with `Arith`.
pub(crate) fn server() -> ServerBuilder {
    Server::builder().service(Calculator.into_service())
}

/// Runs `make` in a runtime on another thread, for as long as the test runs; returns what it returns.
pub(crate) fn background<T, F>(make: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            sender.send(make().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv_timeout(Duration::from_secs(60)).unwrap()
}

/// Serves at an address, and returns the one that it got.
pub(crate) fn serve(builder: ServerBuilder, address: &str) -> Address {
    serve_observed(builder, address).0
}

/// Serves at an address; returns the one that it got, and the server's handle.
pub(crate) fn serve_observed(builder: ServerBuilder, address: &str) -> (Address, ServerHandle) {
    let address = Address::parse(address).unwrap();
    background(|| async {
        let server = builder.listen(address).bind().await.unwrap();
        let address = server.addresses().next().unwrap().clone();
        let handle = server.handle();
        tokio::spawn(server.serve());
        (address, handle)
    })
}

/// Serves `Arith` over TCP, and returns `host:port`.
pub(crate) fn arith() -> String {
    let address = serve(server(), "tcp@127.0.0.1:0");
    address.to_string().replace("tcp@", "")
}

/// Serves `Arith` over HTTP, inside TLS with `tls`; returns the port.
pub(crate) fn serve_http(tls: Option<TlsServer>) -> u16 {
    background(|| async {
        let server = server().build().unwrap();
        let handle = server.handle();
        let router = farcall::http::router(handle.clone(), HttpOptions::default());
        let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
        let port = listener.address().port().unwrap();
        let mut options = ServeOptions::default();
        if let Some(tls) = tls {
            options = options.tls(tls);
        }
        tokio::spawn(farcall::http::serve_with(
            listener,
            router,
            options,
            async move { handle.ended().await },
        ));
        tokio::spawn(server.serve());
        port
    })
}

/// A folder with a certificate for 127.0.0.1.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let made = Certificate::self_signed(&["127.0.0.1", "localhost"]);
        std::fs::write(files.path("cert.pem"), made.chain).unwrap();
        std::fs::write(files.path("key.pem"), made.key).unwrap();
        files
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn tls(&self) -> TlsServer {
        TlsServer::builder().certificate_files(self.path("cert.pem"), self.path("key.pem")).build().unwrap()
    }
}

/// The output of a run of the command, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Asserts that the command was successful and printed this, whatever the spaces.
    #[track_caller]
    pub(crate) fn assert_out(&self, expected: &str) {
        assert_eq!((self.code, words(&self.out)), (0, words(expected)), "{self:#?}");
    }

    /// Asserts the exit code, and that the error output has each of these parts, whatever the spaces.
    #[track_caller]
    pub(crate) fn assert_error(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        let err = words(&self.err);
        for part in parts {
            assert!(err.contains(&words(part)), "no `{part}` in {self:#?}");
        }
    }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The command, with an environment that says nothing about it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farcall"));
    command.args(arguments).env_remove("FARCALL_CONTEXTS").env("XDG_CONFIG_HOME", "/nonexistent");
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// Runs the command to its end.
pub(crate) fn farcall(arguments: &[&str]) -> Ran {
    Ran::of(&command(arguments).stdin(Stdio::null()).output().unwrap())
}

/// Runs the command with this standard input.
pub(crate) fn farcall_with(input: &str, arguments: &[&str]) -> Ran {
    let mut command = command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Ran::of(&child.wait_with_output().unwrap())
}
