//! [`Connections`]: accepts connections within a limit, and ends them in order at shutdown.
//!
//! What is served on a connection is left to the caller.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use farcall_transport::log::{LogThrottle, PeerLogThrottle};
use farcall_transport::{Listener, PeerAddress, PeerKey, Stream, is_exhaustion, is_transient};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::connection_table::{ConnectionActivity, ConnectionTable};

/// The connections that are accepted before others run: the tasks of all of them are ready, each with a head or a handshake
/// to read, and what becomes ready meanwhile waits for these.
const ACCEPTED_PER_TURN: usize = 16;
/// The pause after a failed accept, so that a process without free file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time between log lines about it.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A source of incoming connections.
pub trait Accept {
    /// The stream of a connection.
    type Io;
    /// The peer's address.
    type Peer: fmt::Display;

    /// Waits for the next connection. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The operating system could not accept a connection; later ones may succeed.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Self::Peer)>> + Send;

    /// Returns what peers share the connections by.
    fn peer_key(peer: &Self::Peer) -> PeerKey;
}

impl Accept for Listener {
    type Io = Stream;
    type Peer = PeerAddress;

    async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        Self::accept(self).await
    }

    fn peer_key(peer: &PeerAddress) -> PeerKey {
        peer.key()
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;
    type Peer = std::net::SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, std::net::SocketAddr)> {
        Self::accept(self).await
    }

    fn peer_key(peer: &std::net::SocketAddr) -> PeerKey {
        PeerAddress::Tcp(*peer).key()
    }
}

/// The connections of a server: how many there may be, and how they end. A clone shares all of it.
///
/// Peers, told apart by their [`PeerKey`]s, share the connections: one may have 7 for each that is still free, which is
/// 7/8 of all if it is alone. Where there is no room for a connection, an idle one of the peer that has most is closed
/// for it: first those that never had a request, then the longest idle. A connection beyond that is closed at once.
///
/// Every connection has its own task. [`Connections::shut_down`] ends them gracefully;
/// [`Connections::abort_on_drop`] ends them at once if the server's future is dropped.
#[derive(Clone, Debug)]
pub struct Connections {
    max_connections: Option<usize>,
    table: ConnectionTable,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    abort: CancellationToken,
    refused: Arc<PeerLogThrottle>,
}

impl Connections {
    /// Creates a set of at most `max_connections` connections; `None` means no limit.
    #[must_use]
    pub fn new(max_connections: impl Into<Option<usize>>) -> Self {
        let max_connections = max_connections.into();
        Self {
            max_connections,
            table: ConnectionTable::new(max_connections),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            refused: Arc::default(),
        }
    }

