//! `farcall call`: one call, many calls from lines, or one call of every instance.

mod all;
pub(crate) mod arguments;
mod invocation;
mod lines;
mod timing;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use farcall::client::RetryPolicy;

use self::invocation::Invocation;
use self::timing::Timing;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::{Session, SessionOptions};
use crate::targets::args::{CodecName, TargetArgs};
use crate::targets::settings::Settings;
use crate::time;

/// Calls a method. The result alone is on standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall call 127.0.0.1:7001 Arith.multiply a:=6 b:=7
  farcall call 127.0.0.1:7001 Arith.multiply '{\"a\": 6, \"b\": 7}'
  echo '[6, 7]' | farcall call 127.0.0.1:7001 Arith.multiply -
  farcall call 127.0.0.1:7001 Arith.multiply --lines --concurrency 8 < calls.ndjson
  farcall call http://127.0.0.1:7100/registry Arith.multiply a:=6 b:=7 --all")]
pub(crate) struct CallArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply.
    #[arg(value_name = "METHOD")]
    method: String,
    /// Arguments: name=text and name:=json, or '{...}' or '[...]', or @file, or - for standard input. Bytes are base64.
    #[arg(value_name = "ARGUMENT", allow_hyphen_values = false)]
    arguments: Vec<String>,
    /// Format of the result. Default: json; ndjson with --lines, table with --all.
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
}

pub(crate) async fn run(args: CallArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let arguments = if args.lines { None } else { Some(arguments::parse(&args.arguments)?) };
    let retry = match (args.hedge, args.retry) {
        (Some(delay), _) => Some(RetryPolicy::hedge_after(delay)),
        (None, Some(attempts)) => Some(RetryPolicy::fail_over().max_attempts(attempts)),
        (None, None) => None,
    };
    let options = SessionOptions { codec: args.codec.codec(), retry, ..SessionOptions::default() };
    let session = Session::open(settings, Some(&args.method), options, environment).await?;
    let mut invocation = Invocation { session, method: args.method, is_idempotent: args.idempotent };
    if !args.no_check {
        invocation.check(arguments.as_ref()).await?;
    }
    let Some(arguments) = arguments else {
        return lines::run(&invocation, args.output.unwrap_or(Format::Ndjson), args.concurrency.into()).await;
    };
    if args.all {
        return all::run(&invocation, &arguments, args.output.unwrap_or(Format::Table)).await;
    }
    if args.one_way {
        let sent = invocation.session.channel.notify(invocation.method.clone(), &arguments).await;
        sent.map_err(|error| Failure::of_call(&error, invocation.is_idempotent))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut timing = Timing::default();
    let outcome = invocation.call(&arguments, &mut timing).await;
    if args.verbose {
        timing.print(&invocation.session.opens(), outcome.as_ref().err());
    }
    let result = match outcome {
        Ok(result) => result,
        Err(error) => return Err(invocation.failure(&error).await),
    };
    args.output.unwrap_or(Format::Json).print(&result)?;
    Ok(ExitCode::SUCCESS)
}
