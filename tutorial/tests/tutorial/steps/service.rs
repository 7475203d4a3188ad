//! Chapter 1: one service, one server, one client.

pub mod prices {
    use std::collections::BTreeMap;

    /// The prices of items, in cents.
    #[farcall::service]
    pub trait Prices {
        /// Returns the price of an item.
        #[rpc(idempotent)]
        async fn price(&self, item: String) -> Option<u32>;
    }

    /// A price list in memory.
    #[derive(Debug)]
    pub struct PriceList(BTreeMap<String, u32>);

    impl PriceList {
        /// Creates a list of items and their prices.
        pub fn new<const N: usize>(prices: [(&str, u32); N]) -> Self {
            Self(prices.map(|(item, cents)| (item.to_owned(), cents)).into())
        }
    }

    impl Prices for PriceList {
        async fn price(&self, item: String) -> Option<u32> {
            self.0.get(&item).copied()
        }
    }
}

pub mod prices_server {
    use super::prices::{PriceList, Prices};
    use farcall::Server;

    #[tokio::main]
    pub async fn main() -> anyhow::Result<()> {
        let prices = PriceList::new([("tea", 250), ("milk", 100)]);
        let server =
            Server::builder().service(prices.into_service()).listen("tcp@127.0.0.1:7001").bind().await?;
        println!("listening");
        server.serve_until(async { drop(tokio::signal::ctrl_c().await) }).await;
        Ok(())
    }
}

pub mod buy {
    use super::prices::PricesClient;
    use farcall::Channel;

    #[tokio::main]
    pub async fn main() -> anyhow::Result<()> {
        let prices = PricesClient::new(Channel::to("tcp@127.0.0.1:7001")?);
        for item in std::env::args().skip(1) {
            match prices.price(item.clone()).await? {
                Some(cents) => println!("{item}: {cents}"),
                None => println!("{item}: not sold here"),
            }
        }
        Ok(())
    }
}
