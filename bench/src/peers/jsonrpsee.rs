//! jsonrpsee over WebSocket and over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee::rpc_params;
use jsonrpsee::server::{RpcModule, Server, ServerConfig};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};

use crate::client::Client;

/// More than any scenario has in flight.
const IN_FLIGHT: usize = 2048;
/// More than any scenario's messages have.
const MESSAGE_BYTES: u32 = 16 * 1024 * 1024;

pub(super) async fn serve() -> anyhow::Result<()> {
    let config = ServerConfig::builder()
        .set_tcp_no_delay(true)
        .max_connections(65_536)
        .max_request_body_size(MESSAGE_BYTES)
        .max_response_body_size(MESSAGE_BYTES)
        .set_message_buffer_capacity(IN_FLIGHT as u32)
        .build();
    let server = Server::builder().set_config(config).build("127.0.0.1:0").await?;
    println!("{}", server.local_addr()?);
    let mut module = RpcModule::new(());
    module.register_method("multiply", |params, (), _| {
        let (a, b) = params.parse::<(i64, i64)>()?;
        Ok::<_, ErrorObjectOwned>(a * b)
    })?;
    module.register_method("echo", |params, (), _| params.one::<String>())?;
    server.start(module).stopped().await;
    Ok(())
}

pub(crate) struct Connected<C>(Arc<C>);

impl<C> Clone for Connected<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(super) async fn connect_ws(address: &str) -> anyhow::Result<Connected<WsClient>> {
    let client = WsClientBuilder::new()
        .set_tcp_no_delay(true)
        .max_concurrent_requests(IN_FLIGHT)
        .max_request_size(MESSAGE_BYTES)
        .max_response_size(MESSAGE_BYTES)
        .build(format!("ws://{address}"))
        .await?;
    Ok(Connected(Arc::new(client)))
}

// As its sister, though it dials at the first call.
#[expect(clippy::unused_async, reason = "all peers connect in the same way")]
pub(super) async fn connect_http(address: &str) -> anyhow::Result<Connected<HttpClient>> {
    let client = HttpClientBuilder::new()
        .set_tcp_no_delay(true)
        .max_concurrent_requests(IN_FLIGHT)
        .max_request_size(MESSAGE_BYTES)
        .max_response_size(MESSAGE_BYTES)
        .build(format!("http://{address}"))?;
    Ok(Connected(Arc::new(client)))
}

impl<C: ClientT + Send + Sync + 'static> Client for Connected<C> {
    async fn multiply(&self, a: i64, b: i64) -> anyhow::Result<i64> {
        Ok(self.0.request("multiply", rpc_params![a, b]).await?)
    }

    async fn echo(&self, data: Bytes) -> anyhow::Result<Bytes> {
        let text = std::str::from_utf8(&data)?;
        let back: String = self.0.request("echo", rpc_params![text]).await?;
        Ok(back.into())
    }
}
