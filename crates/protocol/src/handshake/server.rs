//! [`ServerPolicy`]: the terms that a server offers, and its answers to clients.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::negotiated::{Negotiated, StreamTerms};
use super::option::{
    ClientOption, OptionError, ServerOption, encode, from_millis, has_streams, limit, shown, store_name,
    window,
};
use super::{DEFAULT_CONNECT_TIMEOUT, MAGIC_NUMBER, STREAMS, VERSION};
use crate::code::Code;
use crate::codec::Codec;
use crate::compression::Compression;
use crate::limits::{MAX_OPTION_BYTES, MaxFrameBytes, MaxInFlight, MaxStreams, StreamWindow};
use crate::object::Object;
use crate::status::Status;
use crate::text::{parse_error, truncate};
use crate::time::{millis_rounded_up, sooner};

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
    /// The terms of streams; `None` if the server has none.
    pub streams: Option<StreamPolicy>,
    /// The name of the store in which the server keeps the keys of calls that it carries out once; `None` if it carries
    /// out none so.
    pub once_store: Option<Arc<str>>,
}

/// The terms of streams that a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamPolicy {
    /// The window that the server grants to each stream of items that it receives.
    pub window: StreamWindow,
    /// The number of streaming calls that the server runs concurrently for one connection.
    pub max_streams: MaxStreams,
}

impl StreamPolicy {
    /// Creates the terms from both.
    #[must_use]
    pub const fn new(window: StreamWindow, max_streams: MaxStreams) -> Self {
        Self { window, max_streams }
    }
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self {
            codecs: Codec::built_in(),
            handle_timeout: None,
            compression: Compression::built_in(),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
            streams: None,
            once_store: None,
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

    /// Sets the terms of streams. Default: no streams.
    #[must_use]
    pub fn streams(mut self, streams: impl Into<Option<StreamPolicy>>) -> Self {
        self.streams = streams.into();
        self
    }

    /// Sets the name of the store in which the server keeps the keys of calls that it carries out once. More than 128
    /// bytes of it are cut off; an empty one is none. Default: none, and the server carries out no calls so.
    #[must_use]
    pub fn once_store(mut self, name: impl Into<Option<Arc<str>>>) -> Self {
        self.once_store = name.into().and_then(|name| store_name(&name));
        self
    }

    /// Decodes a client's Option and negotiates the terms.
    ///
    /// # Errors
    ///
    /// A term is not acceptable. The status names it; send it back with [`ServerPolicy::encode_refusal`].
    pub fn negotiate(&self, option: &[u8]) -> Result<ClientHello, Status> {
        let refuse = |message: String| Err(Status::refused(Code::InvalidArgument, message));
        let requested: ClientOption = match serde_json::from_slice(option) {
            Ok(Object(requested)) => requested,
            Err(error) => return refuse(format!("Option: {}", parse_error(&error))),
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
        let streams = self.streams.filter(|_| has_streams(requested.features.as_ref())).map(|streams| {
            StreamTerms::new(window(requested.stream_window), streams.window, streams.max_streams)
        });
        Ok(ClientHello {
            negotiated: Negotiated {
                codec: codec.clone(),
                handle_timeout,
                compression,
                send_limit: limit(requested.max_frame_bytes),
                receive_limit: self.max_frame_bytes,
                max_in_flight: self.max_in_flight,
                streams,
                once_store: self.once_store.clone(),
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
            features: negotiated.streams.map(|_| vec![STREAMS.to_owned()]),
            stream_window: negotiated.streams.map(|streams| streams.receive_window.get() as u64),
            max_streams: negotiated.streams.map(|streams| streams.max_streams.get() as u64),
            once_store: negotiated.once_store.as_deref().map(str::to_owned),
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
