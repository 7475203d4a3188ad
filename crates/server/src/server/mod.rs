//! The server as a whole: built, bound, served, stopped.

use farcall_transport::{Address, Listener};

use self::accept::AcceptLoop;
use self::drain::{drain, serve_until_shutdown};
use self::handle::ServerHandle;
use self::inner::ServerInner;
use crate::observe::span::note_disabled_spans;

mod accept;
pub(crate) mod advertisement;
mod assembly;
pub(crate) mod builder;
pub(crate) mod connections;
mod drain;
pub(crate) mod handle;
pub(crate) mod inner;
pub(crate) mod registrations;
pub(crate) mod shutdown_signal;
pub(crate) mod state;

/// A server that is bound to its addresses.
///
/// Nothing is accepted before [`Server::serve_until`] runs, though the kernel lets clients wait.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_server::Server;
///
/// let server = Server::builder()
///     .method("Arith.double", async |n: i64| n * 2)
///     .listen("tcp@127.0.0.1:0")
///     .bind()
///     .await?;
/// for address in server.addresses() {
///     println!("listening on {address}");
/// }
/// # let shutdown_signal = || std::io::Result::Ok(async {});
/// // `farcall_server::shutdown_signal`, for SIGTERM and SIGINT.
/// server.serve_until(shutdown_signal()?).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a server does nothing until `serve` or `serve_until` runs it"]
pub struct Server {
    listeners: Vec<Listener>,
    handle: ServerHandle,
}

impl Server {
    pub(crate) const fn new(listeners: Vec<Listener>, handle: ServerHandle) -> Self {
        Self { listeners, handle }
    }

    /// Returns the addresses that the server listens on, with the ports that it got.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
    }

    /// Returns a handle to observe the server while it runs, and to stop it.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until [`ServerHandle::stop`] is called. See [`Server::serve_until`].
    pub async fn serve(self) {
        self.serve_until(std::future::pending::<()>()).await;
    }

    /// Serves until `signal` is ready or [`ServerHandle::stop`] is called, then stops gracefully:
    /// accepts nothing more, sends goaway, finishes the calls in flight within the limits'
    /// `drain_timeout`, closes.
    /// Calls that have not ended by then are stopped and answered `cancelled`.
    /// [`shutdown_signal`](crate::shutdown_signal) is a signal for the usual case.
    ///
    /// A server that registers is registered while this runs. Stopping starts with taking that back,
    /// within about 2 s, and with the limits' `deregister_pause`; during both it accepts and serves as
    /// before, though its health is `draining`, so that no client is turned away that could not know
    /// better.
    ///
    /// When this is ready, nothing of the server runs any more, except for handlers that block a
    /// thread, which cannot be interrupted: after some seconds they are no longer waited for. If this
    /// is dropped instead, everything is stopped at once, without a goaway.
    pub async fn serve_until<T>(self, signal: impl Future<Output = T>) {
        note_disabled_spans();
        let Self { listeners, handle } = self;
        let _guard = KillOnDrop(handle.clone());
        let inner = handle.inner();
        let serving = async {
            let accepting = async {
                let loops = listeners.into_iter().map(|listener| AcceptLoop::new(listener, &handle).run());
                futures::future::join_all(loops).await;
                // A server without listeners still serves the streams that it is handed.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                // Dropped only with everything else.
                () = serve_until_shutdown(inner, signal) => {}
                // The connections that wait are the listeners', so dropping this loses none.
                () = accepting => {}
            }
            drain(inner).await;
        };
        tokio::select! {
            biased;
            // The first to be ready, and the end.
            () = serving => {}
            // Never ready; the samples that it has taken outlive it.
            () = inner.history.record(&inner.state.router) => {}
        }
    }
}

/// Stops all connections if the future that serves is dropped instead of being run to its end, and
/// announces in either case that the server has ended.
struct KillOnDrop(ServerHandle);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let inner: &ServerInner = self.0.inner();
        inner.kill();
        inner.ended.cancel();
    }
}
