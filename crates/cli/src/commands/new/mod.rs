//! `farcall new`: writes the workspace of a new service: its interface, a server, a client, and what runs them.

mod name;
mod project;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::name::Names;
use self::project::{Project, Source};
use crate::failure::Failure;
use crate::output;

/// Writes the workspace of a new service: interface, server, client, tests, Dockerfile and systemd unit.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  farcall new stock && cd stock && cargo test")]
pub(crate) struct NewArgs {
    /// Name of the service, as of a crate; the folder with this name is made here, unless it is there and empty.
    #[arg(value_name = "NAME")]
    name: String,
    /// Name of the trait, which callers see. Default: the name in upper camel case.
    #[arg(long, value_name = "TRAIT")]
    service: Option<String>,
    /// Folder of a clone of farcall, whose crates are used instead of those that are published.
    #[arg(long, value_name = "FOLDER", conflicts_with = "git")]
    path: Option<PathBuf>,
    /// URL of a repository of farcall, whose crates are used instead of those that are published.
    #[arg(long, value_name = "URL")]
    git: Option<String>,
}

/// Writes the workspace. No network is needed.
pub(crate) fn run(args: &NewArgs) -> Result<ExitCode, Failure> {
    let names = Names::parse(&args.name, args.service.as_deref())?;
    let source = match (&args.path, &args.git) {
        (Some(path), _) => Source::Path(library(path)?),
        (None, Some(url)) => Source::Git(url.clone()),
        (None, None) => Source::Published,
    };
    let note = match &source {
        Source::Path(_) => {
            "farcall is a folder of this machine, which the build of an image does not see: change that in Cargo.toml first\n"
        }
        Source::Git(_) | Source::Published => "",
    };
    let folder = Path::new(&args.name);
    let files = Project { names, source }.write(folder)?;
    output::print(&format!(
        "{files} files in {name}; next:\n  cd {name} && cargo test\n  cargo run --bin {name}-server\n  cargo run --bin {name}-client -- greet Ada\n{note}",
        name = args.name
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the folder of the crate `farcall` in a clone.
fn library(clone: &Path) -> Result<PathBuf, Failure> {
    let library = clone.join("crates/farcall");
    if !library.join("Cargo.toml").is_file() {
        let message = format!("--path {}: there is no crates/farcall/Cargo.toml in it", clone.display());
        return Err(Failure::usage(message).with_hint("give the folder of a clone of farcall".to_owned()));
    }
    // The manifest is in another folder than the one that the path is relative to.
    library.canonicalize().map_err(|error| Failure::local(format!("{}: {error}", library.display())))
}
