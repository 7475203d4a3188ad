//! [`ServerHandle`]: observes a running server, hands it connections and calls, and stops it.

use std::fmt;
use std::sync::Arc;

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::Status;
use farcall_protocol::describe::{HealthStatus, MethodStats, ServiceInfo};
use farcall_transport::{PeerAddress, PeerKey, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connections::{Admission, ConnectionEntry, ConnectionPermit};
use super::inner::ServerInner;
use super::registrations::Registration;
use crate::call::env::flow_of_peer;
use crate::call::invocation::Invocation;
use crate::call::invoked_stream::InvokedStream;
use crate::call::offloaded_work::offload;
use crate::connection::Connection;
use crate::connection::handshake::{HandshakeOutcome, handshake, refuse};
use crate::observe::collect::collect;
use crate::observe::collect_streams;
use crate::observe::metrics::MethodMetrics;
use crate::observe::overview::Overview;
use crate::observe::streams::StreamMetrics;
use crate::overload::control::OverloadOverview;
use crate::service::handler::Response;

/// Observes a running server, hands it connections and calls, and stops it. Cloning is cheap.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_server::Server;
///
/// let server = Server::builder().method("Arith.double", async |n: i64| n * 2).build()?;
/// let handle = server.handle();
/// let serving = tokio::spawn(server.serve());
///
/// assert_eq!(handle.services()[0].name, "Arith");
/// assert_eq!((handle.connections(), handle.in_flight()), (0, 0));
/// handle.stop();
/// handle.ended().await;
/// # serving.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    inner: Arc<ServerInner>,
}

impl ServerHandle {
    pub(crate) fn new(inner: ServerInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn inner(&self) -> &ServerInner {
        &self.inner
    }

    /// Stops the server gracefully, as the end of [`Server::serve_until`](crate::Server::serve_until)
    /// does. Called before that, it makes it end at once.
    pub fn stop(&self) {
        let ServerInner { state, registrations, stop_requested, .. } = &*self.inner;
        stop_requested.cancel();
        // Clients that read the registry still come until the server is deregistered.
        if !registrations.are_running() {
            state.drain.send();
        }
    }

    /// Serves a stream that was opened elsewhere, such as by another protocol's upgrade. `peer` is
    /// the address that limits, logs and handlers see; [`PeerAddress::Memory`] if there is none.
    ///
    /// The stream counts among the server's connections. It is refused if there are too many, or if
    /// the server stops. It is served, as all connections, until the end of
    /// [`Server::serve_until`](crate::Server::serve_until); see [`ServerHandle::serve_io`] for streams
    /// of other types than [`Stream`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve_stream(&self, stream: Stream, peer: impl Into<PeerAddress>) {
        let ServerInner { state, connections, killed, .. } = &*self.inner;
        let peer = peer.into();
        let admission = connections.admit(&peer, stream.scheme(), &state.limits);
        match admission {
            Admission::Open(permit) => {
                state.tasks.spawn(serve_connection(Arc::clone(&self.inner), stream, permit));
            }
            Admission::Refused(status, refusal) => {
                debug!(%peer, %status, "refused");
                let (state, killed, mut stream) = (Arc::clone(state), killed.clone(), stream);
                self.inner.state.tasks.spawn(async move {
                    let _refusal = refusal;
                    killed.run_until_cancelled(refuse(&mut stream, &state.policy, &status)).await;
                });
            }
            Admission::Dropped => debug!(%peer, "closed: too many connections, and too many refusals"),
        }
    }

