//! The OpenAPI 3.1 document of the services: <https://spec.openapis.org/oas/v3.1.1.html>.
//!
//! It is as exact as the server's descriptions of its methods: names, documentation, and types as they are
//! written in Rust.

use farcall_protocol::Code;
use farcall_protocol::describe::{MethodInfo, ServiceInfo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::head::MAX_TIMEOUT_MS;
use super::options::Gateway;
use super::schema::{is_optional, result_types, schema};
use super::state::ROOT;

/// The characters that a path cannot contain; braces, for example, would be a parameter.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
/// The name of a closure's parameter, which is the whole body.
const WHOLE: &str = "arguments";

/// Creates the document.
pub(super) fn document_of(services: &[ServiceInfo], options: &Gateway) -> Value {
    let mut paths = Map::new();
    for service in services {
        for method in &service.methods {
            let name = format!("{}.{}", service.name, method.name);
            let path = format!("{ROOT}/{}", utf8_percent_encode(&name, ENCODED));
            paths.insert(path, json!({ "post": operation(&name, service, method) }));
        }
    }
    json!({
        "openapi": "3.1.1",
        "info": { "title": options.title, "version": options.version },
        "tags": services.iter().map(tag).collect::<Vec<_>>(),
        "paths": paths,
        "components": components(),
        // Without a credential, or with one: it is not known here if the server requires it.
        "security": [{}, { "bearer": [] }],
    })
}

fn tag(service: &ServiceInfo) -> Value {
    let mut tag = json!({ "name": service.name });
    describe(&mut tag, "description", &service.doc);
    tag
}

fn operation(name: &str, service: &ServiceInfo, method: &MethodInfo) -> Value {
    let (returns, error) = result_types(&method.returns).unwrap_or((&method.returns, None));
    let returns = if returns.is_empty() { json!({}) } else { schema(returns) };
    let mut responses = json!({
        "200": { "description": "The result.", "content": content(&returns) },
        "default": { "$ref": "#/components/responses/Error" },
    });
    if result_types(&method.returns).is_some() {
        responses["422"] = own_error(error);
    }
    let mut operation = json!({
        "operationId": name,
        "tags": [service.name],
        "parameters": [
            { "$ref": "#/components/parameters/timeout" },
            { "$ref": "#/components/parameters/idempotent" },
        ],
        "requestBody": request_body(method),
        "responses": responses,
    });
    let summary = method.doc.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    describe(&mut operation, "summary", summary);
    describe(&mut operation, "description", method.doc.trim());
    operation
}

/// Describes the arguments by name. An array in order is accepted, too, but not documented: one way is enough.
fn request_body(method: &MethodInfo) -> Value {
    if let [only] = &method.params[..]
        && only.name == WHOLE
    {
        return json!({ "content": content(&schema(&only.type_name)) });
    }
    let properties: Map<_, _> =
        method.params.iter().map(|param| (param.name.clone(), schema(&param.type_name))).collect();
    let required: Vec<_> = method
        .params
        .iter()
        .filter(|param| !is_optional(&param.type_name))
        .map(|param| param.name.as_str())
        .collect();
    let mut arguments = json!({ "type": "object", "properties": properties });
    if required.is_empty() {
        return json!({ "content": content(&arguments) });
    }
    arguments["required"] = json!(required);
    json!({ "required": true, "content": content(&arguments) })
}

fn content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// Describes the response if the method itself fails, which has more details than others.
fn own_error(details: Option<&str>) -> Value {
    let details = details.map_or_else(|| json!({}), schema);
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
    use farcall_protocol::describe::ParamInfo;

    use super::*;
    use crate::gateway::schema::unknown;

    fn param(name: &str, type_name: &str) -> ParamInfo {
        ParamInfo::new(name, type_name)
    }

    fn document(method: MethodInfo) -> Value {
        let service = ServiceInfo::new("shop.Stock").doc("What is there.").methods(vec![method]);
        document_of(&[service], &Gateway::default().title("Shop").version("2.0.0"))
    }

    #[test]
    fn method_is_described_by_its_doc_and_its_types() {
        let document = document(
            MethodInfo::new("count")
                .doc("Counts what is there.\n\nOf one kind, or of all.")
                .params(vec![param("kind", "Option<String>"), param("at", "u8")])
                .returns("Result<u8, NoSuchKind>"),
        );
        assert_eq!(document["info"], json!({ "title": "Shop", "version": "2.0.0" }));
        assert_eq!(document["tags"], json!([{ "name": "shop.Stock", "description": "What is there." }]));
        let post = &document["paths"]["/rpc/shop.Stock.count"]["post"];
        assert_eq!(post["operationId"], "shop.Stock.count");
        assert_eq!(post["summary"], "Counts what is there.");
        assert_eq!(post["description"], "Counts what is there.\n\nOf one kind, or of all.");
        let body = &post["requestBody"];
        assert_eq!(body["required"], true);
        let arguments = &body["content"]["application/json"]["schema"];
        assert_eq!(arguments["required"], json!(["at"]));
        assert_eq!(arguments["properties"]["at"]["maximum"], 255);
        assert_eq!(arguments["properties"]["kind"]["anyOf"][1]["type"], "null");
        assert_eq!(post["responses"]["200"]["content"]["application/json"]["schema"], schema("u8"));
        let own = &post["responses"]["422"]["content"]["application/json"]["schema"]["allOf"][1];
        assert_eq!(own["properties"]["error"]["properties"]["details"], unknown("NoSuchKind"));
    }

    #[test]
    fn closure_takes_the_whole_body_and_a_method_without_parameters_needs_none() {
        let whole = document(MethodInfo::new("add").params(vec![param("arguments", "shop::Goods")]));
        let body = &whole["paths"]["/rpc/shop.Stock.add"]["post"]["requestBody"];
        assert_eq!(body["content"]["application/json"]["schema"], unknown("shop::Goods"));
        let none = document(MethodInfo::new("clear"));
        let body = &none["paths"]["/rpc/shop.Stock.clear"]["post"]["requestBody"];
        assert_eq!(body.get("required"), None);
    }

    #[test]
    fn name_that_is_no_path_is_encoded() {
        let document = document(MethodInfo::new("a/{b}?"));
        assert!(document["paths"]["/rpc/shop.Stock.a%2F%7Bb%7D%3F"]["post"].is_object(), "{document}");
    }
}
