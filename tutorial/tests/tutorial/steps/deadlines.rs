//! Chapter 3: a second service, which calls the first one, and a deadline over both.

use std::time::Duration;

use farcall::{CallError, Channel, Server};
use tea_shop::prices::PricesClient;
use tea_shop::shop::{EmptyBasket, Shop, ShopClient, TeaShop};

/// The `main` of `shop-server`.
///
/// # Errors
///
/// It cannot listen.
pub async fn shop_server() -> anyhow::Result<()> {
    let prices = PricesClient::new(Channel::to("tcp@127.0.0.1:7001")?);
    let shop = TeaShop::new(prices);
    let server = Server::builder().service(shop.into_service()).listen("tcp@127.0.0.1:7002").bind().await?;
    server.serve_until(async { drop(tokio::signal::ctrl_c().await) }).await;
    Ok(())
}

/// The `main` of `buy`.
///
/// # Errors
///
/// The shop does not answer in time.
pub async fn buy(items: Vec<String>) -> anyhow::Result<()> {
    let shop = ShopClient::new(Channel::to("tcp@127.0.0.1:7002")?);
    match shop.total(items).timeout(Duration::from_secs(2)).await {
        Ok(cents) => println!("{}.{:02}", cents / 100, cents % 100),
        Err(CallError::Application(EmptyBasket)) => println!("nothing to pay"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
