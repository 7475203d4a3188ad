//! A running service: a real server and a real client, over a pipe in memory.

use farcall::client::{Connection, ConnectionOptions};
use farcall::protocol::Codec;
use farcall::server::Service;
use farcall::transport::{PeerAddress, Stream};
use farcall::{Address, Channel, Server};

/// Room in the pipe; larger than all that a test sends at once.
const PIPE_BYTES: usize = 64 * 1024;

/// A channel to a server that offers this service.
pub(crate) async fn channel_to(service: Service, codec: Codec) -> Channel {
    let server = Server::builder().service(service).build().unwrap();
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    server.handle().serve_stream(Stream::new(far), PeerAddress::Memory);
    let address = Address::parse("memory.test:1").unwrap();
    let options = ConnectionOptions::default().codec(codec);
    Channel::from(Connection::over(Stream::new(near), &address, &options).await.unwrap())
}
