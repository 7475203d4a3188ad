//! The registry's events, lists and snapshots.

use farcall_registry::fuzzing;
use farcall_registry::wire::{Envelope, InstanceRecord, Patch};
use serde_json::Value;

use crate::input::Input;

/// The service whose list is read.
const SERVICE: &str = "Arith";
/// The longest event, in bytes.
const MAX_EVENT: usize = 512;

/// Server-Sent Events: in pieces they are the same as in one.
pub(crate) fn events(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = 1 + usize::from(input.byte() % 16);
    let bytes = input.rest();
    let whole = fuzzing::events(&[bytes], MAX_EVENT);
    let pieces: Vec<_> = bytes.chunks(piece).collect();
    assert_eq!(fuzzing::events(&pieces, MAX_EVENT), whole);
    if let Err(error) = whole {
        assert!(error.len() < 2_000, "the text of an error has a bound");
    }
}

/// Lists and events as JSON, for a client.
pub(crate) fn json(data: &[u8]) {
    let mut input = Input::new(data);
    let decode = input.choose(&[fuzzing::full_list, fuzzing::put, fuzzing::delete]);
    let body = input.rest();
    if let Err(error) = decode(body, SERVICE) {
        assert!(error.len() < 4_000, "the text of an error has a bound: {error}");
    }
    let _ = serde_json::from_slice::<Envelope<Value>>(body);
    let _ = serde_json::from_slice::<InstanceRecord>(body);
    let _ = serde_json::from_slice::<Patch>(body);
}

/// A snapshot file.
pub(crate) fn snapshot(data: &[u8]) {
    match fuzzing::snapshot(data) {
        Ok(instances) => assert!(instances <= data.len()),
        Err(error) => assert!(!error.is_empty()),
    }
}

pub(crate) fn event_seeds() -> Vec<Vec<u8>> {
    ["\u{feff}: hi\nevent: snapshot\r\nid: e-1\rdata: {\"a\":\rdata:1}\r\n\r\n: ping\n\nretry: 5\n\ndata:  two\n\n"]
        .map(|text| [&[3], text.as_bytes()].concat())
        .into()
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let instance = r#"{"service":"Arith","id":"tcp@10.0.0.1:7001","addr":"10.0.0.1:7001","state":"up","weight":100,
        "metadata":{"rack":"7"},"registered_at":"2031-04-05T06:07:08.009Z","last_seen":"2031-04-05T06:07:09.010Z"}"#;
    let list =
        format!(r#"{{"epoch":"e","rev":7,"warming":false,"service":"Arith","instances":[{instance}]}}"#);
    let put = format!(r#"{{"epoch":"e","rev":7,"instance":{instance}}}"#);
    let delete = r#"{"epoch":"e","rev":8,"service":"Arith","id":"tcp@10.0.0.1:7001","cause":"expired"}"#;
    let seed = |first: u8, text: &str| [&[first], text.as_bytes()].concat();
    vec![seed(0, &list), seed(1, &put), seed(2, delete), seed(0, "<html>"), seed(0, "")]
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let instance = r#"{"registered":{"service":"A","id":"tcp@10.0.0.1:1","addr":"10.0.0.1:1"},
        "registered_at":"2031-04-05T06:07:08.009Z","last_seen":"2031-04-05T06:07:09.010Z"}"#
        .replace('\n', "");
    let begin =
        r#"{"format":"farcall-registry-snapshot","version":2,"written_at":"2031-04-05T06:07:08.009Z","#;
    let document = format!(r#"{begin}"warming":false,"kept":[],"instances":[{instance}]}}"#);
    let lines = format!(
        "{document}\n{{\"put\":{instance}}}\n{{\"delete\":{{\"service\":\"A\",\"id\":\"tcp@10.0.0.1:1\"}}}}\n\
         {{\"warming\":true}}\n{{\"kept\":[]}}\n"
    );
    vec![
        document.clone().into_bytes(),
        lines.clone().into_bytes(),
        lines.as_bytes()[..lines.len() - 5].to_vec(),
    ]
}
