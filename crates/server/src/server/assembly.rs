//! The parts of a server, put together: its listeners, its registrations, and its handle.

use std::sync::Arc;
use std::time::Duration;

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

/// Checks that clients can be served.
///
/// # Errors
///
/// [`BuildError::ZeroLimit`]: a limit keeps all of them out.
pub(super) fn check(limits: &Limits) -> Result<(), BuildError> {
    let (none, at_once) = (Some(0), Some(Duration::ZERO));
    let zeros = [
        ("max_connections", limits.max_connections == none),
        ("max_connections_per_peer", limits.max_connections_per_peer == none),
        ("handshake_timeout", limits.handshake_timeout == at_once),
        ("frame_timeout", limits.frame_timeout == at_once),
        ("write_timeout", limits.write_timeout == at_once),
    ];
    match zeros.into_iter().find(|(_, is_zero)| *is_zero) {
        Some((limit, _)) => Err(BuildError::ZeroLimit { limit }),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_zero_that_keep_every_client_out_are_refused() {
        let (limits, zero) = (Limits::default, Duration::ZERO);
        for (limits, limit) in [
            (limits().max_connections(0), "max_connections"),
            (limits().max_connections_per_peer(0), "max_connections_per_peer"),
            (limits().handshake_timeout(zero), "handshake_timeout"),
            (limits().frame_timeout(zero), "frame_timeout"),
            (limits().write_timeout(zero), "write_timeout"),
        ] {
            assert_eq!(check(&limits), Err(BuildError::ZeroLimit { limit }));
            assert!(check(&limits).unwrap_err().to_string().contains(limit));
        }
        let limits = Limits::default().max_connections(1).handshake_timeout(None).max_in_flight_in_all(0);
        let limits = limits.drain_timeout(zero).slow_call(zero).buffered_bytes(0);
        assert_eq!(check(&limits), Ok(()));
    }
}
