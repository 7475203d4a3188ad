//! Letting back a member that was left out.

use std::sync::Arc;
use std::time::Duration;

use farcall_context::Inherited;
use farcall_protocol::describe::{HEALTH, Health, HealthRequest, HealthStatus};
use farcall_protocol::{Code, Execution};
use tokio::time::{sleep, timeout};

use super::backend::{Condition, Member};
use crate::call::endpoint_choice::call_over;
use crate::call::request::Request;
use crate::connection::options::ConnectionOptions;
use crate::error::{Phase, RpcError};

/// How long a member may take to say that it is well.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Ready when the member has been let back, or has left the list.
pub(super) async fn restored(member: Arc<Member>, options: Arc<ConnectionOptions>) -> u64 {
    let gone = member.gone().clone();
    let id = member.id();
    gone.run_until_cancelled_owned(async move {
        // A connection that broke is made again at once; whoever fails is left alone for a while.
        if member.condition() == Condition::Ejected {
            sleep(member.pause()).await;
        }
        while let Err(error) = probe(&member, &options).await {
            member.stays_ill(error);
            // A call that was answered there, where all look bad, says as much as a probe.
            let _ = timeout(member.pause(), member.answered()).await;
        }
        member.restore();
    })
    .await;
    id
}

async fn probe(member: &Member, options: &ConnectionOptions) -> Result<(), RpcError> {
    let connection = member.links().connection().await?;
    if member.condition() != Condition::Ejected {
        return Ok(());
    }
    let codec = &options.terms.codec;
    let arguments = codec.encode_body(&HealthRequest::default());
    let request = Request::new(HEALTH.into(), arguments, Some(HEALTH_LIMIT), Inherited::default());
    let health = match call_over(&request.ready()?, &connection).await {
        Ok(answer) => answer.decode::<Health>()?,
        // It has no such method, but it answers.
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
