//! [`Program`], which runs in the foreground until it is dropped, and [`run`], for programs that exit.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::{MS, PATIENCE};

/// The number of attempts to choose a port: another program may take a free port before it is used.
const MAX_ATTEMPTS: usize = 5;

/// A program that listens. Dropping it kills it.
pub(crate) struct Program {
    /// The address that it listens on.
    pub(crate) place: String,
    child: Child,
    log: PathBuf,
    _dir: TempDir,
}

impl Program {
    /// Starts a program on a free port, and waits until it accepts connections. `configure` writes its
    /// configuration for that address into the directory, and returns its arguments.
    pub(crate) async fn start(name: &str, configure: impl Fn(&str, &Path) -> Vec<String>) -> Self {
        let mut log_text = String::new();
        for _ in 0..MAX_ATTEMPTS {
            // These programs cannot report a port that the system chose.
            let place = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let dir = tempfile::tempdir().unwrap();
            let arguments = configure(&place, dir.path());
            let log = dir.path().join("log");
            let file = File::create(&log).unwrap();
            let child = command(name)
                .args(arguments)
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .spawn()
                .unwrap();
            let mut program = Self { place, child, log, _dir: dir };
            if program.accepts().await {
                return program;
            }
            log_text = program.log();
        }
        panic!("{name} does not start:\n{log_text}");
    }

    /// Waits until the program accepts connections. Returns `false` if it has ended.
    async fn accepts(&mut self) -> bool {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(&self.place).await.is_ok() {
                return true;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not listen:\n{}", self.log());
            sleep(5 * MS).await;
        }
        false
    }

    /// Returns its output.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program with `input` as its stdin until it exits.
pub(crate) async fn run(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_vec();
    // The program may call a server in this process, so that the runtime must keep running.
    let running = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // A program that exits early does not read all input; its output shows why.
        let _ = child.stdin.take().unwrap().write_all(&input);
        child.wait_with_output().unwrap()
    });
    running.await.unwrap()
}

/// Returns stdout and stderr as one text.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Finds a program of the system, also in the `sbin` directories, which may be missing in `PATH`.
fn command(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    let mut programs = directories.map(|directory| directory.join(name));
    let program = programs.find(|program| program.is_file());
    Command::new(program.unwrap_or_else(|| panic!("{name} is needed; `./test` installs it")))
}
