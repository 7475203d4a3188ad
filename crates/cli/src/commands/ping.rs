//! `farcall ping`: the time of a round trip to each instance.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use farcall::client::Connection;
use farcall::protocol::describe::{HEALTH, HealthRequest};
use farcall::{Channel, Code, RpcError};
use tokio::time::{MissedTickBehavior, interval};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::print;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::time::{self, show};

/// Measures the time of round trips, over a connection that is there.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  farcall ping 127.0.0.1:7001\n  farcall ping 127.0.0.1:7001 --count 0   # until Ctrl-C"
)]
pub(crate) struct PingArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Round trips to make; 0 goes on until Ctrl-C.
    #[arg(short, long, value_name = "N", default_value_t = 4)]
    count: u64,
    /// Time between two of them.
    #[arg(short, long, value_name = "TIME", default_value = "200ms", value_parser = time::parse)]
    interval: Duration,
}

pub(crate) async fn run(args: PingArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let PingArgs { target, count, interval: pause } = args;
    let settings = Settings::resolve(&target)?;
    let limit = settings.timeout.unwrap_or(settings.connect_timeout);
    let session = Session::open(settings, None, SessionOptions::default(), environment).await?;
    let endpoint = session.channel.connection().as_ref().map(Connection::endpoint).map(ToString::to_string);
    let endpoint = endpoint.unwrap_or_else(|| "the server".to_owned());
    let mut ticks = interval(pause.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    let mut number = 0;
    while count == 0 || number < count {
        ticks.tick().await;
        number += 1;
        let time =
            round_trip(&session.channel, limit).await.map_err(|error| Failure::of_call(&error, true))?;
        print(&format!("{number} {endpoint} {}\n", show(time)))?;
        times.push(time);
    }
    times.sort_unstable();
    let middle = times[times.len() / 2];
    let ends = (times[0], times[times.len() - 1]);
    print(&format!("min {}, median {}, max {}\n", show(ends.0), show(middle), show(ends.1)))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes one round trip. The answer that there are no reserved methods is an answer, too.
async fn round_trip(channel: &Channel, limit: Duration) -> Result<Duration, RpcError> {
    let start = Instant::now();
    let call = channel.call::<serde::de::IgnoredAny>(HEALTH, &HealthRequest::default()).timeout(limit);
    match call.await.map_err(RpcError::from) {
        Err(error) if error.code() != Code::Unimplemented => Err(error),
        _ => Ok(start.elapsed()),
    }
}