    /// Serves anything that reads and writes: a pipe in memory, a vsock, a tunnel. As
    /// [`ServerHandle::serve_stream`], which it calls.
    ///
    /// A client in the same process, over a pipe in memory:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use farcall_server::Server;
    /// use farcall_transport::PeerAddress;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let server = Server::builder().method("Arith.double", async |n: i64| n * 2).build()?;
    /// let handle = server.handle();
    /// let serving = tokio::spawn(server.serve());
    ///
    /// let (mut client, io) = tokio::io::duplex(64 * 1024);
    /// handle.serve_io(io, PeerAddress::Memory);
    /// // farcall's client takes the other end: `farcall_client::Connection::over(client)`. By hand,
    /// // an Option that asks for JSON is answered with the server's.
    /// let option = br#"{"codec":"application/json"}"#;
    /// client.write_all(&(option.len() as u32).to_be_bytes()).await?;
    /// client.write_all(option).await?;
    /// assert!(client.read_u32().await? > 0);
    /// assert_eq!(handle.connections(), 1);
    /// # drop(client);
    /// # handle.stop();
    /// # serving.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve_io(&self, io: impl AsyncRead + AsyncWrite + Send + 'static, peer: impl Into<PeerAddress>) {
        self.serve_stream(Stream::new(Box::pin(io)), peer);
    }

    /// Checks the credential of a call before it is [invoked](ServerHandle::invoke), which does not
    /// check it again: so that nothing large is read from clients that may not call.
    ///
    /// # Errors
    ///
    /// The status to answer: that of the server's [`Authenticate`](crate::Authenticate),
    /// `deadline_exceeded` if the check took longer than a handshake may or the caller waits, or
    /// `unavailable` if the server stops.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn identify(&self, invocation: Invocation) -> Result<Invocation, Status> {
        self.inner.local_calls.identify(invocation).await
    }

    /// Makes a call of one of this server's methods, through its layers and within its limits, as if
    /// it had come over a connection: it is authenticated, counted, stopped at its deadline, and
    /// waited for when the server stops. Dropping the future stops the handler.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn invoke(&self, invocation: Invocation) -> Response {
        self.inner.local_calls.invoke(invocation).await
    }

    /// Makes a call of a method that streams, under the same rules as [`ServerHandle::invoke`]. `max_streams` counts the
    /// calls from one client address. A call that was refused is a stream with its response only.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn invoke_stream(&self, invocation: Invocation) -> InvokedStream {
        self.inner.local_calls.invoke_stream(invocation).await
    }

    /// Does work that takes long, such as parsing a large text that a peer has sent, on the threads where slow handlers are
    /// polled: peers take turns there, and a core is left to quick calls. `None` if the work has panicked, or the runtime
    /// has ended. Work that no thread has taken is dropped with the future.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), farcall_server::BuildError> {
    /// use farcall_server::Server;
    /// use farcall_transport::PeerAddress;
    ///
    /// let server = Server::builder().build()?;
    /// let words = server.handle().offload(PeerAddress::Memory.key(), || "a long text".split(' ').count());
    /// assert_eq!(words.await, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn offload<T, W>(
        &self,
        peer: PeerKey,
        work: W,
    ) -> impl Future<Output = Option<T>> + Send + 'static + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        offload(Arc::clone(&self.inner.state), flow_of_peer(peer), work)
    }

    /// Returns the descriptions of the services.
    #[must_use]
    pub fn services(&self) -> &[ServiceInfo] {
        self.inner.state.router.services()
    }

    /// Returns the types of the methods, as `farcall.schema` answers them. They are traced when they are asked for first.
    ///
    /// # Errors
    ///
    /// `unavailable`: the runtime is shutting down.
    pub async fn schema(&self) -> Result<Arc<farcall_schema::Document>, Status> {
        let router = &self.inner.state.router;
        router.schema().get(router.services()).await.map(|traced| traced.document())
    }

    /// Returns statistics of each method, as `farcall.stats` answers them.
    #[must_use]
    pub fn stats(&self) -> Vec<MethodStats> {
        self.inner.state.router.stats()
    }

    /// Returns metrics of each method, as counts that can be added up over servers.
    #[must_use]
    pub fn method_metrics(&self) -> Vec<MethodMetrics> {
        self.inner.state.router.metrics()
    }

    /// Returns a snapshot of what the server is doing, and has done lately. It costs some microseconds
    /// for each method, connection and call in flight; calls are not held up by it.
    #[must_use]
    pub fn overview(&self) -> Overview {
        collect(&self.inner)
    }

    /// Waits until the server has ended: [`Server::serve_until`](crate::Server::serve_until) is
    /// over, or was dropped. What answers in addition, such as a health page, can continue until then.
    pub async fn ended(&self) {
        self.inner.ended.cancelled().await;
    }

    /// Returns the server's health: `draining` once it stops.
    #[must_use]
    pub fn health(&self) -> HealthStatus {
        self.inner.state.router.health()
    }

    /// Returns the server's registrations, with the state of each.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.inner.registrations.list()
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.connections.len()
    }

    /// Returns the number of calls that have tasks at this moment, over all connections.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    /// Returns the number of calls of methods that are declared `once` that run at this moment, also those whose callers
    /// have gone.
    #[must_use]
    pub fn once_in_flight(&self) -> usize {
        self.inner.state.once.running()
    }

    /// Returns how often each limit that connections share has refused a call or a response, by the
    /// name of its setting, such as `max_in_flight_per_peer`.
    #[must_use]
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.inner.state.refusals()
    }

    /// Returns the state of the adaptive limit; `None` without [`Limits::adaptive`](crate::Limits::adaptive).
    #[must_use]
    pub fn overload(&self) -> Option<OverloadOverview> {
        self.inner.state.overload.as_ref().map(|overload| overload.overview())
    }

    /// Returns the number of connections that were closed because they held memory that others needed,
    /// for peers that did not read or did not complete their messages.
    #[must_use]
    pub fn shed_connections(&self) -> u64 {
        self.inner.connections.shed_count()
    }

    /// Returns the number of open streams, and the counts of items since the server was built.
    #[must_use]
    pub fn stream_metrics(&self) -> StreamMetrics {
        collect_streams::metrics(&self.inner)
    }

    /// Returns the size of the buffers of all connections, in bytes, counted in steps of 4 KiB for
    /// each.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.inner.state.memory.used()
    }
}

