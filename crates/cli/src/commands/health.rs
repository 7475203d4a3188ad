//! `farcall health`: whether every instance takes calls, for scripts and probes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use farcall::RpcError;
use farcall::protocol::describe::{HEALTH, Health, HealthRequest, HealthStatus};
use tokio::time::sleep;

use crate::environment::Environment;
use crate::exit::success_if;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::time;
use crate::value::Value;

/// The pause between two checks with `--wait`.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks every instance if it takes calls; exit code 1 if one does not.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  farcall health 127.0.0.1:7001\n  farcall health 127.0.0.1:7001 --wait 30s   # until it is up"
)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Waits until all instances take calls, for this time at most.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s", value_parser = time::parse)]
    wait: Option<Duration>,
    /// Format of the result.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(args: HealthArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let checking = async {
        loop {
            match (check(&settings, environment).await, args.wait) {
                (Ok((rows, false)), None) => return Ok((rows, false)),
                (Ok((rows, true)), _) => return Ok((rows, true)),
                // A wrong command line does not get right by waiting.
                (Err(failure), wait) if wait.is_none() || failure.is_usage() => return Err(failure),
                _ => sleep(PAUSE).await,
            }
        }
    };
    let (rows, is_healthy) = match args.wait {
        None => checking.await?,
        Some(limit) => match tokio::time::timeout(limit, checking).await {
            Ok(outcome) => outcome?,
            // The last state says why.
            Err(_) => check(&settings, environment).await?,
        },
    };
    args.output.print(&Value::Array(rows))?;
    Ok(success_if(is_healthy))
}

/// Asks all instances once; returns a row for each, and `true` if all take calls.
async fn check(settings: &Settings, environment: &Environment) -> Result<(Vec<Value>, bool), Failure> {
    let request = HealthRequest::default();
    let session = Session::open(settings.clone(), None, SessionOptions::default(), environment).await?;
    let limit = settings.timeout.unwrap_or(settings.connect_timeout);
    let call = session.channel.call::<Health>(HEALTH, &request).timeout(limit);
    let outcomes = call.broadcast().each().await.map_err(|error| Failure::of_call(&error, true))?;
    let mut is_healthy = true;
    let rows = outcomes.into_iter().map(|outcome| {
        let status = match outcome.value.map_err(RpcError::from) {
            Ok(Health { status: HealthStatus::Serving, .. }) => "serving".to_owned(),
            Ok(_) => {
                is_healthy = false;
                "draining".to_owned()
            }
            Err(error) => {
                is_healthy = false;
                error.to_string()
            }
        };
        Value::object([
            ("endpoint", Value::text(outcome.endpoint.to_string())),
            ("status", Value::text(status)),
        ])
    });
    let rows = rows.collect();
    session.channel.close();
    Ok((rows, is_healthy))
}
