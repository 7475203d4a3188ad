//! tarpc over TCP, with MessagePack or bincode, set up as its examples do.

use bytes::Bytes;
use futures::StreamExt;
use tarpc::context;
use tarpc::serde_transport::tcp;
use tarpc::server::{BaseChannel, Channel};
use tokio_serde::formats::{Bincode, MessagePack};

use crate::client::Client;
use crate::record::Record;

#[tarpc::service]
pub(crate) trait World {
    async fn multiply(a: i64, b: i64) -> i64;
    async fn echo(data: Bytes) -> Bytes;
    async fn count(record: Record) -> u64;
}

#[derive(Clone)]
struct Server;

impl World for Server {
    async fn multiply(self, _: context::Context, a: i64, b: i64) -> i64 {
        a * b
    }

    async fn echo(self, _: context::Context, data: Bytes) -> Bytes {
        data
    }

    async fn count(self, _: context::Context, record: Record) -> u64 {
        record.bytes()
    }
}

/// Both formats differ only in the type of the transport.
macro_rules! peer {
    ($serve:ident, $connect:ident, $format:expr) => {
        pub(super) async fn $serve() -> anyhow::Result<()> {
            let mut incoming = tcp::listen("127.0.0.1:0", $format).await?;
            println!("{}", incoming.local_addr());
            while let Some(transport) = incoming.next().await {
                let transport = transport?;
                transport.get_ref().set_nodelay(true)?;
                let mut config = tarpc::server::Config::default();
                config.pending_response_buffer = 1024;
                let channel = BaseChannel::new(config, transport);
                tokio::spawn(channel.execute(Server.serve()).for_each(|call| async {
                    tokio::spawn(call);
                }));
            }
            Ok(())
        }

        pub(super) async fn $connect(address: &str) -> anyhow::Result<WorldClient> {
            let transport = tcp::connect(address, $format).await?;
            transport.get_ref().set_nodelay(true)?;
            let mut config = tarpc::client::Config::default();
            config.max_in_flight_requests = 2048;
            config.pending_request_buffer = 1024;
            Ok(WorldClient::new(config, transport).spawn())
        }
    };
}

peer!(serve_msgpack, connect_msgpack, MessagePack::default);
peer!(serve_bincode, connect_bincode, Bincode::default);

impl Client for WorldClient {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(Self::multiply(self, context::current(), a, b).await?)
    }

    async fn echo(&self, data: Bytes) -> anyhow::Result<Bytes> {
        Ok(Self::echo(self, context::current(), data).await?)
    }

    async fn count_record(&self) -> anyhow::Result<u64> {
        Ok(self.count(context::current(), Record::new()).await?)
    }
}
