//! [`CallEnv`]: what a call needs of its connection and of the server.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use farcall_context::ConnectionInfo;
use farcall_protocol::{
    ByteStr, Code, Compression, CompressionError, Flags, FrontMessage, Kind, Negotiated, Status, StreamTerms,
};
use farcall_transport::PeerKey;

use super::fair_queue::Flow;
use super::in_flight::{InFlightCalls, LOCAL_CONNECTION_ID};
use crate::observe::span::CallSpan;
use crate::server::state::ServerState;
use crate::service::judgement::ArgumentSize;
use crate::service::method::Method;

/// The connection that a call came over, and its server. It is cloned only when a call leaves the
/// connection's task.
#[derive(Clone)]
pub(crate) struct CallEnv {
    pub(crate) calls: Arc<InFlightCalls>,
    pub(crate) negotiated: Arc<Negotiated>,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) server: Arc<ServerState>,
}

impl CallEnv {
    /// Checks the limits for one more call, and finds its method, which is probably the one that was found `last`. `bytes` is
    /// the size of its arguments and metadata, which the call holds twice: as received, and decoded.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    #[inline]
    pub(crate) fn admit(
        &self,
        method: &ByteStr,
        bytes: usize,
        last: &mut usize,
    ) -> Result<&Arc<Method>, Status> {
        let Self { calls, negotiated, server, .. } = self;
        // The server's limit first: for calls made in this process, both limits are the same number.
        server.check_places(calls)?;
        if calls.in_flight() >= negotiated.max_in_flight.get() {
            return Err(server.no_place_on_connection(negotiated.max_in_flight));
        }
        server.check_memory(calls, 2 * bytes)?;
        server.router.find_again(method, last)
    }

    /// Admits a usual call at once: one that is far from all limits, has neither a place to wait for nor a span, and whose
    /// method is known to be quick. `None` for all others, which [`CallEnv::admit`] admits or refuses.
    #[inline]
    pub(crate) fn admit_usual(
        &self,
        front: &FrontMessage,
        name: &[u8],
        last: &mut usize,
    ) -> Option<&Arc<Method>> {
        let Self { calls, negotiated, server, .. } = self;
        let is_usual = front.kind == Kind::Request
            && Flags::IDEMPOTENT.contains(front.flags)
            && server.overload.is_none()
            && !CallSpan::may_be_seen();
        let is_unchecked = server.has_unchecked_places()
            && calls.in_flight() < negotiated.max_in_flight.get()
            && calls.memory().is_unchecked(2 * front.body_len());
        if !is_usual || !is_unchecked {
            return None;
        }
        let method = server.router.find_received(name, last)?;
        method.judgement(ArgumentSize::of(front.body_len())).is_quick().then_some(method)
    }

