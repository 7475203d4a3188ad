//! `farcall schema`: saves the types of a server, tells what a change of them breaks, and generates clients.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use farcall_schema::{Change, Document, Verdict, compare};

use crate::environment::Environment;
use crate::exit::success_if;
use crate::failure::Failure;
use crate::output::escape::word;
use crate::output::json::pretty;
use crate::output::print;
use crate::schema;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;

/// Saves and compares the types of servers, and generates typed clients.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Writes the schema of a server, as JSON with JSON Schema 2020-12 for the types.
    Save(SourceArgs),
    /// Shows each change between two files, its verdict, and why.
    Diff(PairArgs),
    /// Shows the changes that are not compatible; exit code 1 if one breaks old or new clients.
    Check(PairArgs),
    /// Generates a client in Rust.
    Rust(SourceArgs),
    /// Generates a client in Python.
    Python(SourceArgs),
    /// Generates a client in TypeScript.
    Typescript(TypescriptArgs),
}

#[derive(Debug, Args)]
struct SourceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// File to write. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TypescriptArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Path of farcall's client in JavaScript, as the generated file imports it.
    #[arg(long, value_name = "PATH", default_value = "./farcall.js")]
    import: String,
}

/// Two files of `farcall schema save`.
#[derive(Debug, Args)]
struct PairArgs {
    /// File with the schema before.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// File with the schema after.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

pub(crate) async fn run(args: SchemaArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    match args.command {
        SchemaCommand::Save(args) => write(args, environment, |document| pretty(&document.to_json())).await,
        SchemaCommand::Rust(args) => write(args, environment, farcall_schema::rust).await,
        SchemaCommand::Python(args) => write(args, environment, farcall_schema::python).await,
        SchemaCommand::Typescript(TypescriptArgs { source, import }) => {
            write(source, environment, |document| farcall_schema::typescript(document, &import)).await
        }
        SchemaCommand::Diff(args) => {
            for change in changes(&args)? {
                print(&text(&change))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        SchemaCommand::Check(args) => {
            let changes = changes(&args)?;
            for change in changes.iter().filter(|change| change.verdict() != Verdict::Compatible) {
                print(&text(change))?;
            }
            Ok(success_if(changes.iter().all(|change| change.verdict() != Verdict::Breaking)))
        }
    }
}

/// Writes what is made of a server's schema.
async fn write(
    args: SourceArgs,
    environment: &Environment,
    make: impl FnOnce(&Document) -> String,
) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let session = Session::open(settings, None, SessionOptions::default(), environment).await?;
    let made = make(&schema::of_server(&session).await?);
    match args.out {
        None => print(&made)?,
        Some(path) => std::fs::write(&path, made)
            .map_err(|error| Failure::local(format!("{}: {error}", path.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn changes(args: &PairArgs) -> Result<Vec<Change>, Failure> {
    Ok(compare(&schema::of_file(&args.old)?, &schema::of_file(&args.new)?))
}

/// Returns a change, and a line for each thing that it does to clients.
fn text(change: &Change) -> String {
    let place = if change.place.is_empty() { String::new() } else { format!(" {}", word(&change.place)) };
    let mut text = format!("{}{place}: {}\n", word(&change.method), word(&change.what));
    for effect in &change.effects {
        let codecs: Vec<_> = effect.wires.iter().map(ToString::to_string).collect();
        let (pair, codecs, reason) = (effect.pair, codecs.join(", "), word(&effect.reason));
        text.push_str(&format!("    {pair} in {codecs}: {}: {reason}\n", effect.verdict));
    }
    text
}
