//! The phases of a call.

/// The phase in which a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Encoding its arguments, and everything else before an endpoint is picked.
    Prepare,
    /// Picking an endpoint.
    Pick,
    /// Resolving the addresses of a name.
    Resolve,
    /// Opening a connection.
    Connect,
    /// The handshake of a connection.
    Handshake,
    /// Waiting for a slot among the calls that the server runs at once.
    Queue,
    /// Writing the request.
    Write,
    /// Waiting for the response.
    Wait,
    /// The response came, and is an error or cannot be read.
    Answer,
}

impl Phase {
    /// Returns the phase as the beginning of a sentence about an endpoint.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Prepare => "calling",
            Self::Pick => "choosing",
            Self::Resolve => "resolving",
            Self::Connect | Self::Handshake => "connecting to",
            Self::Queue => "waiting for a place at",
            Self::Write => "writing to",
            Self::Wait => "waiting for",
            Self::Answer => "answer of",
        }
    }
}
