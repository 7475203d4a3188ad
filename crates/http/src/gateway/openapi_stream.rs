//! The media types of methods that stream, for the OpenAPI document.

use serde_json::{Value, json};

use super::accept::{Form, NDJSON};

/// Returns the content of the answer of a method that streams, with the schema of the items that it sends, if any, and of
/// its result. `plain` is the content without items.
pub(super) fn answer(items: Option<&Value>, result: &Value, plain: &Value) -> Value {
    let line = |name: &str, schema: &Value| json!({ "type": "object", "required": [name], "properties": { name: schema } });
    let error = json!({ "$ref": "#/components/schemas/Error" });
    let mut lines = vec![line("result", result), error];
    if let Some(item) = items {
        lines.insert(0, line("item", item));
    }
    let mut content = json!({
        NDJSON: {
            "schema": {
                "description": "One line of the body. The last line is a result or an error: a body without it was cut off.",
                "oneOf": lines,
            },
        },
        Form::Events.media_type(): {
            "schema": {
                "type": "string",
                "description": "Events `item`, and a last one, `result` or `error`, with JSON as data.",
            },
        },
    });
    if items.is_none() {
        content[Form::Json.media_type()] = plain[Form::Json.media_type()].clone();
    }
    content
}

/// Returns the body of a request for a method that takes items of this schema, if it does: `plain` has the arguments.
pub(super) fn request(items: Option<&Value>, plain: Value) -> Value {
    let Some(item) = items else { return plain };
    let arguments = &plain["content"][Form::Json.media_type()]["schema"];
    json!({
        "required": true,
        "content": {
            NDJSON: {
                "schema": {
                    "description": "One line of the body: the arguments in the first, an item in each further one.",
                    "anyOf": [arguments, item],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_a_method_that_streams_has_its_items() {
        let (item, result) = (json!({ "type": "integer" }), json!({ "type": "boolean" }));
        let plain = json!({ "application/json": { "schema": result } });
        let content = answer(Some(&item), &result, &plain);
        let lines = &content["application/x-ndjson"]["schema"]["oneOf"];
        assert_eq!(lines[0]["properties"]["item"], item);
        assert_eq!(lines[1]["properties"]["result"], result);
        assert_eq!(content.get("application/json"), None);
        assert!(content["text/event-stream"].is_object());
        assert!(answer(None, &result, &plain)["application/json"].is_object());

        let body = json!({ "content": plain });
        assert_eq!(request(None, body.clone()), body);
        let lines = &request(Some(&item), body)["content"]["application/x-ndjson"]["schema"]["anyOf"];
        assert_eq!(*lines, json!([result, item]));
    }
}
