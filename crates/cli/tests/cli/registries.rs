//! `registry`, and targets in registries, with farcall's own and with etcd.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use farcall_registry::server::RegistryOptions;
use farcall_test_support::loopback::free_address;
use registry_server::{Config, Server};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Files, arith, background, command, farcall, until};

/// A registry in this process; returns its URL.
pub(crate) fn registry() -> String {
    background(|| async {
        let config = Config::new(RegistryOptions::default()).listen("127.0.0.1:0");
        let server = Server::bind(config).await.unwrap();
        let url = server.urls().next().unwrap().clone();
        tokio::spawn(server.serve(std::future::pending()));
        format!("{}/registry", url.trim_end_matches('/'))
    })
}

/// An etcd, until it is dropped.
struct Etcd {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let (clients, peers) = (free_address().to_string(), format!("http://{}", free_address()));
        let (url, data) = (format!("http://{clients}"), tempfile::tempdir().unwrap());
        let process = Command::new("etcd")
            .args(["--name", "one", "--initial-cluster", &format!("one={peers}"), "--data-dir"])
            .arg(data.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is needed; `./test` installs it");
        let etcd = Self { process, url: format!("etcd://{clients}"), _data: data };
        until("etcd answers", || farcall(&["registry", "ls", &etcd.url]).code == 0);
        etcd
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command under way, which is interrupted in the end.
pub(crate) struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    #[track_caller]
    pub(crate) fn assert_line(&mut self, start: &str) {
        let line = self.lines.next().unwrap().unwrap();
        assert!(line.starts_with(start), "`{line}` instead of `{start}`");
    }

    /// Interrupts it, and asserts that it ends well.
    pub(crate) fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn operate(target: &str) {
    let server = arith();
    let address = format!("tcp@{server}");
    let registered = Running::start(&["registry", "register", target, "Arith", &server, "--weight", "7"]);
    until("it is registered", || farcall(&["registry", "ls", target, "Arith"]).out.contains(&address));
    let row = |state: &str, weight: u32| {
        let ran = farcall(&["registry", "ls", target, "Arith"]);
        ran.assert_out(&format!(
            "ID ADDRESS STATE WEIGHT ZONE VERSION {address} {address} {state} {weight} - -"
        ));
    };
    row("up", 7);
    let services = farcall(&["registry", "ls", target, "-o", "ndjson"]);
    assert!(services.out.contains(r#""name":"Arith","instances":1,"up":1,"draining":0"#), "{services:#?}");

    let services = farcall(&["ls", target, "-o", "ndjson"]);
    assert!(services.code == 0 && services.out.contains(r#""name":"Arith","instances":1"#), "{services:#?}");

    farcall(&["call", target, "Arith.multiply", "a:=6", "b:=7"]).assert_out("42");
    farcall(&["ls", &format!("{target}#Arith"), "-o", "ndjson"]);
    let files = Files::new();
    std::fs::write(files.path("contexts.toml"), format!("[reg]\ntarget = \"{target}\"\n")).unwrap();
    let mut by_context = command(&["ls", "@reg#Arith"]);
    let listed = by_context.env("FARCALL_CONTEXTS", files.path("contexts.toml")).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("Arith.multiply"), "{listed:?}");
    assert_eq!(farcall(&["ls", target, "Arith"]).code, 0);

    let mut watch = Running::start(&["registry", "watch", target, "Arith"]);
    watch.assert_line(&format!("new      {address} up weight 7"));
    farcall(&["registry", "weight", target, "Arith", &address, "9"]).assert_out("");
    watch.assert_line(&format!("changed  {address} up weight 9"));
    farcall(&["registry", "drain", target, "Arith", &address]).assert_out("");
    watch.assert_line(&format!("changed  {address} "));
    let drained = farcall(&["call", target, "Arith.multiply", "a:=6", "b:=7"]);
    drained.assert_error(3, &["code: unavailable execution: not_sent", "phase: pick"]);
    farcall(&["registry", "undrain", target, "Arith", &address]).assert_out("");
    watch.assert_line(&format!("changed  {address} up weight 9"));
    row("up", 9);
    farcall(&["registry", "drain", target, "Arith", "other"]).assert_error(1, &["other"]);
    registered.interrupt();
    watch.assert_line(&format!("gone     {address}"));
    watch.interrupt();
}

#[test]
fn operators_work_with_the_registry() {
    operate(&registry());
}

#[test]
fn operators_work_with_etcd() {
    operate(&Etcd::start().url);
}

#[test]
fn instance_is_removed() {
    let (target, address) = (registry(), format!("tcp@{}", arith()));
    let registered = Running::start(&["registry", "register", &target, "Arith", &address]);
    until("it is registered", || farcall(&["registry", "ls", &target, "Arith"]).out.contains(&address));
    // Its heartbeats come every few seconds, so that it is gone for a while. On a busy machine one may
    // come before it is looked at: once more, then.
    until("it is gone", || {
        let ran = farcall(&["registry", "rm", &target, "Arith", &address]);
        assert_eq!(ran.err, "", "{ran:#?}");
        let ran = farcall(&["registry", "ls", &target, "Arith"]);
        assert_eq!(ran.code, 0, "{ran:#?}");
        !ran.out.contains(&address)
    });
    registered.interrupt();
}

#[test]
fn registry_that_is_not_there_is_told() {
    farcall(&["registry", "ls", "http://127.0.0.1:1/registry"]).assert_error(3, &["cannot connect"]);
    farcall(&["registry", "ls", "127.0.0.1:1"]).assert_error(2, &["the target is no registry"]);
    farcall(&["ls", "http://127.0.0.1:1/registry"]).assert_error(3, &["cannot connect"]);
    farcall(&["ping", "http://127.0.0.1:1/registry"]).assert_error(2, &["which one?", "--service"]);
}

#[test]
fn doctor_tells_versions_that_differ() {
    let target = registry();
    let servers = [arith(), arith()];
    let [one, other] = ["1.0", "1.1"].map(|version| {
        let server = &servers[usize::from(version == "1.1")];
        Running::start(&["registry", "register", &target, "Arith", server, "--instance-version", version])
    });
    let is_there = |server: &String| farcall(&["registry", "ls", &target, "Arith"]).out.contains(server);
    until("both are registered", || servers.iter().all(is_there));
    let ran = farcall(&["doctor", &target, "--service", "Arith"]);
    let versions = format!("1.0: tcp@{}; 1.1: tcp@{}", servers[0], servers[1]);
    assert!(ran.code == 0 && ran.out.contains(&versions), "{ran:#?}");
    assert!(ran.out.contains("do: finish the deployment, if none is under way"), "{ran:#?}");
    assert!(ran.out.contains("all describe the same methods and types"), "{ran:#?}");
    one.interrupt();
    other.interrupt();
}
