//! Calls that fail: the error of a method, a deadline, a server that is gone, and what each says about the work.
//!
//! `cargo run -p farcall --example errors_and_deadlines`

use std::time::Duration;

use farcall::{CallError, Channel, Server};
use serde::{Deserialize, Serialize};

#[farcall::service]
trait Shop {
    /// Sells one item, and returns its price.
    async fn buy(&self, item: String) -> Result<u32, ShopError>;
    /// Counts the stock, which takes an hour.
    async fn count(&self) -> u64;
}

/// An error that a caller can match on.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum ShopError {
    #[error("{item} is sold out")]
    SoldOut { item: String },
}

struct Corner;

impl Shop for Corner {
    async fn buy(&self, item: String) -> Result<u32, ShopError> {
        if item == "tea" { Ok(3) } else { Err(ShopError::SoldOut { item }) }
    }

    async fn count(&self) -> u64 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        0
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder().service(Corner.into_service()).listen("tcp@127.0.0.1:0").bind().await?;
    let address = server.addresses().next().expect("it listens on one").clone();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let shop = ShopClient::new(Channel::to(address)?);

    match shop.buy("coffee".to_owned()).await {
        Ok(price) => println!("bought for {price}"),
        // The error of the method, with its type.
        Err(CallError::Application(ShopError::SoldOut { item })) => println!("no {item} today"),
        // farcall's own error: phase, endpoint, code, and whether the work may have happened.
        Err(error) => println!("the call failed: {error}"),
    }

    // The deadline travels: the handler is stopped on the server, too.
    let error = shop.count().timeout(Duration::from_millis(50)).await.expect_err("an hour is too long");
    println!("{:?}, {:?}: {error}", error.code(), error.execution());

    handle.stop();
    serving.await?;
    let error = shop.buy("tea".to_owned()).await.expect_err("the server is gone");
    // Nothing was sent, so that calling again is safe.
    println!("{:?}, {:?}: {error}", error.code(), error.execution());
    Ok(())
}
