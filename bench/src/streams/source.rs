//! [`Source`]: the programs that stream.

use std::fmt;
use std::str::FromStr;

use anyhow::anyhow;

/// A program that streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// tokio-util's `LengthDelimitedCodec`, as many frames in one write as are 64 KiB.
    Raw,
    Farcall,
    /// tonic with the windows that `compare` gives it.
    Tonic,
    /// tonic with its defaults.
    TonicDefault,
    /// volo's gRPC with the same windows as tonic.
    Volo,
}

impl Source {
    pub(super) const ALL: [Self; 5] = [Self::Raw, Self::Farcall, Self::Tonic, Self::TonicDefault, Self::Volo];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Farcall => "farcall",
            Self::Tonic => "tonic",
            Self::TonicDefault => "tonic-default",
            Self::Volo => "volo",
        }
    }
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|source| source.name() == name);
        found.ok_or_else(|| anyhow!("`{name}` is none of raw, farcall, tonic, tonic-default, volo"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
