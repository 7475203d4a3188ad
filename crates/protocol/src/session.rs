//! What may follow what on a connection, seen from either side. No calls are kept here: a server
//! keeps its handlers, a client its callers.

use std::time::Instant;

use thiserror::Error;

use crate::code::Code;
use crate::header::{Flags, Header, Kind};
use crate::keep_alive::{MAX_PINGS, PING_WINDOW, PingRate};
use crate::limits::Seq;
use crate::message::FrameError;

/// A server's view of what a client sends.
#[derive(Clone, Debug, Default)]
pub struct ServerSession {
    last: Option<Seq>,
    /// The last request that was accepted before this side said goaway.
    own_goaway: Option<Seq>,
    peer_goaway: bool,
    pings: PingRate,
}

/// What a server is to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Start this call, and answer it unless it is one-way.
    Start {
        /// `true` if an answer is wanted.
        answer: bool,
    },
    /// Stop this call, if it is in flight.
    Cancel,
    /// Answer with a pong of the same number.
    Pong,
    /// Finish what was begun; no request will follow.
    Finish,
    /// Nothing.
    Ignore,
}

impl ServerSession {
    /// A session in which nothing was received yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the header of a message that arrived at `now`.
    ///
    /// # Errors
    ///
    /// The client broke the protocol; the session is over.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Result<ServerAction, ProtocolError> {
        match header.kind {
            Kind::Request => self.request(header),
            Kind::Cancel => Ok(ServerAction::Cancel),
            Kind::Ping if self.pings.allows(now) => Ok(ServerAction::Pong),
            Kind::Ping => Err(ProtocolError::PingFlood),
            Kind::Pong => Ok(ServerAction::Ignore),
            Kind::Goaway => {
                self.peer_goaway = true;
                Ok(ServerAction::Finish)
            }
            Kind::Response => Err(ProtocolError::UnexpectedKind { kind: header.kind, side: "client" }),
        }
    }

    fn request(&mut self, header: &Header) -> Result<ServerAction, ProtocolError> {
        if self.peer_goaway {
            return Err(ProtocolError::AfterGoaway { seq: header.seq });
        }
        if self.last.is_some_and(|last| header.seq <= last) || header.seq == Seq(0) {
            return Err(ProtocolError::SeqNotIncreasing {
                seq: header.seq,
                last: self.last.unwrap_or_default(),
            });
        }
        self.last = Some(header.seq);
        if self.own_goaway.is_some() {
            return Ok(ServerAction::Ignore);
        }
        Ok(ServerAction::Start { answer: !header.flags.contains(Flags::ONE_WAY) })
    }

    /// From here on no request is started. Returns the number for the goaway message: that of
    /// the last request that was accepted.
    pub fn goaway(&mut self) -> Seq {
        *self.own_goaway.get_or_insert(self.last.unwrap_or_default())
    }
}

/// A client's view of what a server sends.
#[derive(Clone, Debug, Default)]
pub struct ClientSession {
    pings: PingRate,
}

/// What a client is to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Hand this to the caller, if there still is one.
    Response,
    /// Answer with a pong of the same number.
    Pong,
    /// Send no further request; those above this number are refused.
    Goaway {
        /// The last request that is, or was, handled.
        last: Seq,
    },
    /// Nothing.
    Ignore,
}

impl ClientSession {
    /// A session in which nothing was received yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the header of a message that arrived at `now`.
    ///
    /// # Errors
    ///
    /// The server broke the protocol; the session is over.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Result<ClientAction, ProtocolError> {
        match header.kind {
            Kind::Response => Ok(ClientAction::Response),
            Kind::Ping if self.pings.allows(now) => Ok(ClientAction::Pong),
            Kind::Ping => Err(ProtocolError::PingFlood),
            Kind::Pong => Ok(ClientAction::Ignore),
            Kind::Goaway => Ok(ClientAction::Goaway { last: header.seq }),
            Kind::Request | Kind::Cancel => {
                Err(ProtocolError::UnexpectedKind { kind: header.kind, side: "server" })
            }
        }
    }
}

