//! `farcall bench`: load on a method, and what its callers experience.
//!
//! By default the loop is open: calls are due at fixed times, whatever became of those before, and latency counts from
//! when a call was due. So a server that stands still is seen in the figures, as its callers would see it.

mod assertion;
mod chart;
mod find;
mod load;
mod measurement;
mod plan;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::assertion::Assertions;
use self::load::Load;
use self::plan::{End, Pace, Plan};
use self::report::Report;
use super::call::arguments;
use crate::environment::Environment;
use crate::exit::success_if;
use crate::failure::Failure;
use crate::output::json::pretty;
use crate::output::print;
use crate::session::{Session, SessionOptions};
use crate::targets::args::{CodecName, TargetArgs};
use crate::targets::settings::Settings;
use crate::time;
use crate::value::Value;

/// The time limit of each call, without `--timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures a method under load.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --rate 1000 --for 10s
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --closed 64 --calls 100000
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --find 'p99<5ms'
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --assert 'p99<5ms,errors=0'")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply.
    #[arg(value_name = "METHOD")]
    method: String,
    /// Arguments of each call, as for `farcall call`.
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Calls a second, in an open loop.
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// Closed loop: this many callers, each with one call at a time. Latency then leaves out the time in which calls
    /// were not made because others were slow.
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "ramp", "find"], value_parser = clap::value_parser!(u32).range(1..=65_536))]
    closed: Option<u32>,
    /// Connections to each instance.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Time of the run. Default: 10s; 3s for each step of --find.
    #[arg(long = "for", value_name = "TIME", value_parser = time::parse)]
    duration: Option<Duration>,
    /// Calls of the run, in place of a time.
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// Time in which the rate grows from zero.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    ramp: Option<Duration>,
    /// Searches the highest rate at which this holds, as in 'p99<5ms'. It starts at --rate.
    #[arg(long, value_name = "CONDITIONS", conflicts_with = "calls")]
    find: Option<Assertions>,
    /// Exit code 1 if this does not hold, as in 'p99<5ms,errors=0'. Names: p50, p90, p99, p99.9, p99.99, max, mean,
    /// errors, rate.
    #[arg(long, value_name = "CONDITIONS")]
    assert: Option<Assertions>,
    /// Compares with a report that --json wrote.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
    /// Writes a chart of the latencies.
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<PathBuf>,
    /// Codec of the connections.
    #[arg(long, value_enum, default_value = "msgpack")]
    codec: CodecName,
}

pub(crate) async fn run(args: BenchArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let arguments = arguments::parse(&args.arguments)?;
    let before = args.compare.as_deref().map(read_report).transpose()?;
    let options = SessionOptions {
        codec: args.codec.codec(),
        connections: args.connections.into(),
        ..SessionOptions::default()
    };
    let session = Session::open(settings, Some(&args.method), options, environment).await?;
    let mut request = session.channel.request(args.method.clone(), &arguments);
    request.set_timeout(session.settings.timeout.unwrap_or(DEFAULT_TIMEOUT));
    for (key, value) in &session.settings.metadata {
        request.set_metadata(key, value);
    }
    // One call before, so that a wrong one is an error and not a report.
    let first = tower_service::Service::call(&mut session.channel.clone(), request.clone()).await;
    first.map_err(|error| Failure::of_call(&error, false))?;
    let load = Load::new(session.channel.clone(), request);
    let plan = plan(&args);
    let report = match &args.find {
        Some(conditions) => find::highest(&load, &plan, conditions).await?,
        None => Report::new(&args.method, &plan, &load.run(&plan).await),
    };
    if let Some(path) = &args.chart {
        let written = std::fs::write(path, chart::svg(&report));
        written.map_err(|error| Failure::local(format!("{}: {error}", path.display())))?;
    }
    let text = if args.json { pretty(&report) } else { report.text() };
    print(&text)?;
    if let Some(before) = before {
        print(&report.compared_to(&before))?;
    }
    report.check_generator()?;
    let failed = args.assert.as_ref().map(|assert| assert.failures(&report)).unwrap_or_default();
    for failure in &failed {
        eprintln!("assertion failed: {failure}");
    }
    Ok(success_if(failed.is_empty()))
}

fn plan(args: &BenchArgs) -> Plan {
    let default = Duration::from_secs(if args.find.is_some() { 3 } else { 10 });
    Plan {
        pace: match args.closed {
            Some(callers) => Pace::Closed(callers),
            None => Pace::Open { rate: args.rate, ramp: args.ramp.unwrap_or_default() },
        },
        end: args.calls.map_or_else(|| End::After(args.duration.unwrap_or(default)), End::Calls),
    }
}

/// Parses a rate: above zero, and not more than a machine can send.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if rate > 0.0 && rate <= 10_000_000.0 {
        Ok(rate)
    } else {
        Err("it is not between 0 and 10000000".to_owned())
    }
}

fn read_report(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    arguments::json(&text, &path.display().to_string())
}
