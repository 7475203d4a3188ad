//! How one try of a call gets to an endpoint: which one, over which connection, and in time.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::PickRequest;
use farcall_transport::Address;
use tokio::time::{Instant, timeout, timeout_at};

use super::attempts::Attempts;
use super::state::Sent;
use crate::call::request::Ready;
use crate::call::retry_policy::Kind;
use crate::channel::{Inner, Targets};
use crate::connection::response::Answer;
use crate::connection::{Connection, NotSent, Outgoing, Pending};
use crate::endpoints::{Endpoints, Member, Visit};
use crate::error::{Phase, RpcError};

/// Where a call has been.
#[derive(Debug, Default)]
pub(super) struct Been {
    ids: Vec<u64>,
    last: Option<Arc<Member>>,
    /// Where it goes next, if that was chosen already.
    next: Option<Visit>,
    /// Further tries so far, those beside another included.
    further: u32,
}

/// So long a call waits for a dial where another endpoint can do, and half of its time at most. Less,
/// and servers that are busy are left out until they have answered; more, and calls wait for dead ones.
const DIAL_PATIENCE: Duration = Duration::from_secs(1);

impl Been {
    pub(super) fn to(next: Option<Visit>) -> Self {
        Self { next, ..Self::default() }
    }

    pub(super) fn at(visit: Option<Visit>) -> Self {
        let mut been = Self::default();
        if let Some(visit) = visit {
            been.go(visit.member());
        }
        been
    }

    /// Of whom the call would take another one.
    pub(super) fn tried(&self) -> &[u64] {
        &self.ids
    }

    /// Everybody is worth a try again.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    /// The number of the next try; that of the first is 1.
    pub(super) const fn next_number(&mut self) -> u32 {
        self.further = self.further.saturating_add(1);
        self.further.saturating_add(1)
    }

    fn go(&mut self, member: &Arc<Member>) {
        if !self.ids.contains(&member.id()) {
            self.ids.push(member.id());
        }
        self.last = Some(Arc::clone(member));
    }
}

impl Attempts {
    /// Has `send` send the request to whomever it goes, all of it before the deadline.
    pub(super) async fn send<T>(
        &self,
        ready: &Ready,
        inner: &Inner,
        send: impl AsyncFnOnce(&Connection, &Outgoing<'_>, &mut Phase) -> Result<T, NotSent>,
    ) -> Result<(T, Option<Visit>), RpcError> {
        match &inner.targets {
            Targets::One(links) => {
                let connect = async { Ok((links.connection().await?, None)) };
                send_in_time(ready, Some(links.endpoint()), connect, send).await
            }
            Targets::Many(endpoints) => {
                send_in_time(ready, None, self.reach(ready, inner, endpoints), send).await
            }
        }
    }

    /// A connection to one of many, dialed if need be.
    async fn reach(
        &self,
        ready: &Ready,
        inner: &Inner,
        endpoints: &Endpoints,
    ) -> Result<(Connection, Option<Visit>), RpcError> {
        let stays = inner.retry(ready).kind == Kind::Again;
        loop {
            let visit = self.choose(ready, inner, endpoints, stays).await?;
            self.been().go(visit.member());
            let links = visit.member().links();
            let dispensable = !stays && self.has_others(inner);
            // No call waits for a dial where another endpoint can do; the task dials meanwhile.
            if dispensable && links.is_lost() {
                visit.member().lost(links.why_lost());
                continue;
            }
            let connected = if dispensable {
                let Ok(connected) = timeout(patience(ready), links.connection()).await else {
                    visit.member().lost(links.why_slow());
                    continue;
                };
                connected
            } else {
                links.connection().await
            };
            return visit.over(connected).map(|(connection, visit)| (connection, Some(visit)));
        }
    }

    /// Where this try goes.
    async fn choose(
        &self,
        ready: &Ready,
        inner: &Inner,
        endpoints: &Endpoints,
        stays: bool,
    ) -> Result<Visit, RpcError> {
        let (next, last, tried) = {
            let mut been = self.been();
            (been.next.take(), been.last.clone().filter(|_| stays), been.ids.clone())
        };
        if let Some(visit) = next.or_else(|| last.as_ref().map(Visit::new)) {
            return Ok(visit);
        }
        let key = ready.key(endpoints.key(), &inner.codec);
        let asked = PickRequest::new(key.as_deref(), &tried);
        endpoints.visit(&asked, inner.waits_for_ready(ready)).await
    }
}

/// How long this call waits for a dial where another endpoint can do.
fn patience(ready: &Ready) -> Duration {
    let left = ready.deadline.map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
    left.map_or(DIAL_PATIENCE, |left| DIAL_PATIENCE.min(left / 2))
}

/// Makes the call once, at this endpoint, before its deadline.
pub(crate) async fn call_at(ready: &Ready, member: &Arc<Member>) -> Result<Answer, RpcError> {
    let links = member.links();
    let visit = Visit::new(member);
    let connect = async {
        let (connection, visit) = visit.over(links.connection().await)?;
        Ok((connection, Some(visit)))
    };
    call(ready, links.endpoint(), connect).await
}

/// Makes the call once, over this connection, before its deadline.
pub(crate) async fn call_over(ready: &Ready, connection: &Connection) -> Result<Answer, RpcError> {
    call(ready, connection.endpoint(), async { Ok((connection.clone(), None)) }).await
}

async fn call(
    ready: &Ready,
    endpoint: &Address,
    connect: impl Future<Output = Result<(Connection, Option<Visit>), RpcError>>,
) -> Result<Answer, RpcError> {
    let send = async |connection: &Connection, outgoing: &Outgoing<'_>, phase: &mut Phase| {
        connection.send(outgoing, phase).await
    };
    let (pending, visit): (Pending, _) = send_in_time(ready, Some(endpoint), connect, send).await?;
    Sent::new(pending, visit).await
}

/// Has `send` send the request over the connection that `connect` makes, all of it before the
/// deadline.
async fn send_in_time<T>(
    ready: &Ready,
    endpoint: Option<&Address>,
    connect: impl Future<Output = Result<(Connection, Option<Visit>), RpcError>>,
    send: impl AsyncFnOnce(&Connection, &Outgoing<'_>, &mut Phase) -> Result<T, NotSent>,
) -> Result<(T, Option<Visit>), RpcError> {
    let mut phase = Phase::Connect;
    let mut endpoint = endpoint.cloned();
    let steps = async {
        let (connection, visit) = connect.await?;
        endpoint.get_or_insert_with(|| connection.endpoint().clone());
        let packed = ready.pack(&connection)?;
        phase = Phase::Queue;
        let sent = send(&connection, &packed.outgoing(ready), &mut phase).await;
        Ok((sent.map_err(|why| ready.not_sent(&why, phase, &connection))?, visit))
    };
    let Some(deadline) = ready.deadline else { return steps.await };
    match timeout_at(deadline.at, steps).await {
        Ok(result) => result,
        Err(_elapsed) => {
            let error = ready.out_of_time(phase);
            Err(match endpoint {
                Some(endpoint) => error.at(&endpoint),
                None => error,
            })
        }
    }
}
