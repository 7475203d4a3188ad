//! `farcall call`: one call, a streaming one, many calls from lines, or one call of every instance.

mod all;
pub(crate) mod arguments;
mod invocation;
pub(crate) mod items;
mod lines;
mod stream;
mod timing;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use farcall::client::RetryPolicy;
use farcall::protocol::describe::StreamInfo;

use self::invocation::Invocation;
use self::stream::StreamOptions;
use self::timing::Timing;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::Format;
use crate::output::escape::word;
use crate::session::{Session, SessionOptions};
use crate::targets::args::{CodecName, TargetArgs};
use crate::targets::settings::Settings;
use crate::time;
use crate::value::Value;

/// Calls a method. The result alone is on standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall call 127.0.0.1:7001 Arith.multiply a:=6 b:=7
  farcall call 127.0.0.1:7001 Arith.multiply '{\"a\": 6, \"b\": 7}'
  echo '[6, 7]' | farcall call 127.0.0.1:7001 Arith.multiply -
  farcall call 127.0.0.1:7001 Arith.multiply --lines --concurrency 8 < calls.ndjson
  farcall call 127.0.0.1:7001 Feed.count from:=3 to:=6 | wc -l
  seq 1000 | farcall call 127.0.0.1:7001 Feed.sum -
  farcall call http://127.0.0.1:7100/registry Arith.multiply a:=6 b:=7 --all")]
pub(crate) struct CallArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply.
    #[arg(value_name = "METHOD")]
    method: String,
    /// Arguments: name=text and name:=json, or '{...}' or '[...]', or @file, or - for standard input. Bytes are base64.
    /// Behind them, for a method that takes items, - or @file with an item on each line.
    #[arg(value_name = "ARGUMENT", allow_hyphen_values = false)]
    arguments: Vec<String>,
    /// Format of the result. Default: json; ndjson for items and with --lines, table with --all.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// Shows where the time went, on standard error.
    #[arg(short, long)]
    verbose: bool,
    /// Codec of the connection.
    #[arg(long, value_enum, default_value = "json")]
    codec: CodecName,
    /// Asks for no response: done once the request is handed to the operating system.
    #[arg(long, conflicts_with_all = ["all", "lines"])]
    one_way: bool,
    /// Calls every instance, each once.
    #[arg(long, conflicts_with = "lines")]
    all: bool,
    /// Reads the arguments of a call from each line of standard input, and writes a result for each line, in order.
    #[arg(long, conflicts_with = "arguments")]
    lines: bool,
    /// Calls in flight with --lines.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "lines", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Sends a second request to another instance if no answer came in this time; for idempotent methods.
    #[arg(long, value_name = "TIME", value_parser = time::parse, conflicts_with = "retry")]
    hedge: Option<Duration>,
    /// Attempts at most, if a call fails and may be repeated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    retry: Option<u32>,
    /// Declares that calling the method twice has the effect of calling it once. Default: as the server describes it.
    #[arg(long)]
    idempotent: bool,
    /// Sends the arguments as they are, without asking the server for the method's description before.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    items: ItemArgs,
}

/// The arguments about items.
#[derive(Debug, Args)]
#[command(next_help_heading = "Streams")]
struct ItemArgs {
    /// Longest time until the first item or the result.
    #[arg(long, value_name = "TIME", value_parser = time::parse_limit)]
    first_within: Option<Duration>,
    /// Longest time between two items.
    #[arg(long, value_name = "TIME", value_parser = time::parse_limit)]
    gap: Option<Duration>,
    /// Prints {"item": ...} for each item, and {"result": ...} or {"error": ...} last, as the JSON gateway does. Without it,
    /// items are alone on standard output, and the result behind them is on standard error.
    #[arg(long, conflicts_with_all = ["output", "lines", "all", "one_way"])]
    tagged: bool,
    /// Directions of the items of a method that the server does not describe.
    #[arg(long, value_enum, value_name = "DIRECTIONS", requires = "no_check")]
    stream: Option<Directions>,
}

