//! The text of a streaming call's answer: lines of JSON, and server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use farcall_protocol::metadata::RESUME;
use farcall_protocol::{Code, Metadata, Status};
use farcall_server::Response;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::accept::Form;
use super::failure::Failure;

/// The outcome of a call as JSON.
enum Outcome {
    Result(Vec<u8>),
    Error(Vec<u8>),
}

/// Appends an item.
pub(super) fn push_item(form: Form, item: &[u8], text: &mut Vec<u8>) {
    push(form, "item", item, b"", text);
}

/// Appends a comment, which tells proxies and the client that the connection lives.
pub(super) fn push_comment(text: &mut Vec<u8>) {
    text.extend_from_slice(b":\n\n");
}

/// Appends the outcome of a call, the last line or event: `failure`, or else the response.
pub(super) fn push_outcome(form: Form, response: &Response, failure: Option<Failure>, text: &mut Vec<u8>) {
    let metadata = response.metadata();
    let resume = metadata.is_some_and(|metadata| metadata.get(RESUME).is_some());
    let outcome = match (failure, response.status()) {
        (Some(failure), _) => Outcome::Error(failure.json(b"", false)),
        (None, Some(status)) => Outcome::Error(Failure::from(status.clone()).json(&response.body(), resume)),
        (None, None) => result(&response.body()),
    };
    let metadata = metadata.map(metadata_json).unwrap_or_default();
    match &outcome {
        Outcome::Result(json) => push(form, "result", json, &metadata, text),
        Outcome::Error(json) => push(form, "error", json, &metadata, text),
    }
}

/// Appends one line, or one event. `metadata` is an object in JSON, or empty.
fn push(form: Form, name: &str, json: &[u8], metadata: &[u8], text: &mut Vec<u8>) {
    if form == Form::Events {
        for (name, json) in [("metadata", metadata), (name, json)] {
            if !json.is_empty() {
                text.extend_from_slice(b"event: ");
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(b"\ndata: ");
                push_json(json, text);
                text.extend_from_slice(b"\n\n");
            }
        }
        return;
    }
    text.extend_from_slice(b"{\"");
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"\":");
    push_json(json, text);
    if !metadata.is_empty() {
        text.extend_from_slice(b",\"metadata\":");
        text.extend_from_slice(metadata);
    }
    text.extend_from_slice(b"}\n");
}

/// Appends JSON in one line: outside of strings, which have none, an end of a line is a space.
fn push_json(json: &[u8], text: &mut Vec<u8>) {
    let start = text.len();
    text.extend_from_slice(json);
    for byte in &mut text[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Returns the result; a user's own handler may return an empty body, or one that is no JSON.
fn result(body: &[u8]) -> Outcome {
    if body.is_empty() {
        return Outcome::Result(b"null".to_vec());
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(_) => Outcome::Result(body.to_vec()),
        Err(error) => {
            let status = Status::done(Code::Internal, format!("the method's result is not JSON: {error}"));
            Outcome::Error(Failure::from(status).json(b"", false))
        }
    }
}

/// Returns metadata as a JSON object, without the pair that `resume` of an error stands for; empty if nothing is left.
fn metadata_json(metadata: &Metadata) -> Vec<u8> {
    let pairs = metadata.iter().filter(|(key, _)| *key != RESUME);
    let object: Map<_, _> = pairs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    if object.is_empty() { Vec::new() } else { Value::Object(object).to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use farcall_protocol::Codec;

    use super::*;

    fn outcome(form: Form, response: &Response) -> String {
        let mut text = Vec::new();
        push_outcome(form, response, None, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn each_item_is_one_line_or_one_event() {
        let mut text = Vec::new();
        push_item(Form::Lines, b"{\"a\":\r\n \"b\"}", &mut text);
        assert_eq!(text, b"{\"item\":{\"a\":   \"b\"}}\n");
        let mut text = Vec::new();
        push_item(Form::Events, b"[1,\n2]", &mut text);
        assert_eq!(text, b"event: item\ndata: [1, 2]\n\n");
    }

    #[test]
    fn outcome_has_result_or_error_and_metadata() {
        let mut metadata = Metadata::new();
        metadata.insert("shard", "7").unwrap();
        let response = Response::ok(&Codec::Json, &[1, 2]).with_metadata(metadata);
        assert_eq!(outcome(Form::Lines, &response), "{\"result\":[1,2],\"metadata\":{\"shard\":\"7\"}}\n");
        assert_eq!(
            outcome(Form::Events, &response),
            "event: metadata\ndata: {\"shard\":\"7\"}\n\nevent: result\ndata: [1,2]\n\n"
        );
        assert_eq!(outcome(Form::Lines, &Response::default()), "{\"result\":null}\n");
        let broken = outcome(Form::Lines, &Response::new("}".into()));
        assert!(broken.starts_with("{\"error\":{\"code\":\"internal\""), "{broken}");
    }

    #[test]
    fn error_of_a_server_that_stops_says_resume() {
        let mut metadata = Metadata::new();
        metadata.insert(RESUME, "1").unwrap();
        let status = Status::maybe(Code::Unavailable, "the server is stopping");
        let response = Response::error(status).with_metadata(metadata);
        let error = r#"{"code":"unavailable","message":"the server is stopping","execution":"maybe","details":null,"resume":true}"#;
        assert_eq!(outcome(Form::Lines, &response), format!("{{\"error\":{error}}}\n"));
        assert_eq!(outcome(Form::Events, &response), format!("event: error\ndata: {error}\n\n"));
    }
}
