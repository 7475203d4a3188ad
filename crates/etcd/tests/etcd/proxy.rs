//! [`Proxy`]: a connection to an etcd that can be cut, frozen, or answered falsely.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use farcall_test_support::ending::OpenConnections;
use farcall_test_support::wait::within_patience;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    connections: Arc<OpenConnections>,
    forwarded: Arc<watch::Sender<Forwarded>>,
    // Ends all its connections when it is dropped.
    _tasks: JoinSet<()>,
}

/// The numbers of requests that were forwarded.
#[derive(Default)]
struct Forwarded {
    /// Those that renew a lease.
    renewals: usize,
    /// Those that read keys.
    reads: usize,
}

/// The proxy's treatment of requests.
#[derive(Clone, Default)]
pub(crate) enum Mode {
    #[default]
    Forward,
    /// Connections are closed as they come.
    Refuse,
    /// Connections with a watch carry no more answers, and stay open.
    FreezeWatches,
    /// All requests are answered with this.
    Lie(Lie),
    /// Watches are answered with this.
    LieToWatches(Lie),
}

#[derive(Clone)]
pub(crate) enum Lie {
    /// These bytes, then the end of the connection.
    Complete(String),
    /// These bytes, then silence.
    ThenSilence(String),
    /// These bytes, then others without end.
    ThenEndless(String),
}

impl Proxy {
    /// Creates a proxy in front of `target`, which is `host:port`.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::default()));
        let connections = Arc::<OpenConnections>::default();
        let forwarded = Arc::<watch::Sender<Forwarded>>::default();
        let mut tasks = JoinSet::new();
        let (accepting, joined, counting) =
            (Arc::clone(&mode), Arc::clone(&connections), Arc::clone(&forwarded));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Joined before the mode is read: what is accepted before a change is cut with the others.
                let connection = joined.join();
                let mode = accepting.subscribe();
                if !matches!(*mode.borrow(), Mode::Refuse) {
                    let forwarding = forward(stream, target.clone(), mode.clone(), Arc::clone(&counting));
                    open.spawn(connection.run(forwarding));
                }
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, mode, connections, forwarded, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `number` further requests to renew a lease have been forwarded.
    pub(crate) async fn until_renewals(&self, number: usize) {
        let mut forwarded = self.forwarded.subscribe();
        let expected = forwarded.borrow().renewals + number;
        let renewed = forwarded.wait_for(|forwarded| forwarded.renewals >= expected);
        within_patience(&format!("{number} renewals"), renewed).await.unwrap();
    }

    /// Returns the number of requests to read keys that have been forwarded.
    pub(crate) fn reads(&self) -> usize {
        self.forwarded.borrow().reads
    }

    /// Sets the mode for all connections, open ones as well.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts all open connections. When this returns, they carry nothing more.
    pub(crate) async fn cut(&self) {
        self.connections.end().await;
    }
}

async fn forward(
    near: TcpStream,
    target: String,
    mode: watch::Receiver<Mode>,
    forwarded: Arc<watch::Sender<Forwarded>>,
) {
    let (near_read, mut near_write) = near.into_split();
    let (watching, is_watching) = watch::channel(false);
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (far_read, far_write) = far.into_split();
    let back = answers(far_read, &mut near_write, mode.clone(), is_watching);
    let lie = tokio::select! {
        lie = requests(near_read, far_write, mode, watching, &forwarded) => lie,
        () = back => None,
    };
    if let Some(lie) = lie {
        send_lie(near_write, lie).await;
    }
}

/// Passes requests on, until one should get a false answer.
async fn requests(
    mut near: OwnedReadHalf,
    mut far: OwnedWriteHalf,
    mode: watch::Receiver<Mode>,
    watching: watch::Sender<bool>,
    forwarded: &watch::Sender<Forwarded>,
) -> Option<Lie> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = near.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        let chunk = &buffer[..length];
        let for_watch = chunk.starts_with(b"POST /v3/watch ");
        watching.send_if_modified(|watching| for_watch && !std::mem::replace(watching, true));
        match &*mode.borrow() {
            Mode::Lie(lie) => return Some(lie.clone()),
            Mode::LieToWatches(lie) if for_watch => return Some(lie.clone()),
            _ => {}
        }
        far.write_all(chunk).await.ok()?;
        if chunk.starts_with(b"POST /v3/lease/keepalive ") {
            forwarded.send_modify(|forwarded| forwarded.renewals += 1);
        } else if chunk.starts_with(b"POST /v3/kv/range ") {
            forwarded.send_modify(|forwarded| forwarded.reads += 1);
        }
    }
}

async fn answers(
    mut far: OwnedReadHalf,
    near: &mut OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    watching: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = far.read(&mut buffer).await {
        let frozen = |mode: &Mode| matches!(mode, Mode::FreezeWatches) && *watching.borrow();
        if mode.wait_for(|mode| !frozen(mode)).await.is_err()
            || near.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}

async fn send_lie(mut near: OwnedWriteHalf, lie: Lie) {
    let (Lie::Complete(text) | Lie::ThenSilence(text) | Lie::ThenEndless(text)) = &lie;
    let mut alive = near.write_all(text.as_bytes()).await.is_ok();
    match lie {
        Lie::Complete(_) => {}
        // The connection is held until it is cut.
        Lie::ThenSilence(_) => loop {
            sleep(Duration::from_secs(3600)).await;
        },
        Lie::ThenEndless(_) => {
            while alive {
                alive = near.write_all(&[b' '; 64 * 1024]).await.is_ok();
            }
        }
    }
}
