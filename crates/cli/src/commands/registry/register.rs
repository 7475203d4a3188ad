//! `farcall registry register`: keeps a server registered that cannot do it itself.

use std::time::Duration;

use clap::Args;
use farcall::Address;
use farcall::consul::ConsulRegistrar;
use farcall::discovery::{Instance, Registrar, RegistrationState, keep_registered_with};
use farcall::etcd::EtcdRegistrar;
use farcall::zookeeper::ZookeeperRegistrar;

use crate::environment::interrupted;
use crate::failure::Failure;
use crate::output::escape::word;
use crate::output::print;
use crate::targets::args::TargetArgs;
use crate::targets::place::Place;
use crate::targets::registry::usage;
use crate::targets::settings::Settings;
use crate::time;

/// The arguments of the command.
#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Service of the server.
    #[arg(value_name = "SERVICE")]
    name: String,
    /// Address that clients dial.
    #[arg(value_name = "ADDRESS")]
    address: Address,
    /// Id of the instance. Default: the address.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Weight, against those of others.
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// Zone of the server.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Version of the server.
    #[arg(long, value_name = "TEXT")]
    instance_version: Option<String>,
    /// Time that it stays registered if this command is killed.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    ttl: Option<Duration>,
}

pub(super) async fn run(args: RegisterArgs) -> Result<(), Failure> {
    let settings = Settings::resolve(&args.target)?;
    let mut instance = Instance::new(&args.name, args.address)
        .zone(args.zone)
        .version(args.instance_version)
        .ttl_ms(args.ttl.map(|ttl| ttl.as_millis() as u64));
    if let Some(id) = args.id {
        instance = instance.id(id);
    }
    if let Some(weight) = args.weight {
        instance = instance.weight(weight);
    }
    let instance = instance.check().map_err(|error| Failure::usage(error.to_string()))?;
    let registry = settings.registry();
    match &settings.place {
        Place::Etcd { .. } => keep(EtcdRegistrar::new(&registry.etcd()?).map_err(usage)?, instance).await,
        Place::Consul { .. } => {
            keep(ConsulRegistrar::new(&registry.consul()?).map_err(usage)?, instance).await
        }
        Place::Zookeeper { .. } => {
            let registrar = ZookeeperRegistrar::new(&registry.zookeeper()?).map_err(usage)?;
            Box::pin(keep(registrar, instance)).await
        }
        Place::Kubernetes { .. } => Err(Failure::usage("servers do not register in Kubernetes").with_hint(
            "a service has the pods of its selector, or the addresses of an EndpointSlice".to_owned(),
        )),
        // Boxed, as the one before, since its requests are large.
        _ => Box::pin(keep(registry.http_registrar()?, instance)).await,
    }
}

/// Keeps registered until Ctrl-C, and tells each change.
async fn keep(registrar: impl Registrar, instance: Instance) -> Result<(), Failure> {
    let (id, place) = (word(&instance.id), word(&registrar.describe()));
    let mut was_registered = false;
    let report = |state: RegistrationState| match state {
        RegistrationState::Registered { .. } if !was_registered => {
            was_registered = true;
            // Without a reader, the registration is what matters.
            let _ = print(&format!("registered {id} at {place}, until Ctrl-C\n"));
        }
        RegistrationState::Failing(error) => {
            was_registered = false;
            eprintln!("warning: {}", word(&error.reason));
        }
        _ => {}
    };
    keep_registered_with(registrar, instance, interrupted(), report).await;
    Ok(())
}
