//! Many calls: the arguments of each on a line of standard input, its result on a line of standard output.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};

use super::arguments::ItemSource;
use super::invocation::Invocation;
use super::items::JsonLines;
use super::timing::Timing;
use crate::failure::{Failure, error_value, exit_code};
use crate::output::Format;
use crate::value::Value;

/// Makes a call for each line, `concurrency` at once, and prints the results in the order of the lines. The first error
/// decides the exit code; the calls behind it are made all the same.
pub(super) async fn run(
    invocation: &Invocation,
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
            Ok::<_, Failure>(invocation.call(&arguments?, &mut Timing::default()).await)
        })
        .buffered(concurrency);
    tokio::pin!(results);
    let mut code = 0;
    while let Some(result) = results.next().await {
        match result? {
            Ok(result) => format.print(&result)?,
            Err(error) => {
                code = if code == 0 { exit_code(&error) } else { code };
                let error = error_value(&error, invocation.is_idempotent);
                format.print(&Value::object([("error", error)]))?;
            }
        }
    }
    Ok(ExitCode::from(code))
}
