//! The media types of methods that stream, for the OpenAPI document.

use serde_json::{Value, json};

use super::accept::{Form, NDJSON};

/// The keyword with the schemas of the data of events, by their names. OpenAPI 3.1 has none for them.
const EVENTS: &str = "x-farcall-events";

/// A type in the document.
pub(super) struct Described {
    pub(super) schema: Value,
    /// A value of it.
    pub(super) example: Value,
}

/// Returns the content of the answer of a method that streams: the items that it sends, if any, and its result. `plain` is
/// the content without items.
pub(super) fn answer(items: Option<&Described>, result: &Described, plain: &Value) -> Value {
    let error = json!({ "$ref": "#/components/schemas/Error" });
    let (mut lines, mut examples, mut events, mut text) = (Vec::new(), json!({}), json!({}), String::new());
    let named = items.map(|items| ("item", items)).into_iter().chain([("result", result)]);
    for (name, Described { schema, example }) in named {
        lines.push(json!({ "type": "object", "required": [name], "properties": { name: schema } }));
        examples[name] = json!({ "value": { name: example } });
        events[name] = schema.clone();
        text = format!("{text}event: {name}\ndata: {example}\n\n");
    }
    lines.push(error.clone());
    // The data of an event is the error itself, which is a member of a line.
    events["error"] = json!({ "$ref": "#/components/schemas/Error/properties/error" });
    let mut content = json!({
        NDJSON: {
            "schema": {
                "description": "One line of the body. The last line is a result or an error: a body without it was cut off.",
                "oneOf": lines,
            },
            "examples": examples,
        },
        Form::Events.media_type(): {
            "schema": {
                "type": "string",
                "description": "Events `item`, and a last one, `result` or `error`, with JSON as data.",
                EVENTS: events,
            },
            "example": text,
        },
    });
    if items.is_none() {
        content[Form::Json.media_type()] = plain[Form::Json.media_type()].clone();
    }
    content
}

/// Returns the body of a request for a method that takes items, if it does: `plain` has the arguments.
pub(super) fn request(items: Option<&Described>, plain: Value) -> Value {
    let Some(Described { schema, example }) = items else { return plain };
    let arguments = &plain["content"][Form::Json.media_type()];
    json!({
        "required": true,
        "content": {
            NDJSON: {
                "schema": {
                    "description": "One line of the body: the arguments in the first, an item in each further one.",
                    "anyOf": [arguments["schema"], schema],
                },
                "examples": {
                    "arguments": { "value": arguments["example"] },
                    "item": { "value": example },
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
        let item = Described { schema: json!({ "type": "integer" }), example: json!(5) };
        let result = Described { schema: json!({ "type": "boolean" }), example: json!(true) };
        let plain = json!({ "application/json": { "schema": result.schema, "example": true } });
        let content = answer(Some(&item), &result, &plain);
        let lines = &content["application/x-ndjson"];
        assert_eq!(lines["schema"]["oneOf"][0]["properties"]["item"], item.schema);
        assert_eq!(lines["schema"]["oneOf"][1]["properties"]["result"], result.schema);
        assert_eq!(lines["examples"]["item"]["value"], json!({ "item": 5 }));
        assert_eq!(content.get("application/json"), None);
        let events = &content["text/event-stream"];
        assert_eq!(events["schema"]["x-farcall-events"]["item"], item.schema);
        assert_eq!(events["example"], "event: item\ndata: 5\n\nevent: result\ndata: true\n\n");
        assert!(answer(None, &result, &plain)["application/json"].is_object());

        let body = json!({ "content": plain });
        assert_eq!(request(None, body.clone()), body);
        let lines = &request(Some(&item), body)["content"]["application/x-ndjson"];
        assert_eq!(lines["schema"]["anyOf"], json!([result.schema, item.schema]));
        assert_eq!(lines["examples"]["arguments"]["value"], true);
    }
}
