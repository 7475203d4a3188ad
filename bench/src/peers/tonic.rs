//! tonic over TCP, with prost, set up as its documentation says. The stubs are written by its own generator,
//! from a description in Rust: see `build.rs`.

use std::net::SocketAddr;

use bytes::Bytes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use self::stubs::world_client::WorldClient;
use self::stubs::world_server::{World, WorldServer};
use crate::client::Client;

#[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "nobody writes it by hand")]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/bench.World.rs"));
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Factors {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(int64, tag = "2")]
    b: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Product {
    #[prost(int64, tag = "1")]
    product: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Data {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl Factors {
    pub(crate) const fn new(a: i64, b: i64) -> Self {
        Self { a, b }
    }

    pub(crate) const fn product(&self) -> Product {
        Product { product: self.a * self.b }
    }
}

impl Product {
    pub(crate) const fn get(&self) -> i64 {
        self.product
    }
}

impl Data {
    pub(crate) const fn new(data: Bytes) -> Self {
        Self { data }
    }

    pub(crate) const fn len(&self) -> usize {
        self.data.len()
    }
}

/// More than any scenario has in flight.
pub(crate) const STREAMS: u32 = 2048;
/// The default of 64 KiB has large bodies wait for the other side, again and again.
pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

struct Serving;

#[tonic::async_trait]
impl World for Serving {
    async fn multiply(&self, request: Request<Factors>) -> Result<Response<Product>, Status> {
        Ok(Response::new(request.into_inner().product()))
    }

    async fn echo(&self, request: Request<Data>) -> Result<Response<Data>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?);
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(WorldServer::new(Serving))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

pub(super) async fn connect(address: &str) -> anyhow::Result<WorldClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await?;
    Ok(WorldClient::new(channel))
}

impl Client for WorldClient<Channel> {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        // A call takes the client by `&mut`; to clone it is what its documentation says.
        Ok(Self::multiply(&mut self.clone(), Factors { a, b }).await?.into_inner().product)
    }

    async fn echo(&self, data: Bytes) -> anyhow::Result<Bytes> {
        Ok(Self::echo(&mut self.clone(), Data { data }).await?.into_inner().data)
    }
}
