//! The command line: [`Cli`], with a variant of [`Command`] for each command.

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, call, complete, completions, describe, doctor, health, ls, man, new, ping, registry, schema,
    template, top,
};
use crate::exit;

/// Lists, describes, calls, measures, watches and checks farcall servers, which describe themselves.
#[derive(Debug, Parser)]
#[command(name = "farcall", version, after_help = exit::HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(ls::LsArgs),
    Describe(describe::DescribeArgs),
    Call(call::CallArgs),
    Ping(ping::PingArgs),
    Health(health::HealthArgs),
    Doctor(doctor::DoctorArgs),
    Bench(bench::BenchArgs),
    Registry(registry::RegistryArgs),
    Template(template::TemplateArgs),
    Schema(schema::SchemaArgs),
    Top(top::TopArgs),
    New(new::NewArgs),
    Completions(completions::CompletionsArgs),
    CompleteWords(complete::CompleteArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Returns `true` if Ctrl-C is the usual end of the command, which it notices itself.
    pub(crate) const fn ends_itself(&self) -> bool {
        match self {
            Self::Bench(_) | Self::Top(_) => true,
            Self::Registry(args) => args.ends_itself(),
            _ => false,
        }
    }
}
