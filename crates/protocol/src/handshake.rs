//! The handshake: the Option, which is the first frame in each direction, and the negotiation of its terms.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::{Code, Execution};
use crate::codec::Codec;
use crate::compression::Compression;
use crate::limits::{MAX_OPTION_BYTES, MaxFrameBytes, MaxInFlight};
use crate::object::Object;
use crate::status::Status;
use crate::text::{EscapedText, MAX_PEER_TEXT, truncate};
use crate::time::{millis_rounded_up, sooner};

/// The number that every Option begins with. It detects peers that speak another protocol; it does not
/// authenticate.
pub const MAGIC_NUMBER: u32 = 0xCAFE_BABE;
/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
/// The default budget for connecting and the handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The terms that a client requests.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOffer {
    /// The codec of the connection.
    pub codec: Codec,
    /// The budget for the whole handshake.
    pub connect_timeout: Duration,
    /// The longest time a handler may run for a call on this connection; `None` if there is no limit.
    pub handle_timeout: Option<Duration>,
    /// Compressions in order of preference.
    pub compression: Vec<Compression>,
    /// The largest frame that the client accepts.
    pub max_frame_bytes: MaxFrameBytes,
    /// A bearer credential.
    pub token: Option<String>,
}

#[cfg(any(feature = "msgpack", feature = "json"))]
impl Default for ClientOffer {
    fn default() -> Self {
        Self {
            codec: Codec::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            handle_timeout: None,
            compression: Vec::new(),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            token: None,
        }
    }
}

impl ClientOffer {
    /// Sets the codec of the connection. Default: MessagePack if it is built in.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the budget for the whole handshake. Default: 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the longest time a handler may run. Default: no limit.
    #[must_use]
    pub fn handle_timeout(mut self, handle_timeout: impl Into<Option<Duration>>) -> Self {
        self.handle_timeout = handle_timeout.into();
        self
    }

    /// Sets the compressions, in order of preference. Default: none.
    #[must_use]
    pub fn compression(mut self, compression: Vec<Compression>) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the largest frame that the client accepts. Default: 4 MiB.
    #[must_use]
    pub const fn max_frame_bytes(mut self, max_frame_bytes: MaxFrameBytes) -> Self {
        self.max_frame_bytes = max_frame_bytes;
        self
    }

    /// Sets the bearer credential. Default: none.
    #[must_use]
    pub fn token(mut self, token: impl Into<Option<String>>) -> Self {
        self.token = token.into();
        self
    }
}

impl fmt::Debug for ClientOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOffer")
            .field("codec", &self.codec)
            .field("connect_timeout", &self.connect_timeout)
            .field("handle_timeout", &self.handle_timeout)
            .field("compression", &self.compression)
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .finish()
    }
}

/// The terms that a server offers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerPolicy {
    /// The codecs that the server supports.
    pub codecs: Vec<Codec>,
    /// The longest time a handler may run; `None` if there is no limit.
    pub handle_timeout: Option<Duration>,
    /// The compressions that the server supports.
    pub compression: Vec<Compression>,
    /// The largest frame that the server accepts.
    pub max_frame_bytes: MaxFrameBytes,
    /// The number of calls that the server runs concurrently for one connection.
    pub max_in_flight: MaxInFlight,
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self {
            codecs: Codec::built_in(),
            handle_timeout: None,
            compression: Compression::built_in(),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
        }
    }
}

impl ServerPolicy {
    /// Sets the codecs that the server supports. Default: all that are built in.
    #[must_use]
    pub fn codecs(mut self, codecs: Vec<Codec>) -> Self {
        self.codecs = codecs;
        self
    }

    /// Sets the longest time a handler may run. Default: no limit.
    #[must_use]
    pub fn handle_timeout(mut self, handle_timeout: impl Into<Option<Duration>>) -> Self {
        self.handle_timeout = handle_timeout.into();
        self
    }

    /// Sets the compressions that the server supports. Default: all that are built in.
    #[must_use]
    pub fn compression(mut self, compression: Vec<Compression>) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the largest frame that the server accepts. Default: 4 MiB.
    #[must_use]
    pub const fn max_frame_bytes(mut self, max_frame_bytes: MaxFrameBytes) -> Self {
        self.max_frame_bytes = max_frame_bytes;
        self
    }

    /// Sets the number of calls that the server runs concurrently for one connection. Default: 1,024.
    #[must_use]
    pub const fn max_in_flight(mut self, max_in_flight: MaxInFlight) -> Self {
        self.max_in_flight = max_in_flight;
        self
    }
}

/// The terms of a connection after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The codec of headers and bodies.
    pub codec: Codec,
    /// The longest time a handler may run; `None` if there is no limit.
    pub handle_timeout: Option<Duration>,
    /// The compression that either side may use for a body; `None` if bodies are not compressed.
    pub compression: Option<Compression>,
    /// The largest frame that the peer accepts.
    pub send_limit: MaxFrameBytes,
    /// The largest frame that this side accepts.
    pub receive_limit: MaxFrameBytes,
    /// The number of calls that the server runs concurrently for this connection.
    pub max_in_flight: MaxInFlight,
}

