//! `farcall template`: an example of a method's arguments, to edit and pipe into `farcall call ... -`.

use std::process::ExitCode;

use clap::Args;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::methods::nearest;
use crate::output::Format;
use crate::output::escape::word;
use crate::schema;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::value::Value;

/// Prints an example of a method's arguments.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  farcall template 127.0.0.1:7001 Arith.multiply > args.json\n  farcall call 127.0.0.1:7001 Arith.multiply @args.json"
)]
pub(crate) struct TemplateArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Method, as in Arith.multiply.
    #[arg(value_name = "METHOD")]
    method: String,
}

pub(crate) async fn run(args: TemplateArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let session = Session::open(settings, Some(&args.method), SessionOptions::default(), environment).await?;
    let document = schema::of_server(&session).await?;
    let method = document.method(&args.method).ok_or_else(|| {
        let near = nearest(document.methods().map(|(name, _)| name), &args.method);
        let failure = Failure::usage(format!("there is no method `{}`", word(&args.method)));
        failure.with_hint(near.map(|near| format!("did you mean `{}`?", word(&near))))
    })?;
    Format::Json.print(&Value::of(&document.example_arguments(method)))?;
    Ok(ExitCode::SUCCESS)
}
