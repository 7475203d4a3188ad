//! volo-thrift over TCP: multiplexed, or with its pool of connections. The stubs are written by its own
//! generator, in Rust: see `build.rs`.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpListener;
use volo::FastStr;
use volo::net::incoming::DefaultIncoming;
use volo_thrift::ServerError;

use self::stubs::volo_gen::world::{Record, World, WorldClient, WorldClientBuilder, WorldServer};
use crate::client::Client;
use crate::record::{self, with_record_fields};

#[allow(warnings, clippy::all, clippy::pedantic, reason = "nobody writes it by hand")]
mod stubs {
    volo::include_service!("volo_gen.rs");
}

macro_rules! record {
    ($($field:ident = $number:tt,)+) => {
        /// Creates the record. Its strings are volo's own, which share the message's memory where they are decoded.
        fn record() -> Record {
            let mut texts = record::texts();
            let mut next = || FastStr::new(texts.next().unwrap_or_default());
            Record { $($field: next(),)+ }
        }

        fn bytes(record: &Record) -> i64 {
            (0 $(+ record.$field.len())+) as i64
        }
    };
}
with_record_fields!(record);

struct Serving;

impl World for Serving {
    async fn multiply(&self, a: i64, b: i64) -> Result<i64, ServerError> {
        Ok(a * b)
    }

    async fn echo(&self, data: Bytes) -> Result<Bytes, ServerError> {
        Ok(data)
    }

    async fn count(&self, record: Record) -> Result<i64, ServerError> {
        Ok(bytes(&record))
    }
}

pub(super) async fn serve(multiplex: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let server = WorldServer::new(Serving).multiplex(multiplex);
    server.run(DefaultIncoming::from(listener)).await.map_err(|error| anyhow::anyhow!("{error}"))
}

// Its clients dial at the first call.
#[expect(clippy::unused_async, reason = "all peers connect in the same way")]
pub(super) async fn connect(address: &str, multiplex: bool) -> anyhow::Result<WorldClient> {
    let address: SocketAddr = address.parse()?;
    Ok(WorldClientBuilder::new("world").address(address).multiplex(multiplex).build())
}

impl Client for WorldClient {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(Self::multiply(self, a, b).await?)
    }

    async fn echo(&self, data: Bytes) -> anyhow::Result<Bytes> {
        Ok(Self::echo(self, data).await?)
    }

    async fn count_record(&self) -> anyhow::Result<u64> {
        Ok(self.count(record()).await?.try_into()?)
    }
}
