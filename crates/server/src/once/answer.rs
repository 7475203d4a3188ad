//! The bytes of an answer as a store keeps them: the length of the head, the head in JSON, and the body.

use bytes::{Buf as _, BufMut as _, Bytes};
use farcall_protocol::{Code, Execution, Metadata, Status};
use serde::{Deserialize, Serialize};

use crate::service::handler::Response;

/// The head of an answer.
#[derive(Default, Serialize, Deserialize)]
struct Head {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Error {
    code: String,
    execution: String,
    message: String,
}

/// Encodes a response.
pub(super) fn encode(response: &Response) -> Vec<u8> {
    let error = response.status().map(|status| Error {
        code: status.code.name().to_owned(),
        execution: status.execution.name().to_owned(),
        message: status.message.clone(),
    });
    let pairs = response.metadata().into_iter().flat_map(Metadata::iter);
    let metadata = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let head = serde_json::to_vec(&Head { error, metadata }).expect("strings always encode");
    let body = response.body();
    let mut bytes = Vec::with_capacity(4 + head.len() + body.len());
    bytes.put_u32(u32::try_from(head.len()).expect("it holds less than a frame does"));
    bytes.put_slice(&head);
    bytes.put_slice(&body);
    bytes
}

/// Decodes a response; one that no server has encoded becomes an error.
pub(super) fn decode(bytes: Vec<u8>) -> Response {
    try_decode(bytes.into()).unwrap_or_else(|| {
        let message =
            "the answer of an earlier try is kept, and does not decode: another program wrote to the store";
        Response::error(Status::done(Code::Internal, message))
    })
}

fn try_decode(mut bytes: Bytes) -> Option<Response> {
    let len = bytes.try_get_u32().ok()? as usize;
    if len > bytes.len() {
        return None;
    }
    let head: Head = serde_json::from_slice(&bytes.split_to(len)).ok()?;
    let mut response = Response::new(bytes);
    response.error = head.error.map(|error| {
        let Error { code, execution, message } = error;
        Box::new(Status::new(Code::from_name(&code), Execution::from_name(&execution), message))
    });
    if !head.metadata.is_empty() {
        let mut metadata = Metadata::new();
        for (key, value) in head.metadata {
            metadata.insert(key, value).ok()?;
        }
        response = response.with_metadata(metadata);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use farcall_protocol::Codec;

    use super::*;

    #[test]
    fn answer_survives_the_store() {
        let mut metadata = Metadata::new();
        metadata.insert("tenant", "blue").unwrap();
        let answers = [
            Response::ok(&Codec::Json, &42),
            Response::application(&Codec::Json, &"no money"),
            Response::error(Status::maybe(Code::Cancelled, "stopped")).with_metadata(metadata),
        ];
        for answer in answers {
            let read = decode(encode(&answer));
            assert_eq!(read.body(), answer.body());
            assert_eq!(read.status(), answer.status());
            assert_eq!(read.metadata(), answer.metadata());
        }
    }

    #[test]
    fn other_bytes_are_an_error_that_says_so() {
        for bytes in [&b""[..], b"\0\0\0\x09{}", b"\0\0\0\x02{!"] {
            let read = decode(bytes.to_vec());
            assert_eq!(read.status().unwrap().execution, Execution::Done);
        }
    }
}
