//! State that a service shares with the rest of its process: `cargo run -p farcall --example shared_state`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use farcall::{Channel, Server};

#[farcall::service]
trait Stock {
    /// Adds to the stock of an item, and returns how many there are now.
    async fn add(&self, item: String, count: u64) -> u64;
}

/// The stock, behind a lock that is never held across an `.await`.
#[derive(Default)]
struct Shelf {
    items: Mutex<HashMap<String, u64>>,
}

impl Shelf {
    fn total(&self) -> u64 {
        self.items.lock().expect("no holder panics").values().sum()
    }
}

impl Stock for Shelf {
    async fn add(&self, item: String, count: u64) -> u64 {
        let mut items = self.items.lock().expect("no holder panics");
        let entry = items.entry(item).or_default();
        *entry += count;
        *entry
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shelf = Arc::new(Shelf::default());
    // An `Arc` of a service is a service, so that others can keep a handle to it.
    let server =
        Server::builder().service(Arc::clone(&shelf).into_service()).listen("tcp@127.0.0.1:0").bind().await?;
    let address = server.addresses().next().expect("it listens on one").clone();
    tokio::spawn(server.serve());

    let stock = StockClient::new(Channel::to(address)?);
    stock.add("tea".to_owned(), 2).await?;
    stock.add("coffee".to_owned(), 3).await?;
    println!("{} items on the shelf", shelf.total());
    Ok(())
}