/// The task of a connection: its handshake, then the connection itself.
async fn serve_connection(inner: Arc<ServerInner>, mut stream: Stream, permit: ConnectionPermit) {
    let ServerInner { state, killed, .. } = &*inner;
    let ConnectionEntry { id, calls, stats } = permit.entry.clone();
    let peer = &*stats.peer;
    let outcome = match killed.run_until_cancelled(handshake(&mut stream, state, peer)).await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => return debug!(peer, failure = %error, "handshake failed"),
        None => return,
    };
    let HandshakeOutcome { negotiated, input, identity } = outcome;
    let caller = identity.as_ref().map(Identity::name);
    debug!(peer, caller, codec = %negotiated.codec, id, "connected");
    let info = ConnectionInfo::new(id, peer)
        .with_peer_key(permit.peer_key())
        .with_tls(stream.tls().cloned())
        .with_identity(identity);
    let (stats, state) = (Arc::clone(&stats), Arc::clone(state));
    let end = Connection::new(stream, input, negotiated, info, calls, stats, state).await;
    debug!(peer, id, %end, "disconnected");
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("connections", &self.connections())
            .field("registrations", &self.inner.registrations)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, duplex, join};
    use tokio_util::io::StreamReader;

    use super::*;
    use crate::Server;

    #[tokio::test]
    async fn stream_that_is_not_unpin_is_served() {
        let server = Server::builder().build().unwrap();
        let handle = server.handle();
        let serving = tokio::spawn(server.serve());
        let (mut client, writer) = duplex(1024);
        // An async block is not `Unpin`.
        let input = futures::stream::once(async {
            let option = br#"{"codec":"application/json"}"#;
            let frame = [&(option.len() as u32).to_be_bytes(), &option[..]].concat();
            std::io::Result::Ok(Bytes::from(frame))
        });
        handle.serve_io(join(StreamReader::new(input), writer), PeerAddress::Memory);
        assert!(client.read_u32().await.unwrap() > 0, "the server's Option");
        handle.stop();
        serving.await.unwrap();
    }
}
