//! A service of your own, tested under a partition: `cargo run -p farcall-sim --example partition`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::client::ConnectionOptions;
use farcall::protocol::{Execution, KeepAlive};
use farcall_sim::for_each_seed;

#[farcall::service]
trait Stock {
    async fn take(&self, item: String) -> u32;
}

/// The stock of both servers, as a database would hold it.
struct Shelf(Arc<Mutex<u32>>);

impl Stock for Shelf {
    async fn take(&self, _item: String) -> u32 {
        let mut left = self.0.lock().expect("no handler panics");
        *left -= 1;
        *left
    }
}

fn main() {
    for_each_seed(100, async |cluster| {
        let shelf = Arc::new(Mutex::new(1000));
        let servers = ["a", "b"].map(|name| {
            let shelf = Arc::clone(&shelf);
            let stock =
                move |_: &_| farcall::Server::builder().service(Shelf(Arc::clone(&shelf)).into_service());
            cluster.server(name, stock).expect("the server is described right")
        });
        let options = ConnectionOptions::default()
            .keep_alive(KeepAlive::new(Duration::from_secs(1), Duration::from_secs(1)));
        let channel = cluster.node("shop").channel_with(options);
        let channel = servers.iter().fold(channel, |channel, server| channel.to(server.node().address()));
        let stock = StockClient::new(channel.build().expect("the settings are valid"));

        let (mut taken, mut unknown) = (0, 0);
        for n in 0..20 {
            match n {
                5 => cluster.cut("a", "shop"), // its answers are lost, its requests arrive
                15 => cluster.heal(),
                _ => {}
            }
            match stock.take("pear".to_owned()).timeout(Duration::from_secs(5)).await {
                Ok(_) => taken += 1,
                // Only these say that nothing was taken.
                Err(error) if matches!(error.execution(), Execution::NotSent | Execution::Refused) => {}
                Err(_) => unknown += 1,
            }
        }
        let gone = 1000 - *shelf.lock().expect("no handler panics");
        assert!((taken..=taken + unknown).contains(&gone), "{gone} gone: {taken} taken, {unknown} unknown");
    });
    println!("100 seeds: nothing is taken twice, and nothing without a word");
}
