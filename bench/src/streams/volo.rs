//! volo's gRPC server streaming, with the windows that `compare` gives tonic. The stubs are written by its own generator, in
//! Rust: see `build.rs`.

use std::net::SocketAddr;

use futures::{Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use volo::net::incoming::DefaultIncoming;
use volo_grpc::client::CallOpt;
use volo_grpc::server::{Server, ServiceBuilder};
use volo_grpc::{BoxStream, Request, Response, Status};

use self::stubs::feeder_gen::feeder::{
    Data, Factors, Feeder, FeederClient, FeederClientBuilder, FeederServer, Product,
};
use super::feed::{Feed, item};
use crate::peers::tonic::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS};

#[allow(warnings, clippy::all, clippy::pedantic, reason = "nobody writes it by hand")]
mod stubs {
    volo::include_service!("feeder_gen.rs");
}

struct Serving;

impl Feeder for Serving {
    async fn multiply(&self, request: Request<Factors>) -> Result<Response<Product>, Status> {
        let Factors { a, b } = request.into_inner();
        Ok(Response::new(Product { product: a * b }))
    }

    /// Sends as many bytes in each item as the request has.
    async fn items(
        &self,
        request: Request<Data>,
    ) -> Result<Response<BoxStream<'static, Result<Data, Status>>>, Status> {
        let item = request.into_inner();
        Ok(Response::new(futures::stream::repeat_with(move || Ok(item.clone())).boxed()))
    }
}

pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let server = Server::new()
        .http2_max_concurrent_streams(STREAMS)
        .http2_init_stream_window_size(STREAM_WINDOW)
        .http2_init_connection_window_size(CONNECTION_WINDOW)
        .add_service(ServiceBuilder::new(FeederServer::new(Serving)).build());
    server.run(DefaultIncoming::from(listener)).await.map_err(|error| anyhow::anyhow!("{error}"))
}

pub(super) fn connect(address: &str) -> anyhow::Result<FeederClient> {
    let address: SocketAddr = address.parse()?;
    Ok(FeederClientBuilder::new("feeder")
        .http2_init_stream_window_size(STREAM_WINDOW)
        .http2_init_connection_window_size(CONNECTION_WINDOW)
        .address(address)
        .build())
}

impl Feed for FeederClient {
    async fn open(
        &self,
        bytes: usize,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<usize>> + Send + Unpin + 'static> {
        let request = Data { data: item(bytes) };
        // The client's own method has its stream borrow the client.
        let items =
            self.clone().with_callopt(CallOpt::default()).items(request).await.map_err(error)?.into_inner();
        Ok(items.map_ok(|item| item.data.len()).map_err(error))
    }

    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        let factors = Factors { a, b };
        Ok(Self::multiply(self, factors).await.map_err(error)?.into_inner().product)
    }
}

fn error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
