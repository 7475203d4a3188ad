//! tower middleware on both sides: `cargo run -p farcall --example middleware`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use farcall::client::{Next, Request, interceptor};
use farcall::{Channel, Server, server};
use tower_layer::layer_fn;
use tower_service::Service;

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Counts the calls that pass.
#[derive(Clone)]
struct Count<S>(S);

impl<S: Service<server::Request>> Service<server::Request> for Count<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: server::Request) -> S::Future {
        CALLS.fetch_add(1, Ordering::Relaxed);
        self.0.call(request)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .method("Arith.square", async |(n,): (i64,)| n * n)
        .layer(layer_fn(Count))
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses().next().expect("it listens on one").clone();
    tokio::spawn(server.serve());

    // The client's side as a closure: it adds metadata, and sees the outcome. A tower layer works as well.
    let tenant = interceptor(|mut request: Request, next: Next| async move {
        request.set_metadata("tenant", "blue");
        let method = request.method().to_owned();
        let outcome = next.call(request).await;
        println!("{method}: {}", if outcome.is_ok() { "ok" } else { "failed" });
        outcome
    });
    let channel = Channel::builder().to(address).layer(tenant).build()?;
    println!("7 x 7 = {}", channel.call::<i64>("Arith.square", &(7,)).await?);
    println!("calls: {}", CALLS.load(Ordering::Relaxed));
    Ok(())
}
