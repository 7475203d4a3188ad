//! Serves the price list.

use clap::Parser;
use tea_shop::prices::{PriceList, Prices};
use tea_shop::process::{self, Listening, Peers};

/// Serves the price list.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    listening: Listening,
    #[command(flatten)]
    peers: Peers,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    process::init_log();
    let prices = PriceList::new([("tea", 250), ("milk", 100)]);
    process::run(prices.into_service(), &args.listening, &args.peers).await
}