impl Negotiated {
    /// Creates the terms of a connection in `codec`, without compression and time limit, and with the default
    /// limits of frames and calls.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            handle_timeout: None,
            compression: None,
            send_limit: MaxFrameBytes::DEFAULT,
            receive_limit: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
        }
    }
}

/// The client's Option on the wire.
#[derive(Serialize, Deserialize)]
struct ClientOption {
    magic_number: Option<u64>,
    version: Option<u64>,
    codec_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_frame_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// The server's Option on the wire.
#[derive(Default, Serialize, Deserialize)]
struct ServerOption {
    magic_number: Option<u64>,
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_frame_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codecs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Object<OptionError>>,
}

#[derive(Serialize, Deserialize)]
struct OptionError {
    code: Option<String>,
    message: Option<String>,
}

impl ClientOffer {
    /// Encodes the Option frame that requests these terms.
    ///
    /// # Errors
    ///
    /// The frame would exceed 4 KiB, which only a long token can cause.
    pub fn encode(&self) -> Result<Vec<u8>, HandshakeError> {
        let names: Vec<_> = self.compression.iter().map(|one| one.name().to_owned()).collect();
        let stated = |limit: MaxFrameBytes| (limit != MaxFrameBytes::DEFAULT).then_some(limit.get() as u64);
        let option = ClientOption {
            magic_number: Some(MAGIC_NUMBER.into()),
            version: Some(VERSION.into()),
            codec_type: Some(self.codec.name().to_owned()),
            connect_timeout_ms: (self.connect_timeout != DEFAULT_CONNECT_TIMEOUT)
                .then(|| millis_rounded_up(self.connect_timeout)),
            handle_timeout_ms: self.handle_timeout.map(millis_rounded_up),
            compression: (!names.is_empty()).then_some(names),
            max_frame_bytes: stated(self.max_frame_bytes),
            token: self.token.clone(),
        };
        let frame = serde_json::to_vec(&option).expect("strings and numbers always encode");
        if frame.len() > MAX_OPTION_BYTES {
            return Err(HandshakeError::OptionTooLarge { size: frame.len() });
        }
        Ok(frame)
    }

    /// Decodes the server's answer to [`ClientOffer::encode`].
    ///
    /// # Errors
    ///
    /// The server refused, or answered with a term that was not requested.
    pub fn accept_answer(&self, answer: &[u8]) -> Result<Negotiated, HandshakeError> {
        let Object(answer): Object<ServerOption> = serde_json::from_slice(answer)
            .map_err(|error| HandshakeError::Malformed { message: error.to_string() })?;
        if let Some(Object(error)) = answer.error {
            let code = error.code.as_deref().map_or(Code::Internal, Code::from_name);
            let message = truncate(&error.message.unwrap_or_default(), MAX_PEER_TEXT).to_owned();
            let codecs = answer.codecs.unwrap_or_default();
            return Err(HandshakeError::Refused {
                status: Status::new(code, Execution::Refused, message),
                codecs,
            });
        }
        let wrong = |field, found: String| Err(HandshakeError::Unasked { field, found });
        if answer.magic_number != Some(MAGIC_NUMBER.into()) {
            return wrong("magic_number", shown(answer.magic_number));
        }
        if answer.version != Some(VERSION.into()) {
            return wrong("version", shown(answer.version));
        }
        if answer.codec_type.as_deref() != Some(self.codec.name()) {
            return wrong("codec_type", shown(answer.codec_type.as_ref()));
        }
        let compression = match answer.compression {
            None => None,
            Some(name) => match self.compression.iter().find(|one| one.name() == name) {
                Some(one) => Some(*one),
                None => return wrong("compression", shown(Some(name))),
            },
        };
        Ok(Negotiated {
            codec: self.codec.clone(),
            handle_timeout: from_millis(answer.handle_timeout_ms),
            compression,
            send_limit: limit(answer.max_frame_bytes),
            receive_limit: self.max_frame_bytes,
            max_in_flight: answer.max_in_flight.map_or(MaxInFlight::DEFAULT, |calls| {
                MaxInFlight::new(usize::try_from(calls).unwrap_or(usize::MAX))
            }),
        })
    }
}

/// A client's Option as decoded by the server: the negotiated terms, and the fields that need no negotiation.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientHello {
    /// The terms of the connection, if the server accepts it.
    pub negotiated: Negotiated,
    /// The client's credential.
    pub token: Option<String>,
    /// The client's budget for the whole handshake.
    pub connect_timeout: Duration,
}

impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("negotiated", &self.negotiated)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

