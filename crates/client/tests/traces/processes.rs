//! The logs of two processes, which share a trace id.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use farcall_client::Channel;
use farcall_server::Server;
use tracing::{Level, info};

use super::support::Nothing;

/// Set for the process that serves.
const SERVES: &str = "FARCALL_TEST_SERVES";

/// The child process of the test below; it passes at once if it is run on its own.
#[test]
fn child_process_that_serves() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false);
    subscriber.with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder()
            .method("T.log", async |_: Nothing| info!("the handler has a word"))
            .listen("tcp@127.0.0.1:0")
            .bind()
            .await
            .unwrap();
        println!("\nserves at {}", server.addresses().next().unwrap());
        // Until the parent closes its end.
        let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        tokio::select! {
            () = server.serve() => {}
            closed = closed => { closed.unwrap().unwrap(); }
        }
    });
}

/// The log lines of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the trace id in the log line that contains `text`.
fn trace_of(log: &str, text: &str) -> String {
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    let (_, rest) = line.split_once("trace_id=").unwrap_or_else(|| panic!("no trace: {line}"));
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[test]
fn log_lines_of_two_processes_share_a_trace_id() {
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["processes::child_process_that_serves", "--exact", "--nocapture"])
        .env(SERVES, "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("serves at ").map(str::to_owned)).unwrap();

    let log = Log::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .with_writer(writer)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE);
    tracing::subscriber::with_default(subscriber.finish(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            Channel::to(&*address).unwrap().call::<()>("T.log", &()).await.unwrap();
        });
    });
    drop(other.stdin.take());
    let mut theirs = String::new();
    other.stderr.take().unwrap().read_to_string(&mut theirs).unwrap();
    // Read to the end, or the child could not write its last lines.
    lines.for_each(drop);
    assert!(other.wait().unwrap().success());

    let ours = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let trace = trace_of(&theirs, "the handler has a word");
    assert_eq!(trace.len(), 32, "{theirs}");
    assert_eq!(trace, trace_of(&ours, "close"), "{ours}{theirs}");
}
