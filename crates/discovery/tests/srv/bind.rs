//! [`Bind`]: a separate BIND with one zone, `test`, for one test.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use farcall_test_support::loopback::free_port;
use farcall_test_support::wait::until;
use tempfile::TempDir;

/// A name server that reads its zone again when it changes, without a restart.
pub(crate) struct Bind {
    dir: TempDir,
    port: u16,
    running: Option<Child>,
    serial: u32,
    started: SystemTime,
    /// The lines of the zone, by their names.
    records: BTreeMap<String, Vec<String>>,
}

impl Bind {
    /// Starts one whose zone has the address of `host`, 10.0.0.1.
    pub(crate) async fn start() -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().unwrap(),
            port: 0,
            running: None,
            serial: 0,
            started: SystemTime::now(),
            records: BTreeMap::from([("host".to_owned(), vec!["A 10.0.0.1".to_owned()])]),
        };
        server.write_zone();
        // Another program may take the port between its choice and its use.
        for _ in 0..10 {
            server.port = free_port();
            if server.run().await {
                return server;
            }
        }
        panic!("named does not start");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Sets the SRV records of a name.
    pub(crate) fn set_srv(&mut self, name: &str, records: &[String]) {
        self.set(name, records.iter().map(|record| format!("SRV {record}")).collect());
    }

    /// Sets the records of a name; without one, the name is gone.
    pub(crate) fn set(&mut self, name: &str, records: Vec<String>) {
        self.records.insert(name.to_owned(), records);
        self.write_zone();
        if let Some(child) = &self.running {
            let hangup = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
            assert!(hangup.unwrap().success());
        }
    }

    /// Starts it again after [`Bind::stop`], with the same port and the zone as it is now.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.run().await, "named does not start again at {}", self.address());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn write_zone(&mut self) {
        self.serial += 1;
        let mut zone = format!(
            "$TTL 1\n@ IN SOA ns.test. root.test. {} 1 1 1 1\n@ IN NS ns.test.\nns IN A 127.0.0.1\n",
            self.serial
        );
        for (name, records) in &self.records {
            for record in records {
                writeln!(zone, "{name} IN {record}").unwrap();
            }
        }
        let written = self.dir.path().join("written");
        fs::write(&written, zone).unwrap();
        // It reads a file again whose time is later than that of the last one, in whole seconds.
        let time = self.started + Duration::from_secs(self.serial.into());
        File::options().write(true).open(&written).unwrap().set_modified(time).unwrap();
        fs::rename(written, self.dir.path().join("zone")).unwrap();
    }

    /// Starts the process. Returns `false` if it ends at once.
    async fn run(&mut self) -> bool {
        let (config, dir) = (self.dir.path().join("config"), self.dir.path().display());
        fs::write(
            &config,
            format!(
                "options {{ directory \"{dir}\"; listen-on port {} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
                 pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no; }};\n\
                 controls {{ }};\nzone \"test\" {{ type primary; file \"zone\"; }};\n",
                self.port
            ),
        )
        .unwrap();
        let program = if Path::new("/usr/sbin/named").exists() { "/usr/sbin/named" } else { "named" };
        let mut child = Command::new(program)
            .args(["-f", "-n", "1", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("named, of BIND, is needed; `./test` installs it");
        let address = self.address();
        let mut ended = false;
        until("named answers", || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        })
        .await;
        self.running = Some(child);
        !ended
    }
}

/// Kills the process, also if a test fails.
impl Drop for Bind {
    fn drop(&mut self) {
        self.stop();
    }
}
