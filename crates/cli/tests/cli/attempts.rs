//! `--retry`, `--hedge` and `--metadata`, and the lines of `-v` about further attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use farcall::{Code, Context, Server, Status};

use crate::support::{farcall, serve};

/// Methods whose first call goes wrong.
#[farcall::service]
trait Test {
    /// Refuses the first call, and returns the number of those before.
    async fn flaky(&self) -> Result<u32, Status>;
    /// Never answers the first call, and returns the number of those before.
    async fn slow(&self) -> u32;
    /// Returns two values of the metadata.
    async fn meta(&self, cx: &Context) -> [String; 2];
}

/// The number of calls of two servers.
struct Counting(Arc<AtomicU32>);

impl Test for Counting {
    async fn flaky(&self) -> Result<u32, Status> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Status::refused(Code::Unavailable, "not yet")),
            number => Ok(number),
        }
    }

    async fn slow(&self) -> u32 {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            std::future::pending::<()>().await;
        }
        number
    }

    async fn meta(&self, cx: &Context) -> [String; 2] {
        ["tenant", "trace"].map(|key| cx.metadata(key).unwrap_or("none").to_owned())
    }
}

/// Starts two servers that count their calls together; returns both addresses with a comma.
fn two_servers() -> String {
    let calls = Arc::new(AtomicU32::new(0));
    let [one, other] = [(); 2].map(|()| {
        let service = Counting(Arc::clone(&calls)).into_service();
        serve(Server::builder().service(service), "tcp@127.0.0.1:0")
    });
    format!("{one},{other}")
}

#[test]
fn retries_are_told_with_the_endpoint_and_the_reason() {
    let target = two_servers();
    let ran = farcall(&["call", &target, "Test.flaky", "--retry", "2", "-v"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "1\n"), "{ran:#?}");
    let retry = ran.err.lines().find(|line| line.starts_with("retry")).unwrap();
    assert!(
        retry.contains("2  tcp@127.0.0.1:") && retry.ends_with(": not yet (unavailable, refused)"),
        "{retry}"
    );
    let ran = farcall(&["call", &two_servers(), "Test.flaky", "--retry", "1", "-v"]);
    ran.assert_error(18, &["not yet", "execution: refused"]);
    assert!(!ran.err.contains("retry "), "{ran:#?}");
}

#[test]
fn hedged_requests_are_told_with_the_endpoint_that_was_slow() {
    let ran = farcall(&["call", &two_servers(), "Test.slow", "--hedge", "20ms", "--idempotent", "-v"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "1\n"), "{ran:#?}");
    let hedge = ran.err.lines().find(|line| line.starts_with("hedge")).unwrap();
    assert!(hedge.contains("2  tcp@127.0.0.1:") && hedge.ends_with(": no answer within 20.0 ms"), "{hedge}");
    let ran = farcall(&["call", &two_servers(), "Test.slow", "--hedge", "20ms", "--timeout", "300ms", "-v"]);
    ran.assert_error(12, &["deadline_exceeded"]);
    assert!(!ran.err.contains("hedge "), "a call that may not be repeated is not hedged: {ran:#?}");
}

#[test]
fn metadata_reaches_the_method() {
    let target = two_servers();
    let call = ["call", &target, "Test.meta", "-o", "ndjson"];
    let ran = farcall(&[&call[..], &["--metadata", "tenant=blue", "--metadata", "trace=a=b"]].concat());
    ran.assert_out(r#"["blue","a=b"]"#);
    farcall(&[&call[..], &["--metadata", "tenant"]].concat()).assert_error(2, &["write KEY=VALUE"]);
}
