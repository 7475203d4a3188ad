//! What a connection does with the messages it has read.

use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::{Code, Flags, Header, HeaderRef, Kind, Message, ProtocolError, ServerAction, Status};
use tokio::time::Instant;
use tracing::debug;

use super::{Connection, Phase};
use crate::call::encoded_response::{compressed, push_response};
use crate::call::{Answer, Started};
use crate::limits::{MESSAGES_PER_WRITE, MOST_READ, after};
use crate::service::handler::Response;

impl Connection {
    /// Handles the whole messages in the input, as long as the outbox has room, and not more of
    /// them than should wait for one write.
    ///
    /// `now` goes along: each step that takes its time leaves the time at its end, so that no
    /// call is charged with what another took, and the clock is read once for each.
    pub(super) fn handle_input(&mut self, mut now: Instant) {
        self.unread = false;
        let mut handled = 0;
        while matches!(self.phase, Phase::Open | Phase::Finishing) {
            if handled == MESSAGES_PER_WRITE || self.is_outbox_full() {
                self.unread = true;
                self.frame_begun = None;
                return;
            }
            match self.input.next(&self.decoder) {
                Ok(Some(message)) => {
                    handled += 1;
                    self.frame_begun = None;
                    if let Err(error) = self.handle(message, &mut now) {
                        return self.fail(&error);
                    }
                }
                Ok(None) => return self.await_rest(now),
                Err(error) => return self.fail(&error.into()),
            }
        }
        self.input.clear();
    }

    /// Has the rest of the message that was begun come in time, and not take too much room.
    fn await_rest(&mut self, now: Instant) {
        if self.input.is_empty() {
            return;
        }
        if self.frame_begun.is_none() {
            self.frame_begun = Some(now);
            self.wake_by(after(now, self.home.core.limits.frame_timeout));
        }
        let wanted = self.input.wanted();
        let budget = &self.home.core.budget;
        if wanted > MOST_READ && budget.lacks(wanted) {
            let message = format!("no room for {wanted} bytes: the server's buffers hold {}", budget.limit());
            self.close_with(&Status::maybe(Code::ResourceExhausted, message));
        }
    }

    fn handle(&mut self, message: Message, now: &mut Instant) -> Result<(), ProtocolError> {
        let Message { mut header, body } = message;
        match self.session.receive(&header, now.into_std())? {
            ServerAction::Start { answer } => self.start(&mut header, body, answer, now),
            ServerAction::Cancel => self.home.calls.cancel(header.seq),
            ServerAction::Pong => self.push(&HeaderRef::new(Kind::Pong, header.seq)),
            ServerAction::Finish => {
                self.goodbye = true;
                self.phase = Phase::Finishing;
            }
            ServerAction::Ignore => {}
        }
        Ok(())
    }

    fn start(&mut self, header: &mut Header, body: Bytes, answer: bool, now: &mut Instant) {
        let seq = header.seq;
        self.traffic.calls += 1;
        let arrived = *now;
        let to = if answer { Answer::Peer } else { Answer::Nobody };
        let flags = header.flags;
        let admitted = self.home.admit(header, to, arrived, || {
            let plain = self.plain(flags, body, now)?;
            Ok((plain, *now))
        });
        let response = match admitted {
            Ok((call, body)) => match call.start(header, body, &self.home, *now) {
                Started::Ended(response, at) => {
                    *now = at;
                    response
                }
                Started::Spawned(at) => {
                    *now = at;
                    return;
                }
            },
            Err(status) => {
                self.home.core.recent.ended(
                    &header.service_method,
                    &self.home.info,
                    Duration::ZERO,
                    Some(&status),
                );
                Response::error(status)
            }
        };
        if answer {
            let (response, flags) = compressed(response, &self.home.negotiated);
            push_response(&mut self.outbox, &self.home.negotiated, seq, &response, flags);
            if flags.contains(Flags::COMPRESSED) {
                *now = Instant::now();
            }
        } else if let Some(status) = response.status() {
            debug!(%seq, peer = %self.home.info.peer, %status, "one-way call failed");
        }
    }

    /// The body as it was before it was compressed.
    fn plain(&self, flags: Flags, body: Bytes, now: &mut Instant) -> Result<Bytes, Status> {
        if !flags.contains(Flags::COMPRESSED) {
            return Ok(body);
        }
        let negotiated = &self.home.negotiated;
        let refused = |message: String| Status::refused(Code::InvalidArgument, message);
        let Some(compression) = negotiated.compression else {
            return Err(refused("a compressed body, though none was agreed on".to_owned()));
        };
        let plain = compression.decompress(&body, negotiated.receive_limit);
        *now = Instant::now();
        plain.map_err(|error| refused(error.to_string()))
    }
}