    /// Does the same as [`CallEnv::admit`] for a call that streams, on a connection with these terms. What it grants to the
    /// caller is checked as well.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    pub(crate) fn admit_stream(
        &self,
        method: &ByteStr,
        bytes: usize,
        terms: StreamTerms,
    ) -> Result<&Arc<Method>, Status> {
        let Self { calls, server, .. } = self;
        let found = server.router.find(method)?;
        if !found.streams() {
            let message = format!("`{}` streams no items, and this is a streaming request", found.name);
            return Err(Status::refused(Code::InvalidArgument, message));
        }
        server.check_places(calls)?;
        let max = terms.max_streams.get();
        // Calls that came over no connection are counted by their clients.
        if calls.streaming() >= max && calls.streaming_from(self.info.peer_key()) >= max {
            return Err(server.no_place_for_stream(terms.max_streams, self.info.id));
        }
        let window = if found.takes_items { terms.receive_window.get() } else { 0 };
        server.check_memory(calls, window + 2 * bytes)?;
        Ok(found)
    }

    /// Returns the origin of a call of `method`, for a fair share of the threads that poll slow handlers.
    pub(crate) fn flow(&self, method: &Arc<Method>) -> Flow {
        flow_of(&self.info, Arc::as_ptr(method).addr())
    }

    /// Returns a number that distinguishes the client of the call from the server's others: its connection, or, if
    /// it came over none, the connection to whatever passed the call on.
    pub(crate) fn client_id(&self) -> u64 {
        client_id(&self.info)
    }

    /// Returns a number that distinguishes the caller from others, also if it has several connections: that of its identity,
    /// or, if it has none, of its connection.
    pub(crate) fn caller_id(&self) -> u64 {
        let Some(identity) = &self.info.identity else { return self.client_id() };
        number_of(identity.name())
    }

    /// Returns the length of a compressed body once it is decompressed, as the body states it.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, `refused`, if no compression was negotiated or the length is not possible.
    pub(crate) fn decompressed_len(&self, body: &Bytes) -> Result<usize, Status> {
        self.compression()?.decompressed_len(body, self.negotiated.receive_limit).map_err(malformed)
    }

    /// Decompresses the body of a request.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, `refused`, if no compression was negotiated or the body is malformed.
    pub(crate) fn decompress(&self, body: &Bytes) -> Result<Bytes, Status> {
        self.compression()?.decompress(body, self.negotiated.receive_limit).map_err(malformed)
    }

    fn compression(&self) -> Result<Compression, Status> {
        self.negotiated.compression.ok_or_else(|| {
            Status::refused(Code::InvalidArgument, "a compressed body, though none was agreed on")
        })
    }
}

/// Returns the origin of a call over this connection.
fn flow_of(info: &ConnectionInfo, method: usize) -> Flow {
    Flow { peer: number_of(&info.peer_key()), client: client_id(info), method }
}

/// Returns the origin of work for a peer that is no call.
pub(crate) fn flow_of_peer(peer: PeerKey) -> Flow {
    let number = number_of(&peer);
    Flow { peer: number, client: number, method: 0 }
}

fn client_id(info: &ConnectionInfo) -> u64 {
    if info.id == LOCAL_CONNECTION_ID { number_of(&*info.peer) } else { info.id }
}

/// Returns a number for a name or a peer that is not that of a connection: those are numbered from 1, and do not get as far.
fn number_of(name: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() | 1 << 63
}

#[expect(clippy::needless_pass_by_value, reason = "it is an argument of `map_err`")]
fn malformed(error: CompressionError) -> Status {
    Status::refused(Code::InvalidArgument, error.to_string())
}

#[cfg(test)]
mod tests {
    use farcall_transport::PeerAddress;

    use super::*;

    fn flow(id: u64, peer: PeerAddress) -> Flow {
        flow_of(&ConnectionInfo::new(id, peer).with_peer_key(peer.key()), 0)
    }

    fn tcp(peer: &str) -> PeerAddress {
        PeerAddress::Tcp(peer.parse().unwrap())
    }

    #[test]
    fn slow_polls_of_one_peer_queue_together_over_all_its_connections() {
        for (one, same, other) in [
            (tcp("10.0.0.1:7"), tcp("10.0.0.1:8"), tcp("10.0.0.2:7")),
            (tcp("[2001:db8::1]:7"), tcp("[2001:db8::2]:7"), tcp("[2001:db8:0:1::1]:7")),
            (
                PeerAddress::unix(Some(1), Some(7)),
                PeerAddress::unix(Some(2), Some(7)),
                PeerAddress::unix(Some(3), Some(8)),
            ),
            (PeerAddress::Memory, PeerAddress::Memory, PeerAddress::unix(None, None)),
        ] {
            let [one, same, other] = [flow(1, one), flow(2, same), flow(3, other)];
            assert!(one.peer == same.peer && one.client != same.client, "{one:?} {same:?}");
            assert_ne!(one.peer, other.peer);
        }
        // Calls of the gateway are their client's.
        let [direct, passed_on] = [1, LOCAL_CONNECTION_ID].map(|id| flow(id, tcp("10.0.0.1:7")));
        assert_eq!(direct.peer, passed_on.peer);
    }
}
