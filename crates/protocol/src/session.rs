//! The legal sequences of messages on a connection, as state machines of both sides. Calls in flight are left
//! to the server and the client.

use thiserror::Error;
use web_time::Instant;

use crate::code::Code;
use crate::header::{Flags, Header, Kind};
use crate::keep_alive::{MAX_PINGS, PING_WINDOW, PingRate};
use crate::limits::Seq;
use crate::message::FrameError;
use crate::stream::CreditExceeded;
use crate::text::EscapedText;

/// The state machine of a server for the messages of a client.
#[derive(Clone, Debug, Default)]
pub struct ServerSession {
    last: Option<Seq>,
    /// The last request that was accepted before this side sent a goaway.
    own_goaway: Option<Seq>,
    peer_goaway: bool,
    pings: PingRate,
    streams: bool,
}

/// The action that a server must take for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAction {
    /// Start the call, and answer it unless it is one-way.
    Start {
        /// `true` if the client expects a response.
        answer: bool,
    },
    /// Start a call that sends or takes items, and answer it.
    StartStream,
    /// Stop the call, if it is in flight.
    Cancel,
    /// Answer with a pong of the same number.
    Pong,
    /// Finish the calls in flight; no request will follow.
    Finish,
    /// Pass the item, end, credit or stop to its call, if it is in flight.
    Stream,
    /// Ignore the message.
    Ignore,
}

impl ServerSession {
    /// Creates a session that has received nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the sides agreed on streams. Default: they did not.
    #[must_use]
    pub const fn with_streams(mut self, streams: bool) -> Self {
        self.streams = streams;
        self
    }

    /// Handles the header of a message that arrived at `now`.
    ///
    /// # Errors
    ///
    /// The client violated the protocol; the connection must be closed.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Result<ServerAction, ProtocolError> {
        match header.kind {
            Kind::Request => self.receive_request(header.seq, header.flags),
            Kind::Cancel => Ok(ServerAction::Cancel),
            Kind::Ping if self.pings.allows(now) => Ok(ServerAction::Pong),
            Kind::Ping => Err(ProtocolError::PingFlood),
            Kind::Pong => Ok(ServerAction::Ignore),
            Kind::Goaway => {
                self.peer_goaway = true;
                Ok(ServerAction::Finish)
            }
            Kind::Item | Kind::End | Kind::Credit | Kind::Stop if self.streams => Ok(ServerAction::Stream),
            kind @ (Kind::Item | Kind::End | Kind::Credit | Kind::Stop) => {
                Err(ProtocolError::StreamsNotAgreed { kind })
            }
            Kind::Response => Err(ProtocolError::UnexpectedKind { kind: header.kind, side: "client" }),
        }
    }

    /// Handles a request with this number and these flags, as [`ServerSession::receive`] does.
    ///
    /// # Errors
    ///
    /// The client violated the protocol; the connection must be closed.
    #[inline]
    pub fn receive_request(&mut self, seq: Seq, flags: Flags) -> Result<ServerAction, ProtocolError> {
        if self.peer_goaway {
            return Err(ProtocolError::AfterGoaway { seq });
        }
        if self.last.is_some_and(|last| seq <= last) || seq == Seq(0) {
            return Err(ProtocolError::SeqNotIncreasing { seq, last: self.last.unwrap_or_default() });
        }
        self.last = Some(seq);
        if self.own_goaway.is_some() {
            return Ok(ServerAction::Ignore);
        }
        if self.streams && flags.contains(Flags::STREAMING) {
            return Ok(ServerAction::StartStream);
        }
        Ok(ServerAction::Start { answer: !flags.contains(Flags::ONE_WAY) })
    }

    /// Stops accepting requests. Returns the number for the goaway message: that of the last accepted request.
    pub fn goaway(&mut self) -> Seq {
        *self.own_goaway.get_or_insert(self.last.unwrap_or_default())
    }
}

/// The state machine of a client for the messages of a server.
#[derive(Clone, Debug, Default)]
pub struct ClientSession {
    pings: PingRate,
    streams: bool,
}

