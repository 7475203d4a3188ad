//! `farcall man`: the manual pages, one for each command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::failure::Failure;

/// Writes the manual pages into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  farcall man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder to write to; it is created if it is missing.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the pages of the command line of `C`.
pub(crate) fn run<C: clap::Parser>(args: &ManArgs) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::local(format!("{}: {error}", args.folder.display()));
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(C::command(), &args.folder).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
