//! One call of every instance, with an outcome for each.

use std::process::ExitCode;

use farcall::RpcError;
use farcall::client::{CallError, Phase};
use farcall::protocol::text::excerpt;

use super::invocation::Invocation;
use crate::failure::{Failure, error_value, exit_code};
use crate::output::Format;
use crate::value::Value;

/// The most characters of a server's message in a table, whose rows are to be lines of a terminal.
const MAX_MESSAGE: usize = 60;

/// Calls every instance, and prints a row for each. The first error, in the order of the addresses, decides the exit code.
pub(super) async fn run(
    invocation: &Invocation,
    arguments: &Value,
    format: Format,
) -> Result<ExitCode, Failure> {
    let mut call = invocation.session.channel.call::<Value>(invocation.method.clone(), arguments);
    for (key, value) in &invocation.session.settings.metadata {
        call = call.metadata(key, value);
    }
    let outcomes = call.broadcast().each().await;
    let outcomes = outcomes.map_err(|error| Failure::of_call(&error, invocation.is_idempotent))?;
    let mut code = 0;
    let mut rows = Vec::new();
    for outcome in outcomes {
        let endpoint = ("endpoint", Value::text(outcome.endpoint.to_string()));
        match outcome.value.map_err(of_call) {
            Ok(result) => rows.push(Value::object([endpoint, ("result", result)])),
            Err(error) => {
                code = if code == 0 { exit_code(&error) } else { code };
                rows.push(match format {
                    // With an empty result, so that the errors are the last column also if they come first.
                    Format::Table => Value::object([
                        endpoint,
                        ("result", Value::text("")),
                        ("error", Value::text(short(&error))),
                    ]),
                    _ => Value::object([endpoint, ("error", error_value(&error, invocation.is_idempotent))]),
                });
            }
        }
    }
    match format {
        Format::Ndjson => rows.iter().try_for_each(|row| format.print(row))?,
        _ => format.print(&Value::Array(rows))?,
    }
    Ok(ExitCode::from(code))
}

/// Returns the code and the execution, with the message if it is the server's. Otherwise it is about the connection to the
/// endpoint, which the row names.
fn short(error: &RpcError) -> String {
    let facts = format!("{}, {}", error.code(), error.execution());
    match error.phase() {
        Phase::Answer => format!("{facts}: {}", excerpt(error.message(), MAX_MESSAGE)),
        _ => facts,
    }
}

fn of_call(error: CallError) -> RpcError {
    error.into()
}
