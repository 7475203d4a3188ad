//! The note that calls have no spans; in its own process, since it is made once, and the log level is the process's.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::io;
use std::sync::{Arc, Mutex};

use farcall_server::Server;
use tracing::level_filters::LevelFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn program_that_logs_at_info_is_told_once_that_calls_have_no_spans() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).with_writer(move || writer.clone());
    subscriber.init();
    for _ in 0..2 {
        let server = Server::builder().build().unwrap();
        server.serve_until(std::future::ready(())).await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        text.matches("RUST_LOG=info,farcall::client=debug,farcall::server=debug").count(),
        1,
        "{text}"
    );
}
