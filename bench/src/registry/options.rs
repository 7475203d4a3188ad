//! The options of the registry's benchmark.

use clap::{Args, ValueEnum};

#[derive(Args, Clone, Debug)]
pub(crate) struct LoadOptions {
    /// The measured time of each run, in seconds.
    #[arg(long, default_value_t = 10)]
    pub(super) seconds: u64,
    /// Number of registered instances.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) instances: u32,
    /// Number of services of the instances.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) services: u32,
    /// Number of watchers. Each is an open connection, in both processes.
    #[arg(long, default_value_t = 1_000)]
    pub(super) watchers: u32,
    /// Heartbeats a second, sent when they are due, whether or not earlier ones were answered.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) heartbeats: u32,
    /// Changes a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) changes: u32,
    /// Connections that heartbeats and lists are sent over.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) connections: u32,
    /// Kinds of watchers, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Watch::Each, Watch::One, Watch::All])]
    pub(super) watch: Vec<Watch>,
    /// Leaves out the lists, which are measured with both cores busy.
    #[arg(long)]
    pub(super) no_lists: bool,
    /// Number of rounds; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Prints one JSON object a line for each measurement instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

/// The services that the watchers watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Watch {
    /// Each watches another service, as clients do.
    Each,
    /// All watch the one service that all changes belong to.
    One,
    /// All watch all services.
    All,
}

impl Watch {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::One => "one",
            Self::All => "all",
        }
    }
}