/// The action that a client must take for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Pass the response to the caller, if the caller still waits.
    Response,
    /// Answer with a pong of the same number.
    Pong,
    /// Pass the item, credit or stop to its call, if it is in flight.
    Stream,
    /// Send no further requests; those above this number are refused.
    Goaway {
        /// The last request that the server handles.
        last: Seq,
    },
    /// Ignore the message.
    Ignore,
}

impl ClientSession {
    /// Creates a session that has received nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the sides agreed on streams. Default: they did not.
    #[must_use]
    pub const fn with_streams(mut self, streams: bool) -> Self {
        self.streams = streams;
        self
    }

    /// Handles the header of a message that arrived at `now`.
    ///
    /// # Errors
    ///
    /// The server violated the protocol; the connection must be closed.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Result<ClientAction, ProtocolError> {
        match header.kind {
            Kind::Response => Ok(ClientAction::Response),
            Kind::Ping if self.pings.allows(now) => Ok(ClientAction::Pong),
            Kind::Ping => Err(ProtocolError::PingFlood),
            Kind::Pong => Ok(ClientAction::Ignore),
            Kind::Goaway => Ok(ClientAction::Goaway { last: header.seq }),
            Kind::Item | Kind::Credit | Kind::Stop if self.streams => Ok(ClientAction::Stream),
            kind @ (Kind::Item | Kind::End | Kind::Credit | Kind::Stop) if !self.streams => {
                Err(ProtocolError::StreamsNotAgreed { kind })
            }
            _ => Err(ProtocolError::UnexpectedKind { kind: header.kind, side: "server" }),
        }
    }
}

/// A violation of the protocol by the peer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame does not decode.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message has a kind that only the other side sends.
    #[error("a {kind} is not for a {side} to send")]
    UnexpectedKind {
        /// The kind.
        kind: Kind,
        /// The side that sent it: `client` or `server`.
        side: &'static str,
    },
    /// The number of a request is not greater than all before it.
    #[error("request {seq} does not grow: the last was {last}")]
    SeqNotIncreasing {
        /// The number.
        seq: Seq,
        /// The largest number before it; 0 if there was none.
        last: Seq,
    },
    /// A request follows the client's own goaway.
    #[error("request {seq} follows a goaway")]
    AfterGoaway {
        /// The number.
        seq: Seq,
    },
    /// A message of a stream, on a connection without streams.
    #[error("a message of kind {kind}, but the sides did not agree on streams")]
    StreamsNotAgreed {
        /// The kind.
        kind: Kind,
    },
    /// An item follows the notice that no more items come.
    #[error("an item of call {seq} follows its end")]
    ItemAfterEnd {
        /// The number of the call.
        seq: Seq,
    },
    /// An item for which the peer had no credit.
    #[error("call {seq}: {error}")]
    CreditExceeded {
        /// The number of the call.
        seq: Seq,
        /// The credit spent and granted.
        error: CreditExceeded,
    },
    /// The body of a credit message is not an unsigned integer.
    #[error("credit: {}", EscapedText(.message))]
    InvalidCredit {
        /// The mistake.
        message: String,
    },
    /// The peer sent more than [`MAX_PINGS`] pings within [`PING_WINDOW`].
    #[error("more than {MAX_PINGS} pings in {} s", PING_WINDOW.as_secs())]
    PingFlood,
}

