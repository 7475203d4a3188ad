//! A service, a server and a typed client in one process: `cargo run -p farcall --example hello`.

use farcall::{Channel, Server};

/// Integer arithmetic.
#[farcall::service]
trait Arith {
    /// Multiplies two numbers.
    #[rpc(idempotent)]
    async fn multiply(&self, a: i64, b: i64) -> i64;
}

struct Calculator;

impl Arith for Calculator {
    async fn multiply(&self, a: i64, b: i64) -> i64 {
        a * b
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Port 0 is any free port; a real server listens on `tcp@0.0.0.0:7001`, for example.
    let server =
        Server::builder().service(Calculator.into_service()).listen("tcp@127.0.0.1:0").bind().await?;
    let address = server.addresses().next().expect("it listens on one").clone();
    tokio::spawn(server.serve());

    let arith = ArithClient::new(Channel::to(address)?);
    println!("6 x 7 = {}", arith.multiply(6, 7).await?);

    // `start` sends a call now. Many can be under way on one connection.
    let calls: Vec<_> = (1..=10).map(|n| arith.multiply(n, n).start()).collect();
    for call in calls {
        print!("{} ", call.await?);
    }
    println!();
    Ok(())
}
