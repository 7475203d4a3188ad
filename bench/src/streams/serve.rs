//! The servers.

use clap::Args;

use super::source::Source;
#[cfg(feature = "rivals")]
use super::tonic;
use super::{farcall, raw};

/// Serves streams (used by `streams`).
#[derive(Args)]
pub(crate) struct ServeStreams {
    #[arg(long)]
    source: Source,
}

impl ServeStreams {
    /// Serves on a free port, and prints the address.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match self.source {
            Source::Raw => raw::serve().await,
            Source::Farcall => farcall::serve().await,
            #[cfg(feature = "rivals")]
            Source::Tonic => tonic::serve(true).await,
            #[cfg(feature = "rivals")]
            Source::TonicDefault => tonic::serve(false).await,
            #[cfg(not(feature = "rivals"))]
            Source::Tonic | Source::TonicDefault => anyhow::bail!(crate::peers::WITHOUT_RIVALS),
        }
    }
}