/// A peer that broke the protocol.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame that cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A kind that the other side sends.
    #[error("a {kind} is not for a {side} to send")]
    UnexpectedKind {
        /// The kind.
        kind: Kind,
        /// Who sent it.
        side: &'static str,
    },
    /// A request whose number is not above all before it.
    #[error("request {seq} does not grow: the last was {last}")]
    SeqNotIncreasing {
        /// The number.
        seq: Seq,
        /// The largest before it; 0 where there was none.
        last: Seq,
    },
    /// A request behind the client's own goaway.
    #[error("request {seq} follows a goaway")]
    AfterGoaway {
        /// The number.
        seq: Seq,
    },
    /// More pings than anybody needs.
    #[error("more than {MAX_PINGS} pings in {} s", PING_WINDOW.as_secs())]
    PingFlood,
}

impl ProtocolError {
    /// The code of the goaway that says so.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Frame(FrameError::TooLarge(_)) => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::ByteStr;

    fn header(kind: Kind, seq: u64) -> Header {
        Header {
            kind,
            seq: Seq(seq),
            service_method: ByteStr::default(),
            timeout_ms: 0,
            error: None,
            metadata: None,
            flags: Flags::NONE,
        }
    }

    fn receive(session: &mut ServerSession, kind: Kind, seq: u64) -> Result<ServerAction, ProtocolError> {
        session.receive(&header(kind, seq), Instant::now())
    }

    const START: ServerAction = ServerAction::Start { answer: true };

    #[test]
    fn a_seq_must_grow() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Request, 5), Ok(START));
        assert_eq!(receive(&mut session, Kind::Request, 9), Ok(START));
        for seq in [9, 8, 0] {
            let error = receive(&mut session, Kind::Request, seq).unwrap_err();
            assert_eq!(error, ProtocolError::SeqNotIncreasing { seq: Seq(seq), last: Seq(9) });
        }
    }

    #[test]
    fn seq_starts_at_one() {
        let error = receive(&mut ServerSession::new(), Kind::Request, 0).unwrap_err();
        assert_eq!(error.to_string(), "request 0 does not grow: the last was 0");
    }

    #[test]
    fn a_request_behind_the_servers_goaway_is_ignored() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Request, 7), Ok(START));
        assert_eq!(session.goaway(), Seq(7));
        assert_eq!(receive(&mut session, Kind::Request, 8), Ok(ServerAction::Ignore));
        assert_eq!(session.goaway(), Seq(7));
    }

    #[test]
    fn a_request_behind_the_clients_own_goaway_is_a_protocol_error() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Goaway, 0), Ok(ServerAction::Finish));
        let error = receive(&mut session, Kind::Request, 1).unwrap_err();
        assert_eq!(error, ProtocolError::AfterGoaway { seq: Seq(1) });
    }

    #[test]
    fn a_one_way_request_wants_no_answer() {
        let one_way = Header { flags: Flags::ONE_WAY, ..header(Kind::Request, 1) };
        let event = ServerSession::new().receive(&one_way, Instant::now());
        assert_eq!(event, Ok(ServerAction::Start { answer: false }));
    }

    #[test]
    fn a_kind_of_the_other_side_is_a_protocol_error() {
        assert!(receive(&mut ServerSession::new(), Kind::Response, 1).is_err());
        for kind in [Kind::Request, Kind::Cancel] {
            assert!(ClientSession::new().receive(&header(kind, 1), Instant::now()).is_err());
        }
    }

    #[test]
    fn a_flood_of_pings_is_a_protocol_error_on_either_side() {
        let now = Instant::now();
        let (mut server, mut client) = (ServerSession::new(), ClientSession::new());
        for n in 0..10 {
            assert_eq!(server.receive(&header(Kind::Ping, n), now), Ok(ServerAction::Pong));
            assert_eq!(client.receive(&header(Kind::Ping, n), now), Ok(ClientAction::Pong));
        }
        assert_eq!(server.receive(&header(Kind::Ping, 11), now), Err(ProtocolError::PingFlood));
        assert_eq!(client.receive(&header(Kind::Ping, 11), now), Err(ProtocolError::PingFlood));
    }
}