impl ProtocolError {
    /// Returns the code for the goaway message that reports the violation.
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
    fn numbers_of_requests_must_increase() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Request, 5), Ok(START));
        assert_eq!(receive(&mut session, Kind::Request, 9), Ok(START));
        for seq in [9, 8, 0] {
            let error = receive(&mut session, Kind::Request, seq).unwrap_err();
            assert_eq!(error, ProtocolError::SeqNotIncreasing { seq: Seq(seq), last: Seq(9) });
        }
    }

    #[test]
    fn request_number_zero_is_a_protocol_error() {
        let error = receive(&mut ServerSession::new(), Kind::Request, 0).unwrap_err();
        assert_eq!(error.to_string(), "request 0 does not grow: the last was 0");
    }

    #[test]
    fn request_after_the_goaway_of_the_server_is_ignored() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Request, 7), Ok(START));
        assert_eq!(session.goaway(), Seq(7));
        assert_eq!(receive(&mut session, Kind::Request, 8), Ok(ServerAction::Ignore));
        assert_eq!(session.goaway(), Seq(7));
    }

    #[test]
    fn request_after_the_clients_own_goaway_is_a_protocol_error() {
        let mut session = ServerSession::new();
        assert_eq!(receive(&mut session, Kind::Goaway, 0), Ok(ServerAction::Finish));
        let error = receive(&mut session, Kind::Request, 1).unwrap_err();
        assert_eq!(error, ProtocolError::AfterGoaway { seq: Seq(1) });
    }

    #[test]
    fn one_way_request_expects_no_response() {
        let one_way = Header { flags: Flags::ONE_WAY, ..header(Kind::Request, 1) };
        let event = ServerSession::new().receive(&one_way, Instant::now());
        assert_eq!(event, Ok(ServerAction::Start { answer: false }));
    }

    #[test]
    fn messages_of_streams_need_an_agreement() {
        let streams = [Kind::Item, Kind::End, Kind::Credit, Kind::Stop];
        for kind in streams {
            let expected = Err(ProtocolError::StreamsNotAgreed { kind });
            assert_eq!(receive(&mut ServerSession::new(), kind, 1), expected);
            let client = ClientSession::new().receive(&header(kind, 1), Instant::now());
            assert_eq!(client, Err(ProtocolError::StreamsNotAgreed { kind }));
            let mut server = ServerSession::new().with_streams(true);
            assert_eq!(receive(&mut server, kind, 1), Ok(ServerAction::Stream));
            let client = ClientSession::new().with_streams(true).receive(&header(kind, 1), Instant::now());
            assert_eq!(client.is_ok(), kind != Kind::End, "an end is not for a server to send");
        }
    }

    #[test]
    fn streaming_request_is_answered_even_if_it_is_one_way() {
        let flags = Flags::ONE_WAY.with(Flags::STREAMING);
        let request = Header { flags, ..header(Kind::Request, 1) };
        let event = ServerSession::new().with_streams(true).receive(&request, Instant::now());
        assert_eq!(event, Ok(ServerAction::StartStream));
        let event = ServerSession::new().receive(&request, Instant::now());
        assert_eq!(event, Ok(ServerAction::Start { answer: false }));
    }

    #[test]
    fn kind_that_only_the_other_side_sends_is_a_protocol_error() {
        assert!(receive(&mut ServerSession::new(), Kind::Response, 1).is_err());
        for kind in [Kind::Request, Kind::Cancel] {
            assert!(ClientSession::new().receive(&header(kind, 1), Instant::now()).is_err());
        }
    }

    #[test]
    fn ping_flood_is_a_protocol_error_on_either_side() {
        let now = Instant::now();
        let (mut server, mut client) = (ServerSession::new(), ClientSession::new());
        for n in 0..10 {
            assert_eq!(server.receive(&header(Kind::Ping, n), now), Ok(ServerAction::Pong));
            assert_eq!(client.receive(&header(Kind::Ping, n), now), Ok(ClientAction::Pong));
        }
        assert_eq!(server.receive(&header(Kind::Ping, 11), now), Err(ProtocolError::PingFlood));
        assert_eq!(client.receive(&header(Kind::Ping, 11), now), Err(ProtocolError::PingFlood));
    }

    #[test]
    fn size_is_the_error_of_a_resource_and_all_else_of_an_argument() {
        let size = FrameError::from(crate::message::TooLarge::new(crate::message::Part::Body, 2, 1));
        assert_eq!(ProtocolError::from(size).code(), Code::ResourceExhausted);
        assert_eq!(ProtocolError::PingFlood.code(), Code::InvalidArgument);
        assert_eq!(ProtocolError::PingFlood.to_string(), "more than 10 pings in 5 s");
    }
}
