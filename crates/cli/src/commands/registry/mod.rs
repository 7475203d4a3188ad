//! `farcall registry`: the instances in a registry, and what operators do with them.

mod admin;
mod listing;
mod register;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::admin::Admin;
use crate::failure::Failure;
use crate::output::Format;
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::value::Value;

/// Lists, watches and changes what a registry has: farcall's or etcd; Consul, ZooKeeper and Kubernetes are listed and watched.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Lists the services, or the instances of one.
    Ls(ListArgs),
    /// Shows each change of a service's instances, until Ctrl-C.
    Watch(watch::WatchArgs),
    /// Takes an instance out of the calls; those under way are finished.
    Drain(InstanceArgs),
    /// Lets a drained instance take calls again.
    Undrain(InstanceArgs),
    /// Sets the weight of an instance, against those of others.
    Weight(WeightArgs),
    /// Removes an instance. A server that is up registers again.
    Rm(InstanceArgs),
    /// Registers a server that cannot do it itself, and keeps it registered until Ctrl-C.
    Register(register::RegisterArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Service to list the instances of. Default: all services are listed.
    #[arg(value_name = "SERVICE")]
    only: Option<String>,
    /// Format of the list.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// An instance in a registry.
#[derive(Debug, Args)]
struct InstanceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Service of the instance.
    #[arg(value_name = "SERVICE")]
    name: String,
    /// Id of the instance, as `registry ls` shows it.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
struct WeightArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// Weight; 0 gets no calls.
    #[arg(value_name = "WEIGHT")]
    weight: u16,
}

impl RegistryArgs {
    /// Returns `true` if Ctrl-C is the usual end of the command.
    pub(crate) const fn ends_itself(&self) -> bool {
        matches!(self.command, RegistryCommand::Register(_) | RegistryCommand::Watch(_))
    }
}

pub(crate) async fn run(args: RegistryArgs) -> Result<ExitCode, Failure> {
    match args.command {
        RegistryCommand::Ls(args) => list(args).await?,
        RegistryCommand::Watch(args) => watch::run(args).await?,
        RegistryCommand::Register(args) => Box::pin(register::run(args)).await?,
        RegistryCommand::Drain(args) => admin(&args)?.drain(&args.name, &args.id).await?,
        RegistryCommand::Undrain(args) => admin(&args)?.undrain(&args.name, &args.id).await?,
        RegistryCommand::Rm(args) => admin(&args)?.remove(&args.name, &args.id).await?,
        RegistryCommand::Weight(WeightArgs { instance: args, weight }) => {
            admin(&args)?.set_weight(&args.name, &args.id, weight).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn admin(args: &InstanceArgs) -> Result<Admin, Failure> {
    Admin::new(&Settings::resolve(&args.target)?)
}

/// Returns the names of the services of a registry.
pub(crate) async fn service_names(settings: &Settings) -> Result<Vec<String>, Failure> {
    let rows = Admin::new(settings)?.services().await?;
    let names = rows.iter().filter_map(|row| match row.get("name") {
        Some(Value::Text(name)) => Some(name.clone()),
        _ => None,
    });
    Ok(names.collect())
}

/// Prints the services of a registry.
pub(crate) async fn list_services(settings: &Settings, output: Format) -> Result<(), Failure> {
    output.print(&Value::Array(Admin::new(settings)?.services().await?))
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let settings = Settings::resolve(&args.target)?;
    let admin = Admin::new(&settings)?;
    let rows = match args.only.or(settings.service) {
        Some(service) => admin.instances(&service).await?,
        None => admin.services().await?,
    };
    args.output.print(&Value::Array(rows))
}
