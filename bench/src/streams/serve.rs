//! The servers.

use clap::Args;

use super::source::Source;
use super::{farcall, raw};
#[cfg(feature = "rivals")]
use super::{tonic, volo};

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
            #[cfg(feature = "rivals")]
            Source::Volo => volo::serve().await,
            #[cfg(not(feature = "rivals"))]
            Source::Tonic | Source::TonicDefault | Source::Volo => {
                anyhow::bail!(crate::peers::WITHOUT_RIVALS)
            }
        }
    }
}
