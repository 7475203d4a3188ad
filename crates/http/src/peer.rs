//! [`peer_of`]: the address of a request's client.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use farcall_transport::PeerAddress;

/// Returns the address of the client, as the program that serves the router has put it into the request.
pub(crate) fn peer_of(request: &Request) -> PeerAddress {
    let extensions = request.extensions();
    let peer = extensions.get::<PeerAddress>().copied();
    let connect_info = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| PeerAddress::Tcp(info.0));
    peer.or_else(connect_info).unwrap_or(PeerAddress::Memory)
}
