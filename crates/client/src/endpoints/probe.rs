//! Probes of an endpoint that gets no calls, until it can be reinstated.

use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::describe::{HEALTH, Health, HealthRequest, HealthStatus};
use farcall_protocol::{Code, Execution, Flags};
use farcall_runtime::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backend::{Backend, Condition};
use crate::connection::Connection;
use crate::connection::options::ConnectionOptions;
use crate::connection::request::deadline_exceeded;
use crate::connection::response::Response;
use crate::deadline::Deadline;
use crate::error::{Phase, RpcError};

/// The time that an endpoint has to answer a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Probes the backend until it is reinstated. Returns its id; `None` if the probes were stopped before.
pub(super) async fn probe_until_healthy(
    backend: Arc<Backend>,
    options: Arc<ConnectionOptions>,
    stop: CancellationToken,
) -> Option<u64> {
    let id = backend.id();
    let probes = async move {
        // A connection that broke is dialed again at once; a server that keeps failing gets a pause first.
        if backend.condition() == Condition::Ejected {
            sleep(backend.probe_pause()).await;
        }
        while let Err(error) = probe(&backend, &options).await {
            backend.record_probe_failure(error);
            // A call that succeeds there, as may happen while all look unhealthy, counts as a probe.
            let _ = timeout(backend.probe_pause(), backend.answered()).await;
        }
        backend.reinstate();
    };
    stop.run_until_cancelled_owned(probes).await.map(|()| id)
}

async fn probe(backend: &Backend, options: &ConnectionOptions) -> Result<(), RpcError> {
    let connection = backend.pool().connection().await?;
    if backend.condition() != Condition::Ejected {
        return Ok(());
    }
    let health = match check_health(&connection, options).await {
        Ok(response) => response.decode::<Health>()?,
        // The server has no such method, but it answers.
        Err(error) if error.code() == Code::Unimplemented => return Ok(()),
        Err(error) => return Err(error),
    };
    if health.status == HealthStatus::Serving {
        return Ok(());
    }
    let message = "it says that it does not serve";
    Err(RpcError::new(Code::Unavailable, Execution::Refused, Phase::Answer, message)
        .at(connection.endpoint()))
}

/// Calls the health method once, over this connection.
async fn check_health(connection: &Connection, options: &ConnectionOptions) -> Result<Response, RpcError> {
    let arguments = options.terms.codec.encode_body(&HealthRequest::default());
    let arguments = arguments.map_err(|error| {
        RpcError::new(Code::Internal, Execution::NotSent, Phase::Prepare, error.to_string())
            .with_source(error)
    })?;
    let deadline = Deadline::after(Instant::now(), HEALTH_TIMEOUT);
    let handle = connection.handle();
    let request = handle.encode(HEALTH, &arguments, None, Flags::NONE, Some(deadline))?;
    let mut phase = Phase::Queue;
    match timeout_at(deadline.at, connection.send(&request, &mut phase)).await {
        Ok(Ok(pending)) => pending.await,
        Ok(Err(error)) => Err(handle.send_error(&request, &error, phase)),
        Err(_elapsed) => Err(deadline_exceeded(HEALTH, Some(deadline), phase).at(connection.endpoint())),
    }
}
