//! [`Change`]: a difference between two documents, with its [`Effect`]s.

use std::fmt;

/// A codec, by whose rules values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wire {
    /// `application/msgpack`.
    MessagePack,
    /// `application/json`.
    Json,
}

impl Wire {
    /// All codecs.
    pub const ALL: [Self; 2] = [Self::MessagePack, Self::Json];
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MessagePack => "MessagePack",
            Self::Json => "JSON",
        })
    }
}

/// A pair of a client and a server that were built of different documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pair {
    /// Clients of the old document call a server of the new one.
    OldClient,
    /// Clients of the new document call a server of the old one.
    NewClient,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OldClient => "old client, new server",
            Self::NewClient => "new client, old server",
        })
    }
}

/// The judgement of a change. Later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Verdict {
    /// Every value that one side writes is read by the other.
    Compatible,
    /// A type is not known well enough to tell.
    Unknown,
    /// There are values that one side writes and the other refuses.
    Breaking,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Compatible => "compatible",
            Self::Unknown => "unknown",
            Self::Breaking => "breaking",
        })
    }
}

/// The effect of a change on a pair of client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effect {
    /// The client and the server.
    pub pair: Pair,
    /// The codecs for which it holds.
    pub wires: Vec<Wire>,
    /// The judgement.
    pub verdict: Verdict,
    /// The reason for it.
    pub reason: String,
}

/// A change between two documents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The full name of the method, or the name of the service.
    pub method: String,
    /// The place in the method, such as `arguments.goods.parts[].id`; empty for the method as a whole.
    pub place: String,
    /// The change, such as "the optional `count` is new".
    pub what: String,
    /// The effects: at least one for each pair.
    pub effects: Vec<Effect>,
}

impl Change {
    /// Returns the worst verdict of all effects.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.effects.iter().map(|effect| effect.verdict).max().unwrap_or(Verdict::Compatible)
    }

    /// Returns the worst verdict for a pair.
    #[must_use]
    pub fn verdict_for(&self, pair: Pair) -> Verdict {
        let of_pair = self.effects.iter().filter(|effect| effect.pair == pair);
        of_pair.map(|effect| effect.verdict).max().unwrap_or(Verdict::Compatible)
    }
}
