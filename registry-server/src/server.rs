//! [`Server`]: the registry on its sockets, from the first to the last connection.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use farcall_registry::server::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::config::{Config, ConnectionLimits};
use crate::connection::{Connections, STUCK_LIMIT};
use crate::failure::Failure;
use crate::reload::Reload;
use crate::tls::{CurrentTls, TlsFiles};

/// How long requests that are under way may go on once it is to end.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How long to wait where accepting fails, as it does when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often the same trouble is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A registry that listens, and has not begun to answer.
pub struct Server {
    registry: Registry,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<CurrentTls>>,
    /// Whether the files and variables had tokens in them.
    guarded: bool,
    limits: ConnectionLimits,
    reload: Reload,
    reload_now: Arc<Notify>,
}

impl Server {
    /// Reads what is to be read, listens, and starts from the snapshot.
    ///
    /// # Errors
    ///
    /// [`Failure`]; nothing is left behind then.
    pub async fn bind(config: Config) -> Result<Self, Failure> {
        let secrets = config.tokens.read()?;
        let tls = config.tls.as_ref().map(TlsFiles::load).transpose()?.map(Arc::new);
        // Before the snapshot is touched: where another registry runs already, it is that one's.
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for place in config.listen_addresses() {
            let failed = |source| Failure::Listen { address: place.to_owned(), source };
            let listener = TcpListener::bind(place).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        let mut settings = config.registry.clone();
        if !config.tokens.is_empty() {
            settings = settings.tokens(secrets.tokens());
        }
        let registry = Registry::open(settings).await?;
        let guarded = secrets.guard_writing();
        let reload = Reload::new(registry.clone(), config.tokens, secrets, tls.clone());
        let reload_now = Arc::new(Notify::new());
        Ok(Self { registry, listeners, addresses, tls, guarded, limits: config.limits, reload, reload_now })
    }

    /// Where it listens, with the ports that it got.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same as `http://127.0.0.1:7100`, or `https://...` with TLS.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.addresses.iter().map(move |address| format!("{scheme}://{address}"))
    }

    /// The registry.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Notifying it has token files and certificates read again at once.
    #[must_use]
    pub fn reload_now(&self) -> Arc<Notify> {
        Arc::clone(&self.reload_now)
    }

    /// Whoever listens to the whole network should know what that means.
    pub(crate) fn warn_if_open(&self) {
        for address in self.addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()) {
            if !self.guarded {
                warn!(
                    %address,
                    "ANYBODY WHO REACHES THIS ADDRESS CAN REGISTER, DRAIN AND REMOVE INSTANCES: \
                     set --write-token-file, or listen on a loopback address"
                );
            } else if self.tls.is_none() {
                warn!(
                    %address,
                    "tokens travel in clear: set --tls-cert and --tls-key, or put a proxy with TLS before it"
                );
            }
        }
    }

    /// Answers until `stop` is ready; then it accepts no more, ends the watchers, writes the
    /// snapshot, and gives what is under way 3 s. Dropping this ends everything at once.
    ///
    /// # Errors
    ///
    /// The registry's own work ended, which it never should.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let tracker = TaskTracker::new();
        let stopping = CancellationToken::new();
        let cut = CancellationToken::new();
        let _on_drop = (stopping.clone().drop_guard(), cut.clone().drop_guard());

        let mut run = {
            let (registry, stopping) = (self.registry.clone(), stopping.clone());
            tokio::spawn(async move { registry.run(stopping.cancelled()).await })
        };
        tracker.spawn(stopping.clone().run_until_cancelled_owned(self.reload.run(self.reload_now)));
        let connections = Connections {
            router: self.registry.router(&self.addresses),
            tls: self.tls,
            header_timeout: self.limits.header_timeout,
            stuck_limit: STUCK_LIMIT,
            stop: stopping.clone(),
        };
        let room = Arc::new(Semaphore::new(self.limits.max_connections.min(Semaphore::MAX_PERMITS)));
        for listener in self.listeners {
            let accept =
                accept(listener, connections.clone(), Arc::clone(&room), tracker.clone(), cut.clone());
            tracker.spawn(stopping.clone().run_until_cancelled_owned(accept));
        }

        let mut stop = pin!(stop);
        let outcome = tokio::select! {
            () = &mut stop => Ok(()),
            ended = &mut run => Err(Failure::Other(match ended {
                Ok(()) => "the registry's own work ended".to_owned(),
                Err(error) => format!("the registry's own work failed: {error}"),
            })),
        };
        stopping.cancel();
        tracker.close();
        self.registry.close().await;
        if timeout(END_LIMIT, tracker.wait()).await.is_err() {
            info!(connections = tracker.len(), "cut off what is still under way");
            cut.cancel();
            tracker.wait().await;
        }
        // What the last requests changed.
        self.registry.close().await;
        if outcome.is_ok()
            && let Err(error) = run.await
        {
            error!(%error, "the registry's own work failed at its end");
        }
        outcome
    }
}

/// Accepts connections, for as long as it is polled. `room` bounds how many there are.
async fn accept(
    listener: TcpListener,
    connections: Connections,
    room: Arc<Semaphore>,
    tracker: TaskTracker,
    cut: CancellationToken,
) {
    let mut complaints = LogThrottle::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if complaints.are_due() {
                    warn!(%error, "a connection could not be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            // Closed at once: to be told so is better than to wait for nothing.
            if complaints.are_due() {
                warn!(%peer, "there are too many connections: max-connections");
            }
            continue;
        };
        let (connections, cut) = (connections.clone(), cut.clone());
        tracker.spawn(async move {
            cut.run_until_cancelled(connections.serve(stream, peer)).await;
            drop(permit);
        });
    }
}

/// Lets the same trouble be logged only now and then.
#[derive(Default)]
struct LogThrottle {
    last: Option<Instant>,
}

impl LogThrottle {
    fn are_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}
