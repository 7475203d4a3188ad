//! farcall, with everything at its default.

use farcall::server::{Limits, Sender};
use farcall::{Bytes, Channel, Server};
use futures::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::feed::{Feed, item};

#[derive(Serialize, Deserialize)]
struct Items {
    bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct Multiply {
    a: i64,
    b: i64,
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let server = Server::builder()
        .method("Arith.multiply", |args: Multiply| async move { args.a * args.b })
        .stream_out("Feed.items", async |args: Items, mut out: Sender<Bytes>| {
            let item = Bytes::from(item(args.bytes));
            while out.send(item.clone()).await.is_ok() {}
        })
        .stream_out("Feed.idle", async |(): (), mut out: Sender<u64>| {
            let _ = out.send(1).await;
            std::future::pending::<()>().await;
        })
        // All connections are one peer here.
        .limits(Limits::default().max_connections_per_peer(1024).max_in_flight_per_peer(100_000))
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await?;
    println!("{}", server.addresses().next().map(ToString::to_string).unwrap_or_default());
    server.serve().await;
    Ok(())
}

pub(super) async fn connect(address: &str) -> anyhow::Result<Channel> {
    let channel = Channel::builder().to(address).build()?;
    channel.connect().await?;
    Ok(channel)
}

impl Feed for Channel {
    async fn open(
        &self,
        bytes: usize,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<usize>> + Send + Unpin + 'static> {
        let items = self.call::<()>("Feed.items", &Items { bytes }).receive::<Bytes>().await?;
        Ok(items.map_ok(|item| item.len()).map_err(Into::into))
    }

    async fn open_idle(&self) -> anyhow::Result<Box<dyn Send>> {
        let mut items = self.call::<()>("Feed.idle", &()).receive::<u64>().await?;
        anyhow::ensure!(matches!(items.next().await, Some(Ok(1))), "the first item is missing");
        Ok(Box::new(items))
    }

    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(self.call("Arith.multiply", &Multiply { a, b }).await?)
    }
}
