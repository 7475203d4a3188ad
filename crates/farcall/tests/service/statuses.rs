//! Methods that fail with a status, and handlers that pass the failure of a nested call on.

use std::time::Duration;

use farcall::protocol::{Codec, Execution};
use farcall::server::Service;
use farcall::{CallError, Code, MethodError, RpcError, Status};
use serde::{Deserialize, Serialize};

use crate::running::channel_to;

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("only {left} left")]
struct SoldOut {
    left: u32,
}

#[farcall::service]
trait Inventory {
    /// Never answers for the item `slow`.
    async fn reserve(&self, item: String, count: u32) -> Result<u32, SoldOut>;
    async fn release(&self, item: String) -> Result<(), Status>;
}

struct Stock;

impl Inventory for Stock {
    async fn reserve(&self, item: String, count: u32) -> Result<u32, SoldOut> {
        if item == "slow" {
            std::future::pending::<()>().await;
        }
        5_u32.checked_sub(count).ok_or(SoldOut { left: 5 })
    }

    async fn release(&self, item: String) -> Result<(), Status> {
        match &*item {
            "unknown" => Err(Status::done(Code::InvalidArgument, "no item `unknown`")),
            "closed" => Err(Status::refused(Code::Unavailable, "the stock is closed")),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the order is empty")]
struct EmptyOrder;

#[farcall::service]
trait Orders {
    async fn order(&self, item: String, count: u32) -> Result<u32, MethodError<EmptyOrder>>;
    async fn cancel(&self, item: String) -> Result<(), Status>;
}

struct Shop(InventoryClient);

impl Orders for Shop {
    async fn order(&self, item: String, count: u32) -> Result<u32, MethodError<EmptyOrder>> {
        if count == 0 {
            return Err(EmptyOrder.into());
        }
        if count > 100 {
            return Err(Status::done(Code::ResourceExhausted, "at most 100 of an item").into());
        }
        Ok(self.0.reserve(item, count).timeout(Duration::from_secs(1)).await?)
    }

    async fn cancel(&self, item: String) -> Result<(), Status> {
        self.0.release(item).await?;
        Ok(())
    }
}

async fn shop(codec: Codec) -> OrdersClient {
    let inventory = InventoryClient::new(channel_to(Stock.into_service(), codec.clone()).await);
    OrdersClient::new(channel_to(Shop(inventory).into_service(), codec).await)
}

#[track_caller]
fn assert_rpc_error<E: std::fmt::Debug>(
    error: &CallError<E>,
    code: Code,
    execution: Execution,
    message: &str,
) {
    let error = error.rpc().expect("a status is farcall's own error");
    assert_eq!((error.code(), error.execution(), error.message()), (code, execution, message));
}

#[tokio::test]
async fn status_reaches_the_caller_as_an_rpc_error_in_both_codecs() {
    for codec in Codec::built_in() {
        let inventory = InventoryClient::new(channel_to(Stock.into_service(), codec).await);
        inventory.release("apple".to_owned()).await.unwrap();
        let error = inventory.release("unknown".to_owned()).await.unwrap_err();
        assert_rpc_error(&error, Code::InvalidArgument, Execution::Done, "no item `unknown`");
        // A method without an error type of its own has only farcall's.
        let error: RpcError = error.into();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn method_can_fail_with_its_own_error_or_with_a_status() {
    for codec in Codec::built_in() {
        let orders = shop(codec).await;
        assert_eq!(orders.order("apple".to_owned(), 2).await.unwrap(), 3);
        let error = orders.order("apple".to_owned(), 0).await.unwrap_err();
        assert_eq!(error, CallError::Application(EmptyOrder));
        let error = orders.order("apple".to_owned(), 101).await.unwrap_err();
        assert_rpc_error(&error, Code::ResourceExhausted, Execution::Done, "at most 100 of an item");
    }
}

#[tokio::test(start_paused = true)]
async fn nested_deadline_stays_a_deadline() {
    let orders = shop(Codec::default()).await;
    let error = orders.order("slow".to_owned(), 1).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::Maybe));
    assert!(error.to_string().contains("calling `Inventory.reserve`: "), "{error}");
}

#[tokio::test]
async fn nested_failure_is_done_or_maybe_and_never_refused() {
    let orders = shop(Codec::default()).await;
    let error = orders.cancel("closed".to_owned()).await.unwrap_err();
    let message = "calling `Inventory.release`: the stock is closed";
    // The handler of `cancel` did run, so its caller must not take the call for one that never started.
    assert_rpc_error(&error, Code::Unavailable, Execution::Maybe, message);
    let error = orders.cancel("unknown".to_owned()).await.unwrap_err();
    let message = "calling `Inventory.release`: no item `unknown`";
    assert_rpc_error(&error, Code::InvalidArgument, Execution::Done, message);
}

#[tokio::test]
async fn closure_can_fail_with_a_status() {
    let service = Service::new("Text")
        .try_method("fail", |(): ()| async { Err::<(), _>(Status::done(Code::Unavailable, "closed")) })
        .try_method("either", |own: bool| async move {
            Err::<(), MethodError<EmptyOrder>>(match own {
                true => EmptyOrder.into(),
                false => Status::done(Code::PermissionDenied, "not yours").into(),
            })
        });
    let channel = channel_to(service, Codec::default()).await;
    let error = channel.call::<()>("Text.either", &true).await.unwrap_err();
    assert_rpc_error(&error, Code::Application, Execution::Done, "the order is empty");
    let error = channel.call_fallible::<(), EmptyOrder>("Text.either", &true).await.unwrap_err();
    assert_eq!(error, CallError::Application(EmptyOrder));
    let error = channel.call::<()>("Text.either", &false).await.unwrap_err();
    assert_rpc_error(&error, Code::PermissionDenied, Execution::Done, "not yours");
}
