//! Errors as a program prints them, with each fact once, as in chapter 1.

use farcall::{Channel, Server};
use tea_shop::prices::{PriceList, Prices, PricesClient};

/// Returns the error as `main` prints it.
fn printed(error: impl Into<anyhow::Error>) -> String {
    let error = error.into();
    assert_eq!(format!("{error:#}"), error.to_string());
    format!("Error: {error:?}").lines().take_while(|line| *line != "Stack backtrace:").collect()
}

#[tokio::test]
async fn server_that_is_not_there_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix@{}", folder.path().join("none").display());
    let prices = PricesClient::new(Channel::to(address.as_str()).unwrap());
    let told = printed(prices.price("tea".to_owned()).await.unwrap_err());
    assert!(told.starts_with(&format!("Error: connecting to {address}: ")), "{told}");
    assert!(told.ends_with(" (unavailable, not_sent)"), "{told}");
    assert_eq!(told.matches("os error").count(), 1, "{told}");
}

#[tokio::test]
async fn address_in_use_is_told_once() {
    let server = || Server::builder().service(PriceList::new([]).into_service());
    let first = server().listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = first.addresses().next().unwrap().clone();
    let told = printed(server().listen(address.clone()).bind().await.unwrap_err());
    assert!(told.starts_with(&format!("Error: listening at {address}: ")), "{told}");
    assert_eq!(told.matches("os error").count(), 1, "{told}");
}
