//! Serves the shop.

use clap::Parser;
use tea_shop::prices::PricesClient;
use tea_shop::process::{self, Listening, Peers};
use tea_shop::shop::{Shop, TeaShop};

/// Serves the shop.
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
    let shop = TeaShop::new(PricesClient::new(args.peers.channel("Prices")?));
    process::run(shop.into_service(), &args.listening, &args.peers).await
}
