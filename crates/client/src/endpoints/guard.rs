//! A call's stay at a member: it counts there while it lasts, and tells what it found.

use std::sync::Arc;

use farcall_protocol::{Code, Execution};
use tokio::time::Instant;

use super::backend::Member;
use crate::connection::Connection;
use crate::error::{Phase, RpcError};

/// A call's stay at a member, which counts it in the load.
#[derive(Debug)]
pub(crate) struct Visit {
    member: Arc<Member>,
    asked: Instant,
}

impl Visit {
    /// A call goes there.
    pub(crate) fn new(member: &Arc<Member>) -> Self {
        member.called();
        Self { member: Arc::clone(member), asked: Instant::now() }
    }

    pub(crate) const fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub(crate) fn ready(&self) -> Option<Connection> {
        self.member.links().ready()
    }

    /// The same over the connection that was made for it, if one could be.
    pub(crate) fn over(
        mut self,
        connected: Result<Connection, RpcError>,
    ) -> Result<(Connection, Self), RpcError> {
        match connected {
            Ok(connection) => {
                // How long the dial took says nothing of how soon it answers.
                self.asked = Instant::now();
                Ok((connection, self))
            }
            Err(error) => {
                self.learn(Some(&error));
                Err(error)
            }
        }
    }

    /// Draws the conclusions from how the call ended.
    pub(crate) fn learn(&self, error: Option<&RpcError>) {
        let Some(error) = error else {
            self.member.load().record_latency(self.asked.elapsed());
            return self.member.succeeded();
        };
        self.member.count_failure();
        match (error.phase(), error.code()) {
            _ if error.is_unconnected() => self.member.lost(error.clone()),
            (Phase::Write | Phase::Wait | Phase::Answer, Code::DeadlineExceeded) => {
                self.member.load().record_latency(self.asked.elapsed());
                self.member.failed(error, self.asked);
            }
            (Phase::Answer, Code::Unavailable | Code::Internal) => self.member.failed(error, self.asked),
            // It answered, if only with what the caller did wrong.
            (Phase::Answer, _) if error.execution() == Execution::Done => {
                self.member.load().record_latency(self.asked.elapsed());
                self.member.succeeded();
            }
            // A connection that is lost may take a thousand calls with it, which says less than whether
            // it can be made again; and what never left says nothing.
            _ => {}
        }
    }
}

impl Drop for Visit {
    /// However the call ends, by its caller's going away, too, it is no longer under way.
    fn drop(&mut self) {
        self.member.load().ended();
    }
}
