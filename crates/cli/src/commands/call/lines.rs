//! Many calls: the arguments of each on a line of standard input, its result on a line of standard output.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::arguments::json;
use super::invocation::Invocation;
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
    let lines = BufReader::new(tokio::io::stdin()).lines();
    let lines = stream::unfold((lines, 0_usize), |(mut lines, number)| async move {
        let line = lines.next_line().await.transpose()?;
        Some(((number + 1, line), (lines, number + 1)))
    });
    let results = lines
        .filter(|(_, line)| futures::future::ready(!matches!(line, Ok(line) if line.trim().is_empty())))
        .map(|(number, line)| async move {
            let line = line.map_err(|error| Failure::local(format!("standard input: {error}")))?;
            let arguments = json(&line, &format!("line {number}"))?;
            Ok::<_, Failure>(invocation.call(&arguments, &mut Timing::default()).await)
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
