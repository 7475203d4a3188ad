//! The server: built, bound, served, stopped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farcall_context::{ConnectionInfo, Identity};
use farcall_protocol::describe::{HealthStatus, MethodStats, ServiceInfo};
use farcall_transport::{Address, Listener, PeerAddress, Stream, is_exhaustion, is_transient};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::call::in_flight::Signal;
use crate::call::invocation::Invoked;
use crate::connection::Connection;
use crate::connection::handshake::{Shaken, refuse, shake};
use crate::error::BuildError;
use crate::observe::history::History;
use crate::observe::metrics::MethodMetrics;
use crate::server::advertisement::Advertisement;
use crate::server::builder::ServerBuilder;
use crate::server::connections::{Admission, Open, Place, Places};
use crate::server::registrations::{Registration, Registrations};
use crate::server::state::Core;

pub(crate) mod advertisement;
pub(crate) mod builder;
pub(crate) mod connections;
pub(crate) mod registrations;
pub(crate) mod state;

/// A server that is bound to its addresses.
///
/// Nothing is accepted before [`Server::serve_until`] runs, though the kernel lets clients wait.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<Listener>,
    handle: ServerHandle,
}

/// Looks at a running server, hands it connections, and stops it. Cloning is cheap.
#[derive(Clone)]
pub struct ServerHandle {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) places: Arc<Places>,
    /// The calls that came by no connection.
    pub(crate) invoked: Arc<Invoked>,
    pub(crate) history: History,
    pub(crate) addresses: Vec<Address>,
    registrations: Registrations,
    /// Has the server deregister, and drain then.
    asked_to_stop: CancellationToken,
    /// Refuses handshakes.
    pub(crate) stop: CancellationToken,
    /// Ends handshakes and refusals where they are.
    kill: CancellationToken,
    /// Nothing is served any more.
    ended: CancellationToken,
}

/// How long accepting pauses where the system has no file descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// After so long without trouble, trouble with accepting is news again, and logged.
const EXHAUSTED_CALM: Duration = Duration::from_secs(10);
/// How long connections may take to answer the calls that were cut off, and to close.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Server {
    /// Begins to describe a server.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    pub(crate) fn new(
        core: Arc<Core>,
        listeners: Vec<Listener>,
        advertisement: Advertisement,
    ) -> Result<Self, BuildError> {
        let listening: Vec<_> = listeners.iter().map(|listener| listener.address().clone()).collect();
        let registrations = advertisement.registrations(core.router.services(), &listening)?;
        let shared = Shared {
            core,
            places: Arc::default(),
            invoked: Arc::default(),
            history: History::new(),
            addresses: listening,
            registrations,
            asked_to_stop: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        Ok(Self { listeners, handle: ServerHandle { shared: Arc::new(shared) } })
    }

    /// The addresses that it listens on, with the ports that it got.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
    }

    /// A handle to look at the server while it runs, and to stop it.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until [`ServerHandle::stop`] is called. See [`Server::serve_until`].
    pub async fn serve(self) {
        self.serve_until(std::future::pending::<()>()).await;
    }

    /// Serves until `signal` is ready or [`ServerHandle::stop`] is called, then stops gracefully:
    /// accepts nothing more, says goaway, finishes what is under way within the limits'
    /// `drain_timeout`, closes. What has not ended by then is stopped and answered `cancelled`.
    ///
    /// Where the server registers, it does so while this runs. Stopping begins with taking that
    /// back, in at most some 2 s, and with the limits' `deregister_pause`; during both it accepts
    /// and serves as before, though its health is `draining`, so that no client is turned away that
    /// could not know better.
    ///
    /// When this is ready, nothing of the server runs any more, but for handlers that block a
    /// thread, which nobody can end: after some seconds they are no longer waited for. Where this
    /// is dropped instead, all of it is stopped at once, without a goodbye.
    pub async fn serve_until<T>(self, signal: impl Future<Output = T>) {
        let Self { listeners, handle } = self;
        let _guard = KillOnDrop(handle.clone());
        let Shared { history, core, .. } = &*handle.shared;
        let serving = async {
            let accepting = async {
                futures::future::join_all(listeners.into_iter().map(|listener| handle.accept(listener)))
                    .await;
                // Without a listener there still is what `serve_stream` brings.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                // Accepting holds what it needs in the listeners, and loses nothing where it ends.
                () = accepting => {}
                () = handle.until_stopped(signal) => {}
            }
            handle.drain().await;
        };
        tokio::select! {
            () = serving => {}
            // Never ready; what it has looked at is kept where it is dropped.
            () = history.keep(&core.router) => {}
        }
    }
}

impl ServerHandle {
    /// Stops the server gracefully, as the end of [`Server::serve_until`] does. Called before
    /// that, it has nothing served.
    pub fn stop(&self) {
        let Shared { registrations, asked_to_stop, stop, .. } = &*self.shared;
        asked_to_stop.cancel();
        // Where it is registered, clients that could not know still get in until it no longer is.
        if !registrations.are_running() {
            stop.cancel();
        }
    }

