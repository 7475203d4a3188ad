//! The OpenAPI 3.1 document of the services: <https://spec.openapis.org/oas/v3.1.1.html>.
//!
//! It is made of the schema that `farcall.schema` answers.

use std::collections::BTreeMap;

use farcall_protocol::Code;
use farcall_protocol::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use farcall_schema::{Document, MethodSchema, ServiceSchema, Type};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::head::MAX_TIMEOUT_MS;
use super::openapi_stream::{self, Described};
use super::options::Gateway;
use super::state::ROOT;

/// The characters that a path cannot contain; braces, for example, would be a parameter.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
/// The schema of failed calls, of this document's own.
const ERROR: &str = "Error";
/// The prefix of references to types.
const SCHEMAS: &str = "#/components/schemas/";

/// Creates the document.
pub(super) fn document_of(document: &Document, options: &Gateway) -> Value {
    let types = Types::new(document);
    let mut paths = Map::new();
    for service in &document.services {
        for method in &service.methods {
            let name = format!("{}.{}", service.name, method.name);
            let path = format!("{ROOT}/{}", utf8_percent_encode(&name, ENCODED));
            paths.insert(path, json!({ "post": operation(&types, &name, service, method) }));
        }
    }
    let mut components = components();
    for (name, ty) in &document.definitions {
        components["schemas"][types.name(name)] = types.schema(ty);
    }
    json!({
        "openapi": "3.1.1",
        "info": { "title": options.title, "version": options.version },
        "tags": document.services.iter().map(tag).collect::<Vec<_>>(),
        "paths": paths,
        "components": components,
        // Without a credential, or with one: it is not known here if the server requires it.
        "security": [{}, { "bearer": [] }],
    })
}

fn tag(service: &ServiceSchema) -> Value {
    let mut tag = json!({ "name": service.name });
    describe(&mut tag, "description", &service.doc);
    tag
}

fn operation(types: &Types<'_>, name: &str, service: &ServiceSchema, method: &MethodSchema) -> Value {
    let mut responses = json!({
        "200": { "description": "The result.", "content": answer(types, method) },
        "default": { "$ref": "#/components/responses/Error" },
    });
    if let Some(error) = &method.error {
        responses["422"] = own_error(&types.schema(error));
    }
    let items_in = method.items_in.as_ref().map(|ty| types.described(ty));
    let mut operation = json!({
        "operationId": name,
        "tags": [service.name],
        "parameters": [
            { "$ref": "#/components/parameters/timeout" },
            { "$ref": "#/components/parameters/idempotent" },
        ],
        "requestBody": openapi_stream::request(items_in.as_ref(), request_body(types, method)),
        "responses": responses,
    });
    if method.once {
        let parameters = operation["parameters"].as_array_mut().expect("it is one");
        parameters.push(json!({ "$ref": "#/components/parameters/idempotencyKey" }));
    }
    let summary = method.doc.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    describe(&mut operation, "summary", summary);
    describe(&mut operation, "description", method.doc.trim());
    operation
}

/// Describes the result, and what comes before it if the method streams.
fn answer(types: &Types<'_>, method: &MethodSchema) -> Value {
    let result = types.schema(&method.result);
    if method.items_in.is_none() && method.items_out.is_none() {
        return content(&result);
    }
    let items_out = method.items_out.as_ref().map(|ty| types.described(ty));
    openapi_stream::answer(items_out.as_ref(), &types.described(&method.result), &content(&result))
}

/// Describes the arguments by name. An array in order is accepted, too, but not documented: one way is enough.
fn request_body(types: &Types<'_>, method: &MethodSchema) -> Value {
    let mut content = content(&types.schema(&method.arguments));
    content["application/json"]["example"] = types.document.example_arguments(method);
    let needs_body =
        method.named_arguments().is_some_and(|arguments| arguments.fields.iter().any(|field| field.required));
    if needs_body { json!({ "required": true, "content": content }) } else { json!({ "content": content }) }
}

/// The types of a schema document, under names that OpenAPI allows.
struct Types<'a> {
    document: &'a Document,
    names: BTreeMap<&'a str, String>,
}

impl<'a> Types<'a> {
    fn new(document: &'a Document) -> Self {
        let mut names = BTreeMap::<&str, String>::new();
        for name in document.definitions.keys() {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let mut allowed: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
            while allowed == ERROR || names.values().any(|used| *used == allowed) {
                allowed.push('_');
            }
            names.insert(name, allowed);
        }
        Self { document, names }
    }

    fn name<'n>(&'n self, name: &'n str) -> &'n str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// Returns the schema of a type, with references into this document.
    fn schema(&self, ty: &Type) -> Value {
        // The names are those of components, so nothing in them is escaped.
        let mut schema = ty.clone().map_refs(&|name| Type::Ref(self.name(&name).to_owned())).to_json_schema();
        move_references(&mut schema);
        schema
    }

    /// Returns the schema of a type, and an example.
    fn described(&self, ty: &Type) -> Described {
        Described { schema: self.schema(ty), example: self.document.example(ty) }
    }
}

fn move_references(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/$defs/")
            {
                *reference = format!("{SCHEMAS}{name}");
            }
            members.values_mut().for_each(move_references);
        }
        Value::Array(items) => items.iter_mut().for_each(move_references),
        _ => {}
    }
}

