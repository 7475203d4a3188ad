//! Starts the registry as a process, and sends requests to it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use farcall_test_support::loopback::own_address;
use farcall_test_support::wait::{PATIENCE, until};
use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Returns a command that runs the registry without this process's environment, except `PATH`.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-server"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A registry in a separate process, which is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    /// Starts it on a free port, with these further flags.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(&mut command(&[&["--listen", "127.0.0.1:0"], args].concat()))
    }

    /// Starts it at an address that stays free while it is dead, for a restart.
    pub(crate) fn start_restartable(args: &[&str]) -> Self {
        Self::spawn(&mut command(&[&["--listen", &own_address()], args].concat()))
    }

    /// Starts it again on the port of `url`.
    pub(crate) fn start_again(url: &str, args: &[&str]) -> Self {
        let address = url.rsplit_once('/').unwrap().1;
        Self::spawn(&mut command(&[&["--listen", address], args].concat()))
    }

    /// Runs the command, and waits until it prints its URL.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (log, mut pipe) = (Arc::clone(&stderr), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let mut running = Self { child, url: String::new(), stderr };
        let Some(url) = first.trim_end().strip_prefix("listening ") else {
            std::thread::sleep(Duration::from_millis(300));
            panic!("the first line was {first:?}; stderr: {}", running.stderr());
        };
        url.clone_into(&mut running.url);
        running
    }

    /// Returns the log.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until the log contains `part`.
    pub(crate) async fn wait_for_log(&self, part: &str) {
        until(&format!("{part:?} is logged"), || self.stderr().contains(part)).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the process to exit; panics if that takes longer than `limit`.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < limit, "it still runs after {limit:?}; stderr: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it like a service manager, and asserts that it exits with code 0.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait_for_exit(PATIENCE).code(), Some(0), "{}", self.stderr());
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.ask(Method::GET, path)
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        http().request(method, format!("{}{path}", self.url))
    }

    /// Registers through the simple interface.
    pub(crate) async fn register(&self, address: &str, service: &str) {
        let answer = self
            .ask(Method::POST, "/registry")
            .header("x-farcall-server", address)
            .header("x-farcall-service", service)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    /// Registers through the full interface; the id can be any text.
    pub(crate) async fn put(&self, service: &str, id: &str, instance: &Value) {
        let mut url = reqwest::Url::parse(&self.url).unwrap();
        url.path_segments_mut().unwrap().extend(["v1", "services", service, "instances", id]);
        let answer = http().put(url).json(instance).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Returns the addresses of a service in the simple interface.
    pub(crate) async fn addresses(&self, service: &str) -> Vec<String> {
        let answer = self.get(&format!("/registry?service={service}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// Returns the instances of a service in any state.
    pub(crate) async fn instances(&self, service: &str) -> Vec<Value> {
        let path = format!("/v1/services/{service}/instances?include=stale,last_seen");
        let mut answer: Value = self.get(&path).send().await.unwrap().json().await.unwrap();
        serde_json::from_value(answer["instances"].take()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a registry that must not start; returns its exit code and stderr.
pub(crate) fn fails(command: &mut Command) -> (i32, String) {
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the registry started");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stdout, "", "no URL is printed");
    (status.code().unwrap(), stderr)
}

/// Asserts that the registry exits with this code and one line on stderr that contains these parts.
pub(crate) fn assert_fails_with(command: &mut Command, code: i32, parts: &[&str]) {
    let (got, stderr) = fails(command);
    assert_eq!(got, code, "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
    assert!(stderr.starts_with("registry-server: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

/// Returns an HTTP client that shares no connections with others.
pub(crate) fn http() -> reqwest::Client {
    install_tls();
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
}

/// Installs the crypto provider that reqwest requires.
pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The browser support may have installed the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