impl ServerPolicy {
    /// Decodes a client's Option and negotiates the terms.
    ///
    /// # Errors
    ///
    /// A term is not acceptable. The status names it; send it back with [`ServerPolicy::encode_refusal`].
    pub fn negotiate(&self, option: &[u8]) -> Result<ClientHello, Status> {
        let refuse = |message: String| Err(Status::refused(Code::InvalidArgument, message));
        let requested: ClientOption = match serde_json::from_slice(option) {
            Ok(Object(requested)) => requested,
            Err(error) => return refuse(format!("Option: {error}")),
        };
        if requested.magic_number != Some(MAGIC_NUMBER.into()) {
            return refuse(format!(
                "magic_number {}: {MAGIC_NUMBER} is required",
                shown(requested.magic_number)
            ));
        }
        if requested.version != Some(VERSION.into()) {
            return refuse(format!("version {}: this server speaks {VERSION}", shown(requested.version)));
        }
        let codec = self.codecs.iter().find(|codec| requested.codec_type.as_deref() == Some(codec.name()));
        let Some(codec) = codec else {
            let spoken: Vec<_> = self.codecs.iter().map(Codec::name).collect();
            let found = shown(requested.codec_type.as_ref());
            return refuse(format!("codec_type {found}: this server speaks {}", spoken.join(", ")));
        };
        let wanted = requested.compression.unwrap_or_default();
        let compression =
            wanted.iter().find_map(|name| self.compression.iter().find(|one| one.name() == name)).copied();
        let handle_timeout = sooner(from_millis(requested.handle_timeout_ms), self.handle_timeout);
        Ok(ClientHello {
            negotiated: Negotiated {
                codec: codec.clone(),
                handle_timeout,
                compression,
                send_limit: limit(requested.max_frame_bytes),
                receive_limit: self.max_frame_bytes,
                max_in_flight: self.max_in_flight,
            },
            token: requested.token,
            connect_timeout: from_millis(requested.connect_timeout_ms).unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        })
    }

    /// Encodes the Option frame that accepts.
    #[must_use]
    pub fn encode_accept(negotiated: &Negotiated) -> Vec<u8> {
        encode(&ServerOption {
            magic_number: Some(MAGIC_NUMBER.into()),
            version: Some(VERSION.into()),
            codec_type: Some(negotiated.codec.name().to_owned()),
            handle_timeout_ms: Some(negotiated.handle_timeout.map_or(0, millis_rounded_up)),
            compression: negotiated.compression.map(|one| one.name().to_owned()),
            max_frame_bytes: Some(negotiated.receive_limit.get() as u64),
            max_in_flight: Some(negotiated.max_in_flight.get() as u64),
            ..ServerOption::default()
        })
    }

    /// Encodes the Option frame that refuses and lists the codecs that this server supports.
    #[must_use]
    pub fn encode_refusal(&self, status: &Status) -> Vec<u8> {
        let refusal = |message: &str| {
            encode(&ServerOption {
                magic_number: Some(MAGIC_NUMBER.into()),
                version: Some(VERSION.into()),
                codecs: Some(self.codecs.iter().map(|codec| codec.name().to_owned()).collect()),
                error: Some(Object(OptionError {
                    code: Some(status.code.name().to_owned()),
                    message: Some(message.to_owned()),
                })),
                ..ServerOption::default()
            })
        };
        // JSON encodes a control character as six bytes, and clients refuse an Option over 4 KiB.
        let mut message = status.wire_message();
        let mut frame = refusal(message);
        while frame.len() > MAX_OPTION_BYTES && !message.is_empty() {
            message = truncate(message, message.len() / 2);
            frame = refusal(message);
        }
        frame
    }
}

fn encode(option: &ServerOption) -> Vec<u8> {
    serde_json::to_vec(option).expect("strings and numbers always encode")
}

fn from_millis(millis: Option<u64>) -> Option<Duration> {
    millis.filter(|millis| *millis > 0).map(Duration::from_millis)
}

fn limit(bytes: Option<u64>) -> MaxFrameBytes {
    bytes.map_or(MaxFrameBytes::DEFAULT, |bytes| {
        MaxFrameBytes::new(usize::try_from(bytes).unwrap_or(usize::MAX))
    })
}

/// Formats a value that a peer sent, for a message.
fn shown(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(
        || "is missing".to_owned(),
        |value| format!("`{}`", EscapedText(truncate(&value.to_string(), 100))),
    )
}

/// The error of a handshake that failed, seen from the client.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server refused.
    #[error("refused: {status}{}", spoken(.codecs))]
    Refused {
        /// The reason.
        status: Status,
        /// The codecs that the server supports.
        codecs: Vec<String>,
    },
    /// The server's answer is not an Option.
    #[error("the answer is no Option: {}", EscapedText(.message))]
    Malformed {
        /// The message of the JSON parser.
        message: String,
    },
    /// The server answered with a term that was not requested.
    #[error("the answer's {field} {found} is not what was asked for")]
    Unasked {
        /// The name of the field.
        field: &'static str,
        /// The value of the field, quoted, or "is missing".
        found: String,
    },
    /// The client's Option would exceed 4 KiB.
    #[error("the Option has {size} bytes, {MAX_OPTION_BYTES} are allowed: the token is too long")]
    OptionTooLarge {
        /// The size in bytes.
        size: usize,
    },
}

fn spoken(codecs: &[String]) -> String {
    if codecs.is_empty() {
        return String::new();
    }
    format!(" (it speaks {})", EscapedText(&codecs.join(", ")))
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
