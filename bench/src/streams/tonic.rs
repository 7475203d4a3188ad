//! tonic's server streaming, with the windows that `compare` gives it or with its defaults.

use std::net::SocketAddr;
use std::pin::Pin;

use futures::{Stream, StreamExt, TryStreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use self::stubs::feeder_client::FeederClient;
use self::stubs::feeder_server::{Feeder, FeederServer};
use super::feed::{Feed, item};
use crate::peers::tonic::{CONNECTION_WINDOW, Data, Factors, Product, STREAM_WINDOW, STREAMS};

#[allow(clippy::all, clippy::pedantic, unreachable_pub, reason = "nobody writes it by hand")]
mod stubs {
    include!(concat!(env!("OUT_DIR"), "/bench.Feeder.rs"));
}

struct Serving;

#[tonic::async_trait]
impl Feeder for Serving {
    type ItemsStream = Pin<Box<dyn Stream<Item = Result<Data, Status>> + Send>>;

    async fn multiply(&self, request: Request<Factors>) -> Result<Response<Product>, Status> {
        Ok(Response::new(request.into_inner().product()))
    }

    /// Sends as many bytes in each item as the request has.
    async fn items(&self, request: Request<Data>) -> Result<Response<Self::ItemsStream>, Status> {
        let item = request.into_inner();
        Ok(Response::new(futures::stream::repeat_with(move || Ok(item.clone())).boxed()))
    }
}

pub(super) async fn serve(tuned: bool) -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    println!("{}", incoming.local_addr()?);
    let mut server = Server::builder();
    if tuned {
        server = server
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
    }
    server.add_service(FeederServer::new(Serving)).serve_with_incoming(incoming).await?;
    Ok(())
}

pub(super) async fn connect(address: &str, tuned: bool) -> anyhow::Result<FeederClient<Channel>> {
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    if tuned {
        endpoint = endpoint
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
    }
    Ok(FeederClient::new(endpoint.connect().await?))
}

impl Feed for FeederClient<Channel> {
    async fn open(
        &self,
        bytes: usize,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<usize>> + Send + Unpin + 'static> {
        let request = Data::new(item(bytes));
        let items = Self::items(&mut self.clone(), request).await?.into_inner();
        Ok(items.map_ok(|item| item.len()).map_err(Into::into))
    }

    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(Self::multiply(&mut self.clone(), Factors::new(a, b)).await?.into_inner().get())
    }
}
