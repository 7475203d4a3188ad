//! `farcall ls`: the methods of a server, or of one of its services; the services of a registry.

use std::process::ExitCode;

use clap::Args;
use farcall::protocol::describe::ServiceInfo;

use super::registry;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::methods::{idempotence, items, nearest, signature};
use crate::output::escape::{lines, word};
use crate::output::table::table;
use crate::output::{Format, print};
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::value::Value;

/// Lists the methods of a server, or of one of its services; the services of a registry.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall ls 127.0.0.1:7001
  farcall ls 127.0.0.1:7001 Arith
  farcall ls http://127.0.0.1:7100/registry
  farcall ls http://127.0.0.1:7100/registry Arith")]
pub(crate) struct LsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Service to list the methods of. Default: all of a server; for a registry, its services are listed.
    #[arg(value_name = "SERVICE")]
    only: Option<String>,
    /// Format of the list.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: LsArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let LsArgs { target, only, output } = args;
    let mut settings = Settings::resolve(&target)?;
    // In a registry, the service that is listed is the one to look for, and may have another name there than for its server.
    let is_looked_for = settings.is_registry() && settings.service.is_none();
    if is_looked_for {
        settings.service.clone_from(&only);
    }
    if settings.is_registry() && settings.service.is_none() {
        registry::list_services(&settings, output).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let session = Session::open(settings, None, SessionOptions::default(), environment).await?;
    let mut services = described(&session).await?;
    let is_described = |wanted: &String| services.iter().any(|service| service.name == *wanted);
    if let Some(wanted) = only.as_ref().filter(|wanted| !is_looked_for || is_described(wanted)) {
        let names = services.iter().map(|service| service.name.clone());
        let near = nearest(names, wanted).map(|near| format!("did you mean `{}`?", word(&near)));
        services.retain(|service| service.name == *wanted);
        if services.is_empty() {
            return Err(Failure::usage(format!("there is no service `{}`", word(wanted))).with_hint(near));
        }
    }
    match output {
        Format::Table => print(&methods(&services))?,
        format => format.print(&Value::of(&services))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the services, which the server must describe.
pub(crate) async fn described(session: &Session) -> Result<Vec<ServiceInfo>, Failure> {
    match session.services().await {
        Ok(Some(services)) => Ok(services),
        Ok(None) => Err(Failure::local("the server does not describe its services")
            .with_hint("its reserved methods are off (`Server::without_reserved_methods`)".to_owned())),
        Err(error) => Err(Failure::of_call(&error, true)),
    }
}

/// Returns a line for each method, with the first line of its documentation.
fn methods(services: &[ServiceInfo]) -> String {
    let rows = services.iter().flat_map(|service| {
        service.methods.iter().map(move |method| {
            let doc = lines(&method.doc).next().unwrap_or_default();
            let name = format!(
                "{}.{}{}{}",
                word(&service.name),
                word(&method.name),
                signature(method),
                items(method)
            );
            [name, idempotence(method).to_owned(), doc]
        })
    });
    table(&["method", "repeating", "documentation"], rows)
}
