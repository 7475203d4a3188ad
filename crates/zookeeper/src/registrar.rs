//! [`ZookeeperRegistrar`]: keeps instances in ZooKeeper as ephemeral nodes of one session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall_discovery::{Instance, Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::debug;
use zookeeper_client::Error;

use crate::call_error::CallError;
use crate::error::ZookeeperOptionsError;
use crate::options::ZookeeperOptions;
use crate::paths::{node_name, service_path};
use crate::session::Session;

/// The number of renewals in the time to live: two may fail, and nothing is lost.
const RENEWALS: u32 = 3;
/// Attempts to create a node whose parent or namesake comes and goes at the same time.
const ATTEMPTS: usize = 5;

/// Registers instances in ZooKeeper, all in one session.
///
/// A renewal finds out if the session is alive and the node still there. If not, the instance has to be registered again, which
/// [`keep_registered`](farcall_discovery::keep_registered) does. Without a renewal for [`Instance::ttl_ms`], or else
/// [`ZookeeperOptions::ttl`], the registrar takes the node away, as ZooKeeper does if the process is gone. A clone shares the session.
///
/// It has to be used in a runtime of tokio, in which its session lives.
#[derive(Clone, Debug)]
pub struct ZookeeperRegistrar(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: ZookeeperOptions,
    /// Keeps the nodes of this registrar apart from those of another one with the same address.
    number: u64,
    /// Locked while a session is opened, so that there is one.
    session: AsyncMutex<Option<Session>>,
    /// The number of the last registration of each node that is there. Never locked across an await.
    registrations: Mutex<HashMap<String, u64>>,
    next_registration: AtomicU64,
}

/// A registered instance.
#[derive(Debug)]
pub struct ZookeeperLease {
    path: String,
    session: Session,
    /// The number of its registration.
    number: u64,
    /// Takes the node away in the end.
    expiry: AbortHandle,
    /// The time at which the node is taken away.
    deadline: watch::Sender<Instant>,
    ttl: Duration,
}

impl ZookeeperRegistrar {
    /// Creates a registrar. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option is invalid; the error names it, and its limits.
    pub fn new(options: &ZookeeperOptions) -> Result<Self, ZookeeperOptionsError> {
        options.check()?;
        Ok(Self(Arc::new(Inner {
            options: options.clone(),
            number: fastrand::u64(..),
            session: AsyncMutex::new(None),
            registrations: Mutex::default(),
            next_registration: AtomicU64::new(0),
        })))
    }
}

impl Inner {
    /// Returns the session, or another one if it is lost.
    async fn session(&self) -> Result<Session, CallError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session
            && !session.is_lost()
        {
            return Ok(session.clone());
        }
        // Given up before: it may have been lost for the client alone.
        *session = None;
        let opened = Session::open(&self.options).await?;
        *session = Some(opened.clone());
        Ok(opened)
    }

    /// Creates the node, or replaces the data of the one that is there.
    async fn create(
        &self,
        session: &Session,
        service: &str,
        path: &str,
        data: &[u8],
    ) -> Result<(), CallError> {
        let mut attempt = 1;
        loop {
            let error = match session.create_ephemeral(path, data).await {
                Err(error) if attempt < ATTEMPTS => error,
                outcome => return outcome,
            };
            match error.of_zookeeper() {
                Some(Error::NoNode) => session.create_parents(&self.options.prefix, service).await?,
                Some(Error::NodeExists) => match session.stat(path).await? {
                    Some(stat) if stat.ephemeral_owner == session.owner() => {
                        let set = session.client().set_data(path, data, None);
                        if session.find(path, set).await?.is_some() {
                            return Ok(());
                        }
                    }
                    // Of a session before this one, with which it would go.
                    Some(_) => session.delete(path).await?,
                    None => {}
                },
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Makes this the last registration of the node.
    fn begin(&self, path: &str) -> u64 {
        let number = self.next_registration.fetch_add(1, Ordering::Relaxed);
        let mut registrations = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        registrations.insert(path.to_owned(), number);
        number
    }

    /// Ends a registration. Returns `false` if there is a later one of the same node, which then stays.
    fn end(&self, path: &str, number: u64) -> bool {
        let mut registrations = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = registrations.get(path) == Some(&number);
        if is_last {
            registrations.remove(path);
        }
        is_last
    }

    /// Gives the session up if nothing is registered any more; it closes when the last lease is gone.
    async fn close_unused(&self) {
        let is_unused = || self.registrations.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let mut session = self.session.lock().await;
        if is_unused() {
            *session = None;
        }
    }

    fn ttl(&self, instance: &Instance) -> Duration {
        instance.ttl_ms.map_or(self.options.ttl, Duration::from_millis)
    }
}

/// Takes the node away when it has not been renewed in time.
async fn expire(
    inner: Arc<Inner>,
    session: Session,
    path: String,
    number: u64,
    mut deadline: watch::Receiver<Instant>,
) {
    loop {
        let until = *deadline.borrow_and_update();
        let is_renewed = async {
            // A lease that was dropped is renewed no more.
            if deadline.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = is_renewed => {}
            () = sleep_until(until) => break,
        }
    }
    if inner.end(&path, number) {
        debug!(path, "not renewed in time; taking the node away");
        if let Err(error) = session.delete(&path).await {
            debug!(path, %error, "the node goes with its session");
        }
        inner.close_unused().await;
    }
}

impl Registrar for ZookeeperRegistrar {
    type Lease = ZookeeperLease;

    fn describe(&self) -> String {
        format!("ZooKeeper at {}", self.0.options.servers)
    }

    async fn register(&self, instance: &Instance) -> Result<Registered<ZookeeperLease>, RegistrarError> {
        let instance = instance.clone().check()?;
        let inner = &self.0;
        let service = service_path(&inner.options.prefix, &instance.service);
        let path = format!("{service}/{}", node_name(&instance.id, inner.number));
        let data = serde_json::to_vec(&instance)
            .map_err(|error| RegistrarError::from_source(RegistrarErrorKind::Other, error))?;
        let session = inner.session().await?;
        inner.create(&session, &service, &path, &data).await?;
        let ttl = inner.ttl(&instance);
        let number = inner.begin(&path);
        let (deadline, until) = watch::channel(Instant::now() + ttl);
        let expiry = tokio::spawn(expire(Arc::clone(inner), session.clone(), path.clone(), number, until));
        let expiry = expiry.abort_handle();
        let heartbeat = ttl.min(session.timeout()) / RENEWALS;
        Ok(Registered::new(ZookeeperLease { path, session, number, expiry, deadline, ttl }, heartbeat))
    }

    async fn renew(&self, _: &Instance, lease: &mut ZookeeperLease) -> Result<Renewal, RegistrarError> {
        let session = self.0.session().await?;
        if session.owner() != lease.session.owner() {
            return Ok(Renewal::Unknown);
        }
        match session.stat(&lease.path).await? {
            Some(stat) if stat.ephemeral_owner == session.owner() => {
                lease.deadline.send_replace(Instant::now() + lease.ttl);
                Ok(Renewal::Renewed(lease.ttl.min(session.timeout()) / RENEWALS))
            }
            _ => Ok(Renewal::Unknown),
        }
    }

    async fn deregister(&self, _: &Instance, lease: ZookeeperLease) -> Result<(), RegistrarError> {
        // A session that is lost may live on in ZooKeeper: another one takes the node away.
        let session = self.0.session().await?;
        session.delete(&lease.path).await?;
        self.0.end(&lease.path, lease.number);
        // It holds the session.
        lease.expiry.abort();
        self.0.close_unused().await;
        Ok(())
    }
}
