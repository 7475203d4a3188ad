//! Schemas: of a server, or of a file that `farcall schema save` wrote.

use farcall::RpcError;
use farcall::protocol::describe::SCHEMA;
use farcall::protocol::text::parse_error;
use farcall_schema::{Content, Document, ServiceSchema, Type};

use crate::failure::Failure;
use crate::files::read_document;
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
    let text = read_document(path)?;
    let json = serde_json::from_str(&text).map_err(|error| wrong(parse_error(&error)))?;
    Document::from_json(&json).map_err(|error| wrong(error.to_string()))
}

/// Checks arguments by name against the types of a method, as deep as these are known.
pub(crate) fn check(document: &Document, method: &str, arguments: &Value) -> Result<(), String> {
    let Some(method) = document.method(method) else { return Ok(()) };
    let Value::Object(pairs) = arguments else { return Ok(()) };
    // No arguments at all are an empty object, which a method that takes a unit accepts as well.
    if method.takes_whole && pairs.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_value(arguments).map_err(|error| error.to_string())?;
    document.check(&method.arguments, &json).map_err(|mismatch| word(&mismatch.to_string()))
}

/// Returns a document with this method alone, and the types that it refers to.
pub(crate) fn of_method(document: &Document, method: &str) -> Option<Document> {
    let (service, _) = method.rsplit_once('.')?;
    let found = document.method(method)?;
    let mut part = Document::default();
    let of_method = [Some(&found.arguments), Some(&found.result), found.error.as_ref()];
    for ty in of_method.into_iter().chain([found.items_in.as_ref(), found.items_out.as_ref()]).flatten() {
        add_definitions(ty, document, &mut part);
    }
    let mut alone = ServiceSchema::new(service);
    alone.methods = vec![found.clone()];
    part.services = vec![alone];
    Some(part)
}

/// Adds the definitions that a type refers to, and those that these refer to.
fn add_definitions(ty: &Type, document: &Document, part: &mut Document) {
    let mut add = |ty| add_definitions(ty, document, part);
    match ty {
        Type::Ref(name) => {
            if let Some(definition) = document.definitions.get(name)
                && part.definitions.insert(name.clone(), definition.clone()).is_none()
            {
                add_definitions(definition, document, part);
            }
        }
        Type::Option(inner) | Type::List(inner) => add(inner),
        Type::Map(key, value) => [key, value].into_iter().for_each(|ty| add(ty)),
        Type::Tuple(items) => items.iter().for_each(add),
        Type::Struct(of) => of.fields.iter().for_each(|field| add(&field.ty)),
        Type::Narrowed(narrowed) => add(&narrowed.base),
        Type::Enum(of) => of.variants.iter().for_each(|variant| match &variant.content {
            Content::Newtype(ty) => add(ty),
            Content::Tuple(items) => items.iter().for_each(&mut add),
            Content::Struct(of) => of.fields.iter().for_each(|field| add(&field.ty)),
            _ => {}
        }),
        _ => {}
    }
}

/// Returns an example of a method's arguments, as JSON in one line.
pub(crate) fn example(document: &Document, method: &str) -> Option<String> {
    let example = document.example_arguments(document.method(method)?);
    serde_json::to_string(&example).ok()
}
