//! Many calls: the arguments of each on a line of standard input, its result on a line of standard output.

use std::process::ExitCode;

use farcall::RpcError;
use futures::{StreamExt as _, stream};

use super::arguments::ItemSource;
use super::invocation::{Description, Invocation};
use super::items::JsonLines;
use super::timing::Timing;
use crate::exit;
use crate::failure::{self, Failure, error_value};
use crate::output::Format;
use crate::value::Value;

/// The outcome of a line.
enum Outcome {
    Called(Result<Value, RpcError>),
    /// The arguments are wrong, so that nothing was sent.
    Wrong(Failure),
}

/// Makes a call for each line, `concurrency` at once, and prints the results in the order of the lines. The first error
/// decides the exit code; the calls behind it are made all the same. Arguments that are wrong by the description are not sent.
pub(super) async fn run(
    invocation: &Invocation,
    description: Option<&Description>,
    format: Format,
    concurrency: usize,
) -> Result<ExitCode, Failure> {
    let lines = JsonLines::open(&ItemSource::StandardInput).await?;
    let lines = stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await.transpose()? {
            Ok(arguments) => Some((Ok(arguments), Some(lines))),
            Err(failure) => Some((Err(failure), None)),
        }
    });
    let results = lines
        .map(|arguments| async move {
            let arguments = arguments?;
            let checked = description.map(|description| description.check(&invocation.method, &arguments));
            Ok::<_, Failure>(match checked {
                Some(Err(wrong)) => Outcome::Wrong(wrong),
                _ => Outcome::Called(invocation.call(&arguments, &mut Timing::default()).await),
            })
        })
        .buffered(concurrency);
    tokio::pin!(results);
    let mut code = 0;
    while let Some(result) = results.next().await {
        let (error, exit_code) = match result? {
            Outcome::Called(Ok(result)) => {
                format.print(&result)?;
                continue;
            }
            Outcome::Called(Err(error)) => {
                (error_value(&error, invocation.is_idempotent), failure::exit_code(&error))
            }
            Outcome::Wrong(wrong) => (wrong.value_of_arguments(), exit::USAGE),
        };
        code = if code == 0 { exit_code } else { code };
        format.print(&Value::object([("error", error)]))?;
    }
    Ok(ExitCode::from(code))
}
