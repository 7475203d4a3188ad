//! `farcall bench`: load on a method, and what its callers experience.
//!
//! By default the loop is open: calls are due at fixed times, whatever became of those before, and latency counts from
//! when a call was due. So a server that stands still is seen in the figures, as its callers would see it.

mod assertion;
mod chart;
mod find;
mod job;
mod load;
mod measurement;
mod plan;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use farcall::protocol::describe::StreamInfo;
use tokio_util::sync::CancellationToken;

use self::assertion::Assertions;
use self::job::{DEFAULT_TIMEOUT, Job, PlainCall, StreamingCall};
use self::load::Load;
use self::plan::{End, Pace, Plan};
use self::report::Report;
use super::call::arguments;
use super::call::items::JsonLines;
use crate::environment::Environment;
use crate::exit::success_if;
use crate::failure::Failure;
use crate::files::read_document;
use crate::methods::find as find_method;
use crate::output::escape::word;
use crate::output::json::pretty;
use crate::output::print;
use crate::session::{Session, SessionOptions};
use crate::targets::args::{CodecName, TargetArgs};
use crate::targets::settings::Settings;
use crate::time;
use crate::value::Value;

/// The most items that are kept to be sent: a bound on memory.
const MAX_ITEMS: usize = 100_000;

/// Measures a method under load.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --rate 1000 --for 10s
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --closed 64 --calls 100000
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --find 'p99<5ms'
  farcall bench 127.0.0.1:7001 Arith.multiply a:=6 b:=7 --assert 'p99<5ms,errors=0'
  farcall bench 127.0.0.1:7001 Feed.count from:=0 to:=1000 --closed 8 --for 5s
  farcall bench 127.0.0.1:7001 Feed.sum @items.ndjson --items 1000 --rate 10")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply.
    #[arg(value_name = "METHOD")]
    method: String,
    /// Arguments of each call, as for `farcall call`. Behind them, for a method that takes items, @file with an item on each
    /// line, which are sent again and again.
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
    #[arg(long = "for", value_name = "TIME", value_parser = time::parse_limit)]
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
    /// errors, rate; of streams: items and bytes (a second), first-p50, first-p99, first-max.
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
    /// Items of each stream: that many are sent, and at most that many are taken. Default: each line of the file once, and
    /// all that come, until the end of the run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    items: Option<u64>,
}

pub(crate) async fn run(args: BenchArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let before = args.compare.as_deref().map(read_report).transpose()?;
    let options = SessionOptions {
        codec: args.codec.codec(),
        connections: args.connections.into(),
        ..SessionOptions::default()
    };
    let session = Session::open(settings, Some(&args.method), options, environment).await?;
    let streams = streams(&session, &args.method).await;
    let (report, was_interrupted) = if streams.takes || streams.sends {
        let call = streaming_call(&args, &session, &streams).await?;
        probe(call.probe()).await?;
        measure(&args, call).await?
    } else {
        let call = plain_call(&args, &session)?;
        probe(call.clone()).await?;
        measure(&args, call).await?
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
    if was_interrupted {
        // The figures stand for the time until then, but not for what was asked for.
        return Err(Failure::interrupted(None));
    }
    report.check_generator()?;
    let failed = args.assert.as_ref().map(|assert| assert.failures(&report)).unwrap_or_default();
    for failure in &failed {
        eprintln!("assertion failed: {failure}");
    }
    Ok(success_if(failed.is_empty()))
}

/// Returns the directions in which the method has items; none if the server does not describe it.
async fn streams(session: &Session, method: &str) -> StreamInfo {
    let services = session.services().await.ok().flatten().unwrap_or_default();
    find_method(&services, method).map(|method| method.streams.clone()).unwrap_or_default()
}

fn plain_call(args: &BenchArgs, session: &Session) -> Result<PlainCall, Failure> {
    if args.items.is_some() {
        return Err(Failure::usage(format!("`{}` has no items, for --items", word(&args.method))));
    }
    let arguments = arguments::parse(&args.arguments)?;
    // Kept until the program ends: else its text would be copied for each call.
    let method: &'static str = args.method.clone().leak();
    let mut request = session.channel.request(method, &arguments);
    request.set_timeout(session.settings.timeout.unwrap_or(DEFAULT_TIMEOUT));
    for (key, value) in &session.settings.metadata {
        request.set_metadata(key, value);
    }
    Ok(PlainCall { channel: session.channel.clone(), request })
}

/// Creates the streaming call, and reads the items to send.
async fn streaming_call(
    args: &BenchArgs,
    session: &Session,
    streams: &StreamInfo,
) -> Result<StreamingCall, Failure> {
    let (words, mut items) = (&args.arguments[..], Vec::new());
    let words = if streams.takes {
        let (words, source) = arguments::split_items(words)?;
        let mut lines = JsonLines::open(&source).await?;
        while let Some(item) = lines.next().await? {
            if items.len() == MAX_ITEMS {
                return Err(Failure::usage(format!("there are more than {MAX_ITEMS} items to send"))
                    .with_hint("give fewer: with --items N they are sent again from the first".to_owned()));
            }
            items.push(item);
        }
        words
    } else {
        words
    };
    let arguments = arguments::parse(words)?;
    let Session { channel, settings, .. } = session;
    Ok(StreamingCall::new(channel, settings, &args.method, streams, arguments, items, args.items))
}

/// Makes one call before the run, so that a wrong one is an error and not a report.
async fn probe(mut job: impl Job) -> Result<(), Failure> {
    match job.run(&CancellationToken::new()).await.error {
        None => Ok(()),
        Some(error) => Err(Failure::of_call(&error, false)),
    }
}

/// Returns the report, and `true` if Ctrl-C ended the run.
async fn measure(args: &BenchArgs, job: impl Job) -> Result<(Report, bool), Failure> {
    let (load, plan) = (Load::new(job), plan(args));
    if let Some(conditions) = &args.find {
        return Ok((find::highest(&load, &args.method, &plan, conditions).await?, false));
    }
    let measured = load.run(&plan).await;
    Ok((Report::new(&args.method, &plan, &measured), measured.was_interrupted))
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
    let text = read_document(path)?;
    arguments::json(&text, &path.display().to_string())
}
