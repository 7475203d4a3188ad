//! Schemas: of a server, or of a file that `farcall schema save` wrote.

use farcall::RpcError;
use farcall::protocol::describe::SCHEMA;
use farcall_schema::Document;

use crate::failure::Failure;
use crate::output::escape::word;
use crate::session::Session;
use crate::value::Value;

/// Returns the schema of a server.
pub(crate) async fn of_server(session: &Session) -> Result<Document, Failure> {
    let answer = session.channel.call::<serde_json::Value>(SCHEMA, &()).await;
    let json = answer.map_err(|error| Failure::of_call(&RpcError::from(error), true))?;
    Document::from_json(&json).map_err(|error| Failure::local(format!("the schema of the server: {error}")))
}

/// Returns the schema of a server if it has one that can be read; a check that is not possible is left out.
pub(crate) async fn of_server_if_any(session: &Session) -> Option<Document> {
    of_server(session).await.ok()
}

/// Returns the schema of a file.
pub(crate) fn of_file(path: &std::path::Path) -> Result<Document, Failure> {
    let wrong = |error: String| Failure::usage(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let json = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Document::from_json(&json).map_err(|error| wrong(error.to_string()))
}

/// Checks arguments by name against the types of a method, as deep as these are known.
pub(crate) fn check(document: &Document, method: &str, arguments: &Value) -> Result<(), String> {
    let Some(method) = document.method(method) else { return Ok(()) };
    if !matches!(arguments, Value::Object(_)) {
        return Ok(());
    }
    let json = serde_json::to_value(arguments).map_err(|error| error.to_string())?;
    document.check(&method.arguments, &json).map_err(|mismatch| word(&mismatch.to_string()))
}

/// Returns an example of a method's arguments, as JSON in one line.
pub(crate) fn example(document: &Document, method: &str) -> Option<String> {
    let example = document.example_arguments(document.method(method)?);
    serde_json::to_string(&example).ok()
}
