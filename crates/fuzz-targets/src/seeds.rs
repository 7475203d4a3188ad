//! Messages of every kind, from which inputs are made.

use bytes::Bytes;
use farcall_protocol::stream::encode_credit;
use farcall_protocol::{Code, Codec, Execution, Flags, HeaderRef, Kind, Metadata, Seq, Status};
use farcall_test_support::frames::encode;
use serde_json::json;

/// Returns a message of every kind.
pub(crate) fn messages(codec: &Codec) -> Vec<Vec<u8>> {
    let mut metadata = Metadata::new();
    metadata.insert("a", "b").unwrap();
    metadata.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let status = Status::new(Code::ResourceExhausted, Execution::Refused, "no room");
    let arguments = codec.encode(&json!({"a": [1, -7, 1.5, null], "b": "text \u{e9}"})).unwrap();
    let request =
        |service_method, flags| HeaderRef { service_method, flags, ..HeaderRef::new(Kind::Request, Seq(1)) };
    let response = HeaderRef::new(Kind::Response, Seq(1));
    let credit = encode_credit(codec, 1 << 20).unwrap().into_bytes();
    let mut messages = vec![
        encode(codec, &request("T.echo", Flags::IDEMPOTENT), arguments.clone()),
        encode(
            codec,
            &HeaderRef { timeout_ms: 500, metadata: Some(&metadata), ..request("T.echo", Flags::NONE) },
            arguments.clone(),
        ),
        encode(codec, &request("T.exchange", Flags::STREAMING), arguments.clone()),
        encode(codec, &request("T.note", Flags::ONE_WAY), arguments),
        encode(codec, &HeaderRef { error: Some(&status), ..response }, Bytes::new()),
        encode(codec, &HeaderRef { flags: Flags::COMPRESSED, ..response }, vec![1, 0, 0, 0, 16, 7]),
    ];
    for (kind, body) in [
        (Kind::Response, b"7"[..].into()),
        (Kind::Cancel, Bytes::new()),
        (Kind::Ping, Bytes::new()),
        (Kind::Pong, Bytes::new()),
        (Kind::Goaway, Bytes::new()),
        (Kind::Item, b"7"[..].into()),
        (Kind::End, Bytes::new()),
        (Kind::Credit, credit),
        (Kind::Stop, Bytes::new()),
    ] {
        messages.push(encode(codec, &HeaderRef::new(kind, Seq(1)), body));
    }
    messages
}
