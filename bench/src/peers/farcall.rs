//! farcall over TCP, with everything at its default but the codec.

use farcall::{Bytes, Channel, Codec, Options, Server};
use serde::{Deserialize, Serialize};

use crate::load::Client;

#[derive(Serialize, Deserialize)]
struct Multiply {
    a: i64,
    b: i64,
}

#[derive(Serialize, Deserialize)]
struct Echo {
    data: Bytes,
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let server = Server::builder()
        .method("Arith.multiply", |args: Multiply| async move { args.a * args.b })
        .method("Echo.echo", |args: Echo| async move { args.data })
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await?;
    for address in server.addresses() {
        println!("{address}");
    }
    server.serve().await;
    Ok(())
}

#[derive(Clone)]
pub(crate) struct Connected(Channel);

pub(super) async fn connect(address: &str, codec: Codec) -> anyhow::Result<Connected> {
    let channel = Channel::builder().to(address).options(Options::default().codec(codec)).build()?;
    channel.connect().await?;
    Ok(Connected(channel))
}

impl Client for Connected {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(self.0.call("Arith.multiply", &Multiply { a, b }).await?)
    }

    async fn echo(&self, data: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let back: Bytes = self.0.call("Echo.echo", &Echo { data: data.into() }).await?;
        Ok(back.into_inner().into())
    }
}
