//! The demo as a child process, which ends with the test that started it.

#![allow(dead_code, reason = "each test program uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest wait for something that must happen; only a failing test waits for it.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The exit code and the output of a process.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A process of the demo. Dropping it kills it.
pub(crate) struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

impl Demo {
    /// Starts it.
    pub(crate) fn start<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::writing_to(Stdio::piped(), arguments)
    }

    /// Starts it with this stdout.
    pub(crate) fn writing_to<A: AsRef<std::ffi::OsStr>>(
        stdout: Stdio,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: Some(stderr),
            child,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
        Self::start(arguments).ended()
    }

    /// Starts a server, and reads its addresses, those of HTTP last.
    pub(crate) fn server(arguments: &[&str]) -> (Self, Vec<String>) {
        let mut server = Self::start([&["server"], arguments].concat());
        let addresses =
            arguments.iter().filter(|argument| ["--listen", "--http", "--https"].contains(*argument));
        let addresses = addresses
            .map(|_| {
                let line = server.line();
                line.strip_prefix("listening ").unwrap_or_else(|| panic!("{line:?}")).to_owned()
            })
            .collect();
        (server, addresses)
    }

    /// The next line of stdout; empty at its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self::signal(self.pid(), signal);
    }

    /// Closes its stdin.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        let mut status = None;
        // Its output fits into the pipes, so that it can end before it is read.
        let ended = within(SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            self.child.kill().unwrap();
        }
        let mut stdout = String::new();
        if let Some(mut pipe) = self.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        let stderr = self.stderr.take().unwrap().join().unwrap();
        assert!(ended, "it did not end\n{stdout}\n{stderr}");
        Ended { code: status.as_ref().and_then(ExitStatus::code), stdout, stderr }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts the exit code; shows the output if it differs.
    #[track_caller]
    pub(crate) fn assert_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Returns `true` if a line of stdout contains these words in sequence.
    pub(crate) fn has_line(&self, words: &[&str]) -> bool {
        self.stdout.lines().any(|line| {
            let found: Vec<_> = line.split_whitespace().collect();
            found.windows(words.len()).any(|window| window == words)
        })
    }

    #[track_caller]
    pub(crate) fn assert_line(&self, words: &[&str]) {
        assert!(self.has_line(words), "no line with {words:?} in\n{}", self.stdout);
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Returns `true` if a process runs; a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which is in parentheses and may contain some.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, Some(Some('Z' | 'X')))
}

/// Waits until a condition holds; returns `false` if it did not in time.
pub(crate) fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Returns an HTTP server's answer to a GET, head and body.
pub(crate) fn get(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
