//! One call of every instance, with an outcome for each.

use std::process::ExitCode;

use farcall::RpcError;
use farcall::client::CallError;

use super::invocation::Invocation;
use crate::failure::{Failure, error_value, exit_code};
use crate::output::Format;
use crate::value::Value;

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
        let result = match outcome.value.map_err(of_call) {
            Ok(result) => ("result", result),
            Err(error) => {
                code = if code == 0 { exit_code(&error) } else { code };
                ("error", error_value(&error, invocation.is_idempotent))
            }
        };
        rows.push(Value::object([("endpoint", Value::text(outcome.endpoint.to_string())), result]));
    }
    match format {
        Format::Ndjson => rows.iter().try_for_each(|row| format.print(row))?,
        _ => format.print(&Value::Array(rows))?,
    }
    Ok(ExitCode::from(code))
}

fn of_call(error: CallError) -> RpcError {
    error.into()
}