fn content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// Describes the response if the method itself fails, which has more details than others.
fn own_error(details: &Value) -> Value {
    let object =
        json!({ "properties": { "code": { "const": Code::Application.name() }, "details": details } });
    let schema = json!({
        "allOf": [{ "$ref": "#/components/schemas/Error" }, { "properties": { "error": object } }],
    });
    json!({ "description": "The method's own error, in `details`.", "content": content(&schema) })
}

fn components() -> Value {
    let codes = Code::ALL.map(Code::name);
    json!({
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["code", "message", "execution", "details"],
                        "properties": {
                            "code": { "type": "string", "enum": codes },
                            "message": { "type": "string", "description": "A sentence for a person." },
                            "execution": {
                                "type": "string",
                                "enum": ["done", "refused", "maybe"],
                                "description": "Whether the work may have happened: the method ran to its end, \
                                                was never begun, or was begun and cut off.",
                            },
                            "details": {
                                "description": "The method's own error where `code` is `application`, else null.",
                            },
                        },
                    },
                },
            },
        },
        "responses": {
            "Error": {
                "description": "The call failed.",
                "content": content(&json!({ "$ref": "#/components/schemas/Error" })),
            },
        },
        "parameters": {
            "timeout": {
                "name": "farcall-timeout-ms",
                "in": "header",
                "description": "How long the caller waits, in milliseconds.",
                "schema": { "type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS },
            },
            "idempotent": {
                "name": "farcall-idempotent",
                "in": "header",
                "description": "Whether the call may be made twice with the effect of once.",
                "schema": { "type": "boolean" },
            },
            "idempotencyKey": {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The key of the call: calls with the same one are carried out once.",
                "schema": { "type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_BYTES },
            },
        },
        "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
    })
}

/// Says something where there is something to say.
fn describe(object: &mut Value, key: &str, text: &str) {
    if !text.is_empty() {
        object[key] = json!(text);
    }
}

#[cfg(test)]
mod tests {
    use farcall_schema::{Field, Struct};

    use super::*;

    fn document(method: MethodSchema) -> Value {
        let mut service = ServiceSchema::new("shop.Stock");
        service.doc = "What is there.".to_owned();
        service.methods.push(method);
        let mut document = Document::default();
        document.services.push(service);
        document
            .definitions
            .insert("Error".to_owned(), Type::Struct(Struct::new([Field::new("left", Type::i64())])));
        document.definitions.insert("Ünit<u8>".to_owned(), Type::Ref("Error".to_owned()).list());
        document_of(&document, &Gateway::default().title("Shop").version("2.0.0"))
    }

    #[test]
    fn method_is_described_by_its_doc_and_its_types() {
        let mut method = MethodSchema::new("count");
        method.doc = "Counts what is there.\n\nOf one kind, or of all.".to_owned();
        method.arguments = Type::Struct(Struct::new([
            Field::new("kind", Type::Text.option()).optional(),
            Field::new("at", Type::int(false, 8)),
        ]));
        method.result = Type::int(false, 8);
        method.error = Some(Type::Ref("Error".to_owned()));
        let document = document(method);
        assert_eq!(document["info"], json!({ "title": "Shop", "version": "2.0.0" }));
        assert_eq!(document["tags"], json!([{ "name": "shop.Stock", "description": "What is there." }]));
        let post = &document["paths"]["/rpc/shop.Stock.count"]["post"];
        assert_eq!(post["operationId"], "shop.Stock.count");
        assert_eq!(post["summary"], "Counts what is there.");
        assert_eq!(post["description"], "Counts what is there.\n\nOf one kind, or of all.");
        let body = &post["requestBody"];
        assert_eq!(body["required"], true);
        let json = &body["content"]["application/json"];
        assert_eq!(json["example"], json!({ "kind": "text", "at": 0 }));
        let arguments = &json["schema"];
        assert_eq!(arguments["required"], json!(["at"]));
        assert_eq!(arguments["properties"]["at"]["maximum"], 255);
        assert_eq!(arguments["properties"]["kind"]["anyOf"][1]["type"], "null");
        let result = &post["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(*result, Type::int(false, 8).to_json_schema());
        let own = &post["responses"]["422"]["content"]["application/json"]["schema"]["allOf"][1];
        let details = &own["properties"]["error"]["properties"]["details"];
        // The document defines a type `Error`.
        assert_eq!(*details, json!({ "$ref": "#/components/schemas/Error_" }));
        assert_eq!(document["components"]["schemas"]["Error_"]["required"], json!(["left"]));
        assert_eq!(
            document["components"]["schemas"]["_nit_u8_"]["items"]["$ref"],
            "#/components/schemas/Error_"
        );
    }

    #[test]
    fn single_value_is_the_whole_body_and_a_method_without_parameters_needs_none() {
        let mut method = MethodSchema::new("add");
        (method.takes_whole, method.arguments) = (true, Type::Text);
        let whole = document(method);
        let body = &whole["paths"]["/rpc/shop.Stock.add"]["post"]["requestBody"];
        assert_eq!(body["content"]["application/json"]["schema"], json!({ "type": "string" }));
        let none = document(MethodSchema::new("clear"));
        let body = &none["paths"]["/rpc/shop.Stock.clear"]["post"]["requestBody"];
        assert_eq!(body.get("required"), None);
    }

    #[test]
    fn name_that_is_no_path_is_encoded() {
        let document = document(MethodSchema::new("a/{b}?"));
        assert!(document["paths"]["/rpc/shop.Stock.a%2F%7Bb%7D%3F"]["post"].is_object(), "{document}");
    }
}
