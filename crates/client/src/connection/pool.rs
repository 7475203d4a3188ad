//! The connections to one endpoint: one, or several that share its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_transport::Address;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::connection::options::ConnectionOptions;
use crate::connection::slot::Link;
use crate::error::RpcError;

/// The ways to one endpoint, used in turn. There is at least one.
#[derive(Debug)]
pub(crate) struct Links {
    links: Box<[Link]>,
    turn: AtomicUsize,
}

impl Links {
    pub(crate) fn new(endpoint: &Address, options: &Arc<ConnectionOptions>, connections: usize) -> Self {
        let links = (0..connections.max(1)).map(|_| Link::new(endpoint.clone(), Arc::clone(options)));
        Self { links: links.collect(), turn: AtomicUsize::new(0) }
    }

    /// Over a connection that was opened elsewhere.
    pub(crate) fn over(connection: Connection) -> Self {
        Self { links: Box::new([Link::over(connection)]), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn endpoint(&self) -> &Address {
        self.links[0].endpoint()
    }

    /// The connection whose turn it is, if it takes calls.
    pub(crate) fn ready(&self) -> Option<Connection> {
        self.next().ready()
    }

    /// A connection that takes calls, whosever turn it is.
    pub(crate) fn any_ready(&self) -> Option<Connection> {
        self.links.iter().find_map(Link::ready)
    }

    /// How many of them take calls.
    pub(crate) fn count_ready(&self) -> usize {
        self.links.iter().filter(|link| link.ready().is_some()).count()
    }

    /// Calls under way over all of them.
    pub(crate) fn in_flight(&self) -> usize {
        self.links.iter().filter_map(Link::ready).map(|connection| connection.in_flight()).sum()
    }

    /// Why there is no connection, where the last dial has failed.
    pub(crate) fn trouble(&self) -> Option<RpcError> {
        if self.any_ready().is_some() {
            return None;
        }
        self.links.iter().find_map(Link::trouble)
    }

    /// A connection, dialed where there is none. One of those that are missing is dialed in any case.
    pub(crate) async fn connection(&self) -> Result<Connection, RpcError> {
        let missing = self.links.iter().find(|link| link.ready().is_none() && link.rests_until().is_none());
        if let Some(ready) = self.any_ready() {
            // Nobody waits for a further connection where one is there.
            missing.inspect(|link| link.dial());
            return Ok(ready);
        }
        let dialed = missing.unwrap_or_else(|| self.next()).connection().await;
        dialed.or_else(|error| self.any_ready().ok_or(error))
    }

    /// Whether there is no connection since one was lost, which nobody has dialed again.
    pub(crate) fn is_lost(&self) -> bool {
        self.any_ready().is_none() && self.links.iter().any(Link::is_lost)
    }

    /// What is said of a connection that was lost.
    pub(crate) fn why_lost(&self) -> RpcError {
        let why = self.links.iter().find(|link| link.is_lost()).unwrap_or(&self.links[0]);
        why.why_lost()
    }

    /// What is said of a dial that takes longer than calls wait for it.
    pub(crate) fn why_slow(&self) -> RpcError {
        self.links[0].why_slow()
    }

    /// When one of them may be dialed again after a failure; none where one may be at once.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        // None is less than any.
        self.links.iter().map(Link::rests_until).min().flatten()
    }

    pub(crate) fn close(&self) {
        self.links.iter().for_each(Link::close);
    }

    fn next(&self) -> &Link {
        match &*self.links {
            [only] => only,
            several => &several[self.turn.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }
}
