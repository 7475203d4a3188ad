//! The parts of a server, put together: its listeners, its registrations, and its handle.

use std::sync::Arc;

use farcall_protocol::{Codec, Compression, ServerPolicy, StreamPolicy};
use farcall_transport::Listener;
#[cfg(feature = "tls")]
use farcall_transport::{Address, ListenError, TlsServer};

use super::Server;
use super::advertisement::Advertisement;
use super::handle::ServerHandle;
use super::inner::ServerInner;
use super::state::ServerState;
use crate::error::BuildError;
use crate::limits::Limits;
use crate::service::Service;

/// Creates a server of its state and its listeners.
///
/// # Errors
///
/// It cannot be registered as it is described.
pub(super) fn assemble(
    state: Arc<ServerState>,
    listeners: Vec<Listener>,
    advertisement: Advertisement,
) -> Result<Server, BuildError> {
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().clone()).collect();
    let registrations = advertisement.registrations(state.router.services(), &addresses)?;
    let inner = ServerInner::new(state, addresses, registrations);
    Ok(Server::new(listeners, ServerHandle::new(inner)))
}

/// Declares the methods with these full names to be carried out once.
///
/// # Errors
///
/// [`BuildError::UnknownOnce`]: no service has one of them.
pub(super) fn declare_once(services: &mut [Service], names: Vec<String>) -> Result<(), BuildError> {
    for name in names {
        let (service, method) = name.rsplit_once('.').unwrap_or_default();
        let declare = |of: &mut Service| of.name() == service && of.declare_once(method);
        if !services.iter_mut().any(declare) {
            return Err(BuildError::UnknownOnce { name });
        }
    }
    Ok(())
}

/// Returns the terms that the server agrees to in handshakes.
pub(super) fn policy(limits: &Limits, codecs: Option<Vec<Codec>>, without_compression: bool) -> ServerPolicy {
    ServerPolicy::default()
        .codecs(codecs.unwrap_or_else(Codec::built_in))
        .handle_timeout(limits.handle_timeout)
        .compression(if without_compression { Vec::new() } else { Compression::built_in() })
        .max_frame_bytes(limits.max_frame_bytes)
        .max_in_flight(limits.max_in_flight)
        .streams(StreamPolicy::new(limits.stream_window, limits.max_streams))
}

/// Listens on an address.
///
/// # Errors
///
/// The address cannot be listened on.
#[cfg(feature = "tls")]
pub(super) async fn listen(address: &Address, tls: Option<&TlsServer>) -> Result<Listener, ListenError> {
    match tls {
        Some(tls) => Listener::bind_with(address, tls).await,
        None => Listener::bind(address).await,
    }
}