    /// Serves a stream that was opened elsewhere: in memory, for tests, or by another protocol's
    /// upgrade. The stream counts among the server's connections; one for which there is no
    /// place, or that comes when the server stops, is told so.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve_stream(&self, stream: Stream, peer: PeerAddress) {
        let Shared { core, places, kill, .. } = &*self.shared;
        let admission = places.admit(&peer, stream.scheme(), &core.limits);
        let peer = peer.to_string();
        match admission {
            Admission::Open(place) => {
                core.tasks.spawn(self.clone().serve_connection(stream, place));
            }
            Admission::Refused(status, refusal) => {
                debug!(peer, %status, "refused");
                let (core, kill, mut stream) = (Arc::clone(core), kill.clone(), stream);
                self.shared.core.tasks.spawn(async move {
                    let _refusal = refusal;
                    kill.run_until_cancelled(refuse(&mut stream, &core.terms, &status)).await;
                });
            }
            Admission::Dropped => debug!(peer, "closed: too many connections, and too many told so"),
        }
    }

    /// What the server offers.
    #[must_use]
    pub fn services(&self) -> &[ServiceInfo] {
        self.shared.core.router.services()
    }

    /// The figures of each method.
    #[must_use]
    pub fn stats(&self) -> Vec<MethodStats> {
        self.shared.core.router.stats()
    }

    /// The figures of each method, as counts that can be added up over servers.
    #[must_use]
    pub fn figures(&self) -> Vec<MethodMetrics> {
        self.shared.core.router.figures()
    }

    /// Ready when the server has ended: [`Server::serve_until`] is over, or was dropped. What answers
    /// beside it, such as a health page, can go on until then.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Whether it takes calls.
    #[must_use]
    pub fn health(&self) -> HealthStatus {
        self.shared.core.router.health()
    }

    /// The server's registrations, and how each stands.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.shared.registrations.list()
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.places.open()
    }

    /// Calls that run in tasks of their own at this moment, over all connections.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.core.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes in the buffers of all connections, in steps of 4 KiB for each.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.core.budget.used()
    }

    async fn accept(&self, listener: Listener) {
        let mut failed: Option<Instant> = None;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.serve_stream(stream, peer),
                Err(error) if is_transient(&error) => {
                    debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    // One line for each time that it begins, however long it lasts, and however
                    // often a place comes free and is taken meanwhile.
                    let now = Instant::now();
                    if failed.replace(now).is_none_or(|last| now - last > EXHAUSTED_CALM) {
                        let kind = if is_exhaustion(&error) { "out of resources" } else { "failed" };
                        warn!(address = %listener.address(), %error, kind, "accepting pauses");
                    }
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(self, mut stream: Stream, place: Place) {
        let Shared { core, stop, kill, .. } = &*self.shared;
        let Open { id, calls, facts } = place.open.clone();
        let peer = &*facts.peer;
        let shaking = shake(&mut stream, core, peer, stop);
        let Shaken { negotiated, input, identity } = match kill.run_until_cancelled(shaking).await {
            Some(Ok(shaken)) => shaken,
            Some(Err(failure)) => return debug!(peer, %failure, "handshake failed"),
            None => return,
        };
        let caller = identity.as_ref().map(Identity::name);
        debug!(peer, caller, codec = %negotiated.codec, id, "connected");
        let info = ConnectionInfo::new(id, peer).with_tls(stream.tls().cloned()).with_identity(identity);
        let connection =
            Connection::new(stream, input, negotiated, info, calls, Arc::clone(&facts), Arc::clone(core));
        let end = connection.await;
        debug!(peer, id, %end, "disconnected");
    }

    /// Is registered until the server is to stop, and no longer when this is ready.
    async fn until_stopped<T>(&self, signal: impl Future<Output = T>) {
        let Shared { core, registrations, asked_to_stop, .. } = &*self.shared;
        if asked_to_stop.is_cancelled() {
            return;
        }
        let running = registrations.start();
        tokio::select! {
            // Both only wait.
            _ = signal => {}
            () = asked_to_stop.cancelled() => {}
        }
        // Whoever asks, such as a load balancer, is not to send anybody here any more.
        core.router.drain();
        running.end(core.limits.deregister_pause).await;
    }

    async fn drain(&self) {
        let Shared { core, places, invoked, stop, .. } = &*self.shared;
        core.router.drain();
        core.tasks.close();
        stop.cancel();
        places.close(Signal::Drain);
        let limit = core.limits.drain_timeout;
        if timeout(limit, core.tasks.wait()).await.is_ok() {
            return;
        }
        let (in_flight, connections) = (self.in_flight(), self.connections());
        warn!(?limit, in_flight, connections, "cutting off what has not ended");
        places.cut();
        invoked.cut();
        if timeout(STOP_GRACE, core.tasks.wait()).await.is_ok() {
            return;
        }
        self.kill();
        if timeout(STOP_GRACE, core.tasks.wait()).await.is_err() {
            warn!(in_flight = self.in_flight(), "handlers do not end: they block a thread");
        }
    }

    /// Stops everything at once.
    fn kill(&self) {
        let Shared { core, places, invoked, stop, kill, .. } = &*self.shared;
        core.router.drain();
        stop.cancel();
        kill.cancel();
        places.close(Signal::Stop);
        invoked.close();
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("connections", &self.connections())
            .field("registrations", &self.shared.registrations)
            .finish_non_exhaustive()
    }
}

/// Stops all connections where the future that serves is dropped instead of being run to its end, and
/// says in either case that it has ended.
struct KillOnDrop(ServerHandle);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
        self.0.shared.ended.cancel();
    }
}
