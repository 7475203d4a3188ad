//! [`Session`]: a session of ZooKeeper, whose requests have a limit of time and errors that name the servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission, SessionState, Stat};

use crate::call_error::CallError;
use crate::options::{User, ZookeeperOptions};

/// A session. It is closed when its last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    client: Client,
    servers: Arc<str>,
    limit: Duration,
    /// The creator of a node may change it; everyone else only reads it.
    is_protected: bool,
}

impl Session {
    /// Connects, and begins a session.
    pub(crate) async fn open(options: &ZookeeperOptions) -> Result<Self, CallError> {
        let servers = &*options.servers;
        let mut connector = Client::connector()
            .with_session_timeout(options.ttl)
            // An ensemble that is away is reported, and tried again after a pause.
            .with_fail_eagerly();
        if let Some(User { name, password }) = &options.user {
            connector = connector.with_auth("digest", format!("{name}:{password}").as_bytes());
        }
        #[cfg(feature = "sasl")]
        if let Some(User { name, password }) = &options.sasl {
            let options = zookeeper_client::SaslOptions::digest_md5(name.clone(), password.clone());
            connector = connector.with_sasl(options);
        }
        let limit = options.request_timeout;
        let connected = timeout(limit, connector.connect(servers)).await;
        let client = connected
            .map_err(|_| CallError::Timeout { servers: servers.to_owned(), limit })?
            .map_err(|error| CallError::Connect { servers: servers.to_owned(), error })?;
        Ok(Self { client, servers: servers.into(), limit, is_protected: options.has_user() })
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the number by which nodes name their session.
    pub(crate) fn owner(&self) -> i64 {
        self.client.session_id().0
    }

    /// Returns the time after which ZooKeeper takes a session without a word for lost.
    pub(crate) fn timeout(&self) -> Duration {
        self.client.session_timeout()
    }

    /// Returns `true` if it will not come back.
    pub(crate) fn is_lost(&self) -> bool {
        self.client.state().is_terminated()
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.client.state(), SessionState::SyncConnected | SessionState::ConnectedReadOnly)
    }

    pub(crate) fn servers(&self) -> String {
        self.servers.as_ref().to_owned()
    }

    /// Waits for an answer about a node.
    pub(crate) async fn request<T>(
        &self,
        path: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallError> {
        let answered = timeout(self.limit, request).await;
        answered
            .map_err(|_| CallError::Timeout { servers: self.servers(), limit: self.limit })?
            .map_err(|error| CallError::Request { servers: self.servers(), path: path.to_owned(), error })
    }

    /// Waits for an answer about a node; `None` if there is no such node.
    pub(crate) async fn find<T>(
        &self,
        path: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, CallError> {
        match self.request(path, request).await {
            Err(CallError::Request { error: Error::NoNode, .. }) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Creates the nodes above the instances of a service. The last one is a container, which goes when it has been empty for a while.
    pub(crate) async fn create_parents(&self, prefix: &str, service: &str) -> Result<(), CallError> {
        let acls = [Acl::new(Permission::ALL, AuthId::anyone())];
        let options = CreateMode::Persistent.with_acls(Acls::new(&acls));
        self.request(prefix, self.client.mkdir(prefix, &options)).await?;
        let options = CreateMode::Container.with_acls(Acls::new(&acls));
        match self.request(service, self.client.create(service, b"", &options)).await {
            Err(error) if error.of_zookeeper() == Some(&Error::NodeExists) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Creates a node that goes with the session.
    pub(crate) async fn create_ephemeral(&self, path: &str, data: &[u8]) -> Result<(), CallError> {
        let everyone = [Acl::new(Permission::ALL, AuthId::anyone())];
        let creator =
            [Acl::new(Permission::READ, AuthId::anyone()), Acl::new(Permission::ALL, AuthId::authed())];
        let acls = if self.is_protected { Acls::new(&creator) } else { Acls::new(&everyone) };
        let options = CreateMode::Ephemeral.with_acls(acls);
        self.request(path, self.client.create(path, data, &options)).await.map(drop)
    }

    /// Returns the state of a node, if it is there.
    pub(crate) async fn stat(&self, path: &str) -> Result<Option<Stat>, CallError> {
        self.request(path, self.client.check_stat(path)).await
    }

    /// Deletes a node, if it is there.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), CallError> {
        self.find(path, self.client.delete(path, None)).await.map(drop)
    }
}
