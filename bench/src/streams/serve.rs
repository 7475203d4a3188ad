//! The servers.

use clap::Args;

use super::source::Source;
use super::{farcall, raw, tonic};

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
            Source::Tonic => tonic::serve(true).await,
            Source::TonicDefault => tonic::serve(false).await,
        }
    }
}
