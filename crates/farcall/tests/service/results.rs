//! The results of methods, as callers receive them.

use std::fmt;

use farcall::protocol::{Codec, Execution};
use farcall::{CallError, Code};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::running::channel_to;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DivideError {
    Zero { dividend: i64 },
}

impl fmt::Display for DivideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Zero { dividend } = self;
        write!(f, "{dividend} divided by zero")
    }
}

#[farcall::service]
trait Arith {
    #[rpc(idempotent)]
    async fn multiply(&self, a: i64, b: i64) -> i64;
    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError>;
    async fn rest(&self) -> Result<(), DivideError>;
    async fn nothing(&self);
    async fn square(&self, mut n: i64) -> Result<i64, DivideError> {
        let one = self.divide(n, n).await?;
        n = self.multiply(n, n).await;
        Ok(n * one)
    }
    #[rpc(one_way)]
    async fn log(&self, line: String);
}

struct Calculator {
    lines: mpsc::UnboundedSender<String>,
}

impl Arith for Calculator {
    async fn multiply(&self, a: i64, b: i64) -> i64 {
        // The server must handle a call that is not ready at once.
        tokio::task::yield_now().await;
        a * b
    }

    async fn divide(&self, a: i64, b: i64) -> Result<i64, DivideError> {
        a.checked_div(b).ok_or(DivideError::Zero { dividend: a })
    }

    async fn rest(&self) -> Result<(), DivideError> {
        Ok(())
    }

    async fn nothing(&self) {}

    async fn log(&self, line: String) {
        self.lines.send(line).unwrap();
    }
}

async fn arith(codec: Codec) -> (ArithClient, mpsc::UnboundedReceiver<String>) {
    let (lines, logged) = mpsc::unbounded_channel();
    (ArithClient::new(channel_to(Calculator { lines }.into_service(), codec).await), logged)
}

#[tokio::test]
async fn plain_result_round_trips_in_both_codecs() {
    for codec in Codec::built_in() {
        let (arith, _) = arith(codec).await;
        assert_eq!(arith.multiply(6, 7).await.unwrap(), 42);
    }
}

#[tokio::test]
async fn fallible_result_round_trips_typed_in_both_codecs() {
    for codec in Codec::built_in() {
        let (arith, _) = arith(codec).await;
        assert_eq!(arith.divide(42, 6).await.unwrap(), 7);
        let error = arith.divide(42, 0).await.unwrap_err();
        assert_eq!(error, CallError::Application(DivideError::Zero { dividend: 42 }));
        assert_eq!((error.code(), error.execution()), (Code::Application, Execution::Done));
        assert_eq!(error.to_string(), "42 divided by zero");
    }
}

#[tokio::test]
async fn untyped_caller_gets_the_text_of_an_application_error() {
    let (arith, _) = arith(Codec::default()).await;
    let arguments = serde_json::json!({"a": 1, "b": 0});
    let error = arith.channel().call::<i64>("Arith.divide", &arguments).await.unwrap_err();
    assert_eq!(error.rpc().unwrap().message(), "1 divided by zero");
}

#[tokio::test]
async fn unit_result_round_trips_in_both_codecs() {
    for codec in Codec::built_in() {
        let (arith, _) = arith(codec).await;
        let () = arith.nothing().await.unwrap();
        let () = arith.rest().await.unwrap();
    }
}

#[tokio::test]
async fn one_way_call_reaches_its_handler() {
    for codec in Codec::built_in() {
        let (arith, mut logged) = arith(codec).await;
        arith.log("first".to_owned()).await.unwrap();
        // The future owns its data, so it can outlive its client.
        let second = arith.clone().log("second".to_owned());
        tokio::spawn(second).await.unwrap().unwrap();
        assert_eq!(logged.recv().await.unwrap(), "first");
        assert_eq!(logged.recv().await.unwrap(), "second");
    }
}

#[tokio::test]
async fn provided_trait_method_needs_no_implementation() {
    let (arith, _) = arith(Codec::default()).await;
    assert_eq!(arith.square(7).await.unwrap(), 49);
    let error = arith.square(0).await.unwrap_err();
    assert_eq!(error.application(), Some(&DivideError::Zero { dividend: 0 }));
}

#[tokio::test]
async fn calls_of_one_client_run_concurrently() {
    let (arith, _) = arith(Codec::default()).await;
    let calls: Vec<_> = (0..100).map(|n| arith.multiply(n, 2).start()).collect();
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), 2 * n);
    }
}
