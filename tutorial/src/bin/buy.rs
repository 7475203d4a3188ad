//! Asks the shop what items cost together.

use std::time::Duration;

use clap::Parser;
use farcall::CallError;
use tea_shop::process::Peers;
use tea_shop::shop::{EmptyBasket, ShopClient};

/// Asks the shop what items cost together.
#[derive(Parser)]
struct Args {
    /// Items to buy.
    items: Vec<String>,
    /// Asks again and again, this often in all.
    #[arg(long, default_value_t = 1)]
    times: u32,
    #[command(flatten)]
    peers: Peers,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let shop = ShopClient::new(args.peers.channel("Shop")?);
    for _ in 0..args.times {
        match shop.total(args.items.clone()).timeout(Duration::from_secs(2)).await {
            Ok(cents) => println!("{}.{:02}", cents / 100, cents % 100),
            Err(CallError::Application(EmptyBasket)) => println!("nothing to pay"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
