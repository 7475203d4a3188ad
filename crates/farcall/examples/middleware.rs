//! tower middleware on both sides: `cargo run -p farcall --example middleware`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use farcall::{Channel, Server, client, server};
use futures::future::BoxFuture;
use tower_layer::layer_fn;
use tower_service::Service;

/// Adds metadata to each call, and prints its outcome.
#[derive(Clone)]
struct Tenant<S>(S);

impl<S> Service<client::Request> for Tenant<S>
where
    S: Service<
            client::Request,
            Response = client::Response,
            Error = farcall::RpcError,
            Future: Send + 'static,
        >,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: client::Request) -> Self::Future {
        request.set_metadata("tenant", "blue");
        let (method, call) = (request.method().to_owned(), self.0.call(request));
        Box::pin(async move {
            let outcome = call.await;
            println!("{method}: {}", if outcome.is_ok() { "ok" } else { "failed" });
            outcome
        })
    }
}

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

    let channel = Channel::builder().to(address).layer(layer_fn(Tenant)).build()?;
    println!("7 x 7 = {}", channel.call::<i64>("Arith.square", &(7,)).await?);
    println!("calls: {}", CALLS.load(Ordering::Relaxed));
    Ok(())
}
