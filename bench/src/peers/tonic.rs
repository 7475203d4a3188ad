//! tonic over TCP, with prost, set up as its documentation says. The stubs are written by its own generator,
//! from a description in Rust: see `build.rs`.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use self::stubs::world_client::WorldClient;
use self::stubs::world_server::{World, WorldServer};
use super::test_certificate::TestCertificate;
use crate::client::Client;
use crate::record::{texts, with_record_fields};

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

#[derive(Clone, PartialEq, prost::Message)]
pub struct Count {
    #[prost(uint64, tag = "1")]
    bytes: u64,
}

macro_rules! record {
    ($($field:ident = $number:tt,)+) => {
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct Record {
            $(#[prost(string, tag = $number)] $field: String,)+
        }

        impl Record {
            fn filled() -> Self {
                let mut texts = texts();
                let mut next = || texts.next().unwrap_or_default().to_owned();
                Self { $($field: next(),)+ }
            }

            const fn bytes(&self) -> u64 {
                (0 $(+ self.$field.len())+) as u64
            }
        }
    };
}
with_record_fields!(record);

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

    async fn count(&self, request: Request<Record>) -> Result<Response<Count>, Status> {
        Ok(Response::new(Count { bytes: request.into_inner().bytes() }))
    }
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// Serves on a free port. `rest` stands behind its address.
async fn serve_at_free_port(mut server: Server, rest: &str) -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    println!("{} {rest}", incoming.local_addr()?);
    server.add_service(WorldServer::new(Serving)).serve_with_incoming(incoming).await?;
    Ok(())
}

pub(super) async fn serve() -> anyhow::Result<()> {
    serve_at_free_port(server(), "").await
}

/// The certificate's file stands behind the address.
pub(super) async fn serve_tls(directory: &Path) -> anyhow::Result<()> {
    let own = TestCertificate::create(directory)?;
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(own.certificate, own.key));
    serve_at_free_port(server().tls_config(tls)?, &own.roots.to_string_lossy()).await
}

fn endpoint(uri: String) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(uri)?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

pub(super) async fn connect(address: &str) -> anyhow::Result<WorldClient<Channel>> {
    Ok(WorldClient::new(endpoint(format!("http://{address}"))?.connect().await?))
}

pub(super) async fn connect_tls(address: &str) -> anyhow::Result<WorldClient<Channel>> {
    let (address, roots) = address.split_once(' ').unwrap_or((address, ""));
    let roots = Certificate::from_pem(std::fs::read(roots)?);
    let tls = ClientTlsConfig::new().ca_certificate(roots);
    let endpoint = endpoint(format!("https://{address}"))?.tls_config(tls)?;
    Ok(WorldClient::new(endpoint.connect().await?))
}

impl Client for WorldClient<Channel> {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        // A call takes the client by `&mut`; to clone it is what its documentation says.
        Ok(Self::multiply(&mut self.clone(), Factors { a, b }).await?.into_inner().product)
    }

    async fn echo(&self, data: Bytes) -> anyhow::Result<Bytes> {
        Ok(Self::echo(&mut self.clone(), Data { data }).await?.into_inner().data)
    }

    async fn count_record(&self) -> anyhow::Result<u64> {
        Ok(Self::count(&mut self.clone(), Record::filled()).await?.into_inner().bytes)
    }
}
