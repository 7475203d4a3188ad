//! Calls my-service from the command line.

mod settings;

use std::io::{IsTerminal as _, stderr};

use clap::{Parser, Subcommand};
use farcall::CallError;
use my_service_api::MyServiceClient;
use tracing_subscriber::EnvFilter;

use crate::settings::Cli;

/// Calls my-service.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    cli: Cli,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a greeting for each name.
    Greet {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();

    let channel = args.cli.settings()?.channel("MyService")?;
    let client = MyServiceClient::new(channel);
    let Command::Greet { names } = args.command;
    for name in names {
        match client.greet(name).await {
            Ok(greeting) => println!("{} (process {})", greeting.text, greeting.process),
            // The service's answer, which is an error.
            Err(CallError::Application(error)) => anyhow::bail!(error),
            // No answer: the text says why, and if the method may have run.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
