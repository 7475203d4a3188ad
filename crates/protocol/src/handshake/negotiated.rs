//! [`Negotiated`]: the terms of a connection after the handshake.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::Codec;
use crate::compression::Compression;
use crate::limits::{MaxFrameBytes, MaxInFlight, MaxStreams, StreamWindow};

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
    /// The terms of streams; `None` if the sides did not agree on streams.
    pub streams: Option<StreamTerms>,
    /// The name of the store in which the server keeps the keys of calls that it carries out once: at most
    /// [`MAX_ONCE_STORE_BYTES`](crate::limits::MAX_ONCE_STORE_BYTES). `None` if it carries out none so.
    pub once_store: Option<Arc<str>>,
}

/// The terms of the streams of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamTerms {
    /// The credit that the peer grants to each direction of a call that this side sends on.
    pub send_window: StreamWindow,
    /// The credit that this side grants to each direction of a call that the peer sends on.
    pub receive_window: StreamWindow,
    /// The number of streaming calls that the server runs concurrently for this connection, in addition to
    /// `max_in_flight` others.
    pub max_streams: MaxStreams,
}

impl StreamTerms {
    /// Creates the terms of a side that grants `receive_window`, with a peer that grants `send_window`.
    #[must_use]
    pub const fn new(
        send_window: StreamWindow,
        receive_window: StreamWindow,
        max_streams: MaxStreams,
    ) -> Self {
        Self { send_window, receive_window, max_streams }
    }
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
            streams: None,
            once_store: None,
        }
    }
}
