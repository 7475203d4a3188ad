//! Chapter 9: the tests of the tea shop.

use std::time::Duration;

use farcall::{CallError, Code, Context, ItemStream, MethodError, RpcError, Sender, testing};
use tea_shop::prices::{Change, PriceList, Prices, PricesClient, PricesStub, UnknownItem};
use tea_shop::shop::{EmptyBasket, Shop, ShopClient, TeaShop};

/// A fake whose items cost nothing.
#[derive(Debug)]
struct Free;

impl PricesStub for Free {
    async fn price(&self, _item: String) -> Result<u32, CallError<UnknownItem>> {
        Ok(0)
    }
    async fn set(&self, _item: String, _cents: u32) -> Result<(), CallError> {
        Ok(())
    }
    async fn changes(&self) -> Result<ItemStream<Change, u64>, CallError> {
        Err(RpcError::not_sent(Code::Unimplemented, "what is free stays free").into())
    }
}

#[tokio::test]
async fn an_empty_basket_costs_nothing_and_is_an_error() {
    let error = TeaShop::new(Free).total(Vec::new()).await.unwrap_err();
    assert!(matches!(error, MethodError::Application(EmptyBasket)));
}

/// A shop in front of these prices, both in memory: calls go the whole way, without a port.
fn shop(prices: PriceList) -> ShopClient {
    let prices = PricesClient::new(testing::channel(prices.into_service()));
    ShopClient::new(testing::channel(TeaShop::new(prices).into_service()))
}

#[tokio::test]
async fn the_total_is_the_sum_of_the_prices() {
    let shop = shop(PriceList::new([("tea", 250), ("milk", 100)]));
    let basket = ["tea", "tea", "milk"].map(str::to_owned);
    assert_eq!(shop.total(basket.into()).await.unwrap(), 600);
}

#[tokio::test]
async fn an_item_that_is_not_sold_is_named() {
    let error = shop(PriceList::new([])).total(vec!["gold".to_owned()]).await.unwrap_err();
    assert!(error.to_string().contains("gold is not sold here"), "{error}");
}

/// A fake that takes a minute for each price.
struct Slow;

impl Prices for Slow {
    async fn price(&self, _item: String) -> Result<u32, UnknownItem> {
        // In paused time: it takes no time.
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(1)
    }
    async fn set(&self, _item: String, _cents: u32) {}
    async fn changes(&self, _cx: &Context, _changes: Sender<Change>) -> u64 {
        0
    }
}

// The clock stands still while something can run, and jumps when nothing can: the test takes no time.
#[tokio::test(start_paused = true)]
async fn slow_prices_do_not_hold_a_customer_up() {
    let prices = PricesClient::new(testing::channel(Slow.into_service()));
    let shop = ShopClient::new(testing::channel(TeaShop::new(prices).into_service()));
    let error = shop.total(vec!["tea".to_owned()]).timeout(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.rpc().map(|error| error.code()), Some(Code::DeadlineExceeded));
}

#[tokio::test]
async fn changes_come_as_they_are_made() {
    let prices = PricesClient::new(testing::channel(PriceList::new([("tea", 250)]).into_service()));
    let mut changes = prices.changes().await.unwrap();
    prices.set("tea".to_owned(), 300).await.unwrap();
    let change = changes.next().await.expect("one was made").unwrap();
    assert_eq!((change.item.as_str(), change.cents), ("tea", 300));
}