/// The directions of items, as the server sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Directions {
    /// The method takes items.
    In,
    /// The method sends items.
    Out,
    /// Both.
    Both,
}

impl ItemArgs {
    /// Returns the directions that were given.
    fn streams(&self) -> Option<StreamInfo> {
        let directions = self.stream?;
        let mut streams = StreamInfo::default();
        streams.takes = directions != Directions::Out;
        streams.sends = directions != Directions::In;
        Some(streams)
    }
}

pub(crate) async fn run(args: CallArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let retry = match (args.hedge, args.retry) {
        (Some(delay), _) => Some(RetryPolicy::hedge_after(delay)),
        (None, Some(attempts)) => Some(RetryPolicy::fail_over().max_attempts(attempts)),
        (None, None) => None,
    };
    let options = SessionOptions { codec: args.codec.codec(), retry, ..SessionOptions::default() };
    let session = Session::open(settings, Some(&args.method), options, environment).await?;
    let mut invocation = Invocation::new(session, args.method.clone(), args.idempotent);
    let description = if args.no_check { None } else { invocation.describe().await? };
    let streams = description.as_ref().map(|description| &description.method.streams);
    let streams = streams.cloned().or_else(|| args.items.streams()).unwrap_or_default();
    if streams.takes || streams.sends {
        let options = args.stream_options(&streams)?;
        let counts = environment.count_items();
        return stream::run(&invocation, &streams, description.as_ref(), &args.arguments, options, counts)
            .await;
    }
    if args.items.gap.is_some() || args.items.first_within.is_some() || args.items.tagged {
        let message = format!("`{}` has no items, for --gap, --first-within or --tagged", word(&args.method));
        return Err(Failure::usage(message));
    }
    if args.lines {
        let format = args.output.unwrap_or(Format::Ndjson);
        return lines::run(&invocation, description.as_ref(), format, args.concurrency.into()).await;
    }
    let arguments = arguments::parse(&args.arguments)?;
    if let Some(description) = &description {
        description.check(&args.method, &arguments)?;
    }
    if args.all {
        return all::run(&invocation, &arguments, args.output.unwrap_or(Format::Table)).await;
    }
    if args.one_way {
        let sent = invocation.session.channel.notify(invocation.method.clone(), &arguments).await;
        sent.map_err(|error| Failure::of_call(&error, invocation.is_idempotent))?;
        return Ok(ExitCode::SUCCESS);
    }
    once(&args, &invocation, &arguments).await
}

/// Makes one call.
async fn once(args: &CallArgs, invocation: &Invocation, arguments: &Value) -> Result<ExitCode, Failure> {
    let mut timing = Timing::default();
    let outcome = invocation.call(arguments, &mut timing).await;
    if args.verbose {
        timing.print(&invocation.session, outcome.as_ref().err());
    }
    let result = match outcome {
        Ok(result) => result,
        Err(error) => return Err(invocation.failure(&error).await),
    };
    args.output.unwrap_or(Format::Json).print(&result)?;
    Ok(ExitCode::SUCCESS)
}

impl CallArgs {
    /// Returns the options of a streaming call.
    ///
    /// # Errors
    ///
    /// An argument is for other calls.
    fn stream_options(&self, streams: &StreamInfo) -> Result<StreamOptions, Failure> {
        let others = [("--lines", self.lines), ("--all", self.all), ("--one-way", self.one_way)];
        if let Some((name, _)) = others.iter().find(|(_, is_given)| *is_given) {
            let message = format!("`{}` streams, which {name} cannot do", word(&self.method));
            return Err(Failure::usage(message));
        }
        if self.items.gap.is_some() && !streams.sends {
            let message = format!("`{}` sends no items, for --gap", word(&self.method));
            return Err(Failure::usage(message));
        }
        Ok(StreamOptions {
            // That of a context is for plain calls: streams may be meant to last.
            timeout: self.target.connection.timeout,
            first_within: self.items.first_within,
            gap: self.items.gap,
            is_tagged: self.items.tagged,
            format: self.output,
            is_verbose: self.verbose,
        })
    }
}
