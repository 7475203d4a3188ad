//! [`ClientOffer`]: the terms that a client requests, and its reading of the answer.

use std::fmt;
use std::time::Duration;

use super::error::HandshakeError;
use super::negotiated::{Negotiated, StreamTerms};
use super::option::{
    ClientOption, ServerOption, from_millis, has_streams, in_flight, limit, shown, store_name, window,
};
use super::{DEFAULT_CONNECT_TIMEOUT, MAGIC_NUMBER, STREAMS, VERSION};
use crate::code::{Code, Execution};
use crate::codec::Codec;
use crate::compression::Compression;
use crate::limits::{MAX_OPTION_BYTES, MaxFrameBytes, MaxStreams, StreamWindow};
use crate::object::Object;
use crate::status::Status;
use crate::text::{MAX_PEER_TEXT, parse_error, truncate};
use crate::time::millis_rounded_up;

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
    /// The window that the client grants to each stream of items that it receives; `None` if it offers no streams.
    pub streams: Option<StreamWindow>,
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
            streams: None,
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

    /// Offers streams, and sets the window that the client grants to each. Default: no streams.
    #[must_use]
    pub fn streams(mut self, window: impl Into<Option<StreamWindow>>) -> Self {
        self.streams = window.into();
        self
    }

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
            features: self.streams.map(|_| vec![STREAMS.to_owned()]),
            stream_window: self
                .streams
                .filter(|window| *window != StreamWindow::DEFAULT)
                .map(|window| window.get() as u64),
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
            .map_err(|error| HandshakeError::Malformed { message: parse_error(&error) })?;
        if let Some(Object(error)) = answer.error {
            let code = error.code.as_deref().map_or(Code::Internal, Code::from_name);
            let message = error.message.filter(|message| !message.is_empty());
            let message = truncate(message.as_deref().unwrap_or(code.name()), MAX_PEER_TEXT).to_owned();
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
        let streams = match self.streams {
            Some(receive_window) if has_streams(answer.features.as_ref()) => Some(StreamTerms::new(
                window(answer.stream_window),
                receive_window,
                answer.max_streams.map_or(MaxStreams::DEFAULT, |calls| {
                    MaxStreams::new(usize::try_from(calls).unwrap_or(usize::MAX))
                }),
            )),
            None if has_streams(answer.features.as_ref()) => {
                return wrong("features", shown(Some(STREAMS)));
            }
            _ => None,
        };
        Ok(Negotiated {
            codec: self.codec.clone(),
            handle_timeout: from_millis(answer.handle_timeout_ms),
            compression,
            send_limit: limit(answer.max_frame_bytes),
            receive_limit: self.max_frame_bytes,
            max_in_flight: in_flight(answer.max_in_flight),
            streams,
            once_store: answer.once_store.and_then(|name| store_name(&name)),
        })
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
            .field("streams", &self.streams)
            .finish()
    }
}
