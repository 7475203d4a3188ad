//! `farcall completions`: a script that completes the command line in a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::print;

/// Prints a script that completes commands and flags.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  farcall completions bash > ~/.local/share/bash-completion/completions/farcall"
)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete in.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script for the command line of `C`.
pub(crate) fn run<C: clap::Parser>(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "farcall", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