    /// Returns the token that is cancelled when shutdown begins: a connection should then end after
    /// its current request.
    #[must_use]
    pub const fn shutdown_token(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Accepts connections and spawns `serve` for each, 16 of them before other tasks run. Runs until it is dropped, which
    /// loses no connection: each has its task by then.
    ///
    /// `serve` tells by the [`ConnectionActivity`] when requests are under way, as
    /// [`serve_http1`](crate::serve_http1) does: its future is dropped while none is if another connection needs room.
    pub async fn accept<L, S, F>(&self, listener: &L, serve: S)
    where
        L: Accept,
        S: Fn(L::Io, L::Peer, ConnectionActivity) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let pausing = LogThrottle::with_rate(1, ACCEPT_LOG_INTERVAL);
        for number in 1_usize.. {
            if number.is_multiple_of(ACCEPTED_PER_TURN) {
                yield_now().await;
            }
            match listener.accept().await {
                Ok((io, peer)) => {
                    let key = L::peer_key(&peer);
                    let Some(slot) = self.table.open(key) else {
                        // Closed at once: better than letting the peer wait for an answer.
                        drop(io);
                        self.log_refused(&peer, key);
                        continue;
                    };
                    // Boxed: a future that wraps another one is twice as large, and idle connections are many.
                    let connection = Box::pin(serve(io, peer, slot.activity()));
                    let connection = slot.closed().run_until_cancelled_owned(connection);
                    let connection = self.abort.clone().run_until_cancelled_owned(connection);
                    self.tasks.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) if is_transient(&error) => {
                    debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    if let Some(line) = pausing.permit() {
                        let kind = if is_exhaustion(&error) { "out of resources" } else { "failed" };
                        warn!(%error, kind, suppressed = line.suppressed, "accepting pauses");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn log_refused(&self, peer: &impl fmt::Display, key: PeerKey) {
        if let Some(line) = self.refused.permit(key) {
            warn!(
                %peer,
                of_peer = self.table.connections_of(key),
                max_connections = self.max_connections,
                suppressed = line.suppressed,
                "refused: too many connections, in all or for this peer beside the others"
            );
        }
    }

    /// Spawns a task that is dropped when shutdown begins, an accept loop for example.
    pub fn spawn_until_shutdown(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.shutdown.clone().run_until_cancelled_owned(task));
    }

    /// Returns a guard that ends everything at once when it is dropped.
    pub fn abort_on_drop(&self) -> AbortGuard {
        AbortGuard { _shutdown: self.shutdown.clone().drop_guard(), _abort: self.abort.clone().drop_guard() }
    }

    /// Begins the shutdown: [`Connections::shutdown_token`] is cancelled.
    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
    }

    /// Begins the shutdown, waits at most `limit` (`None`: without limit) for the tasks to end, then
    /// aborts the others. Returns how many were aborted.
    pub async fn shut_down(&self, limit: Option<Duration>) -> usize {
        self.begin_shutdown();
        let ended = self.tasks.wait();
        match limit {
            None => ended.await,
            Some(limit) if timeout(limit, ended).await.is_err() => {
                let aborted = self.tasks.len();
                self.abort.cancel();
                self.tasks.wait().await;
                return aborted;
            }
            Some(_) => {}
        }
        0
    }
}

/// Aborts the connections of a server when it is dropped: without it, the tasks of a server whose
/// future is dropped would go on.
#[derive(Debug)]
#[must_use = "dropping the guard aborts all connections"]
pub struct AbortGuard {
    _shutdown: DropGuard,
    _abort: DropGuard,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;
    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;

    /// Hands out numbers in place of connections.
    struct Numbers(tokio::sync::Mutex<UnboundedReceiver<u32>>);

    impl Accept for Numbers {
        type Io = u32;
        type Peer = &'static str;

        async fn accept(&self) -> io::Result<(u32, &'static str)> {
            match self.0.lock().await.recv().await {
                Some(number) => Ok((number, "peer")),
                None => std::future::pending().await,
            }
        }

        fn peer_key(_: &&'static str) -> PeerKey {
            PeerAddress::Memory.key()
        }
    }

    fn numbers(count: u32) -> Numbers {
        let (sender, receiver) = mpsc::unbounded_channel();
        for number in 0..count {
            sender.send(number).unwrap();
        }
        Numbers(tokio::sync::Mutex::new(receiver))
    }

    async fn accept_all<F>(connections: &Connections, count: u32, serve: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = numbers(count);
        let accept = connections.accept(&listener, |_, _, activity| {
            let serve = serve();
            async move {
                let _busy = activity.busy();
                serve.await;
            }
        });
        timeout(Duration::from_secs(1), accept).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn connections_beyond_the_limit_are_closed() {
        let connections = Connections::new(2);
        accept_all(&connections, 5, std::future::pending::<()>).await;
        assert_eq!(connections.tasks.len(), 2);
        let unlimited = Connections::new(None);
        accept_all(&unlimited, 5, std::future::pending::<()>).await;
        assert_eq!(unlimited.tasks.len(), 5);
    }

    #[tokio::test]
    async fn other_tasks_run_while_many_connections_come() {
        let connections = Connections::new(None);
        let (listener, served) = (numbers(1000), Arc::new(AtomicUsize::new(0)));
        let accepting = connections.clone();
        let counter = Arc::clone(&served);
        connections.spawn_until_shutdown(async move {
            let serve = |_, _, _| {
                counter.fetch_add(1, Ordering::Relaxed);
                std::future::ready(())
            };
            accepting.accept(&listener, serve).await;
        });
        let mut turns = Vec::new();
        while served.load(Ordering::Relaxed) < 1000 {
            let before = served.load(Ordering::Relaxed);
            yield_now().await;
            turns.push(served.load(Ordering::Relaxed) - before);
        }
        assert!(turns.iter().all(|turn| *turn <= ACCEPTED_PER_TURN), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ended_connection_makes_room() {
        let connections = Connections::new(1);
        for _ in 0..3 {
            accept_all(&connections, 1, || async {}).await;
            assert_eq!(connections.table.len(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_make_room() {
        let connections = Connections::new(3);
        let (listener, served) = (numbers(10), Arc::new(std::sync::Mutex::new(Vec::new())));
        let accept = connections.accept(&listener, |number, _, _idle| {
            let served = Arc::clone(&served);
            async move {
                served.lock().unwrap().push(number);
                std::future::pending::<()>().await;
            }
        });
        timeout(Duration::from_secs(1), accept).await.unwrap_err();
        assert_eq!((connections.table.len(), connections.tasks.len()), (3, 3));
        assert!(served.lock().unwrap().ends_with(&[7, 8, 9]));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_connections_that_end() {
        let connections = Connections::new(None);
        let shutdown = connections.shutdown_token().clone();
        accept_all(&connections, 3, || shutdown.clone().cancelled_owned()).await;
        assert_eq!(connections.shut_down(Some(Duration::from_secs(3))).await, 0);
        assert!(connections.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_aborts_connections_after_its_limit() {
        let connections = Connections::new(None);
        accept_all(&connections, 3, std::future::pending::<()>).await;
        let began = tokio::time::Instant::now();
        assert_eq!(connections.shut_down(Some(Duration::from_secs(3))).await, 3);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(connections.tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_without_a_limit_waits_for_the_last_connection() {
        let connections = Connections::new(None);
        let release = Arc::new(Notify::new());
        accept_all(&connections, 1, || Arc::clone(&release).notified_owned()).await;
        let shut_down = connections.shut_down(None);
        let mut shut_down = std::pin::pin!(shut_down);
        timeout(Duration::from_secs(3600), shut_down.as_mut()).await.unwrap_err();
        release.notify_one();
        assert_eq!(shut_down.await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_guard_aborts_connections() {
        let connections = Connections::new(None);
        let guard = connections.abort_on_drop();
        accept_all(&connections, 2, std::future::pending::<()>).await;
        drop(guard);
        connections.begin_shutdown();
        connections.tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn spawned_task_ends_at_shutdown() {
        let connections = Connections::new(None);
        connections.spawn_until_shutdown(std::future::pending());
        assert_eq!(connections.shut_down(None).await, 0);
    }
}
