//! The client's parsers, for [`crate::fuzzing`].

use super::decode;
use super::sse::EventDecoder;

pub(crate) fn events(pieces: &[&[u8]], limit: usize) -> Result<Vec<String>, String> {
    let mut decoder = EventDecoder::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(decoder.decode(piece)?.iter().map(|event| format!("{event:?}")));
    }
    Ok(events)
}

pub(crate) fn full_list(body: &[u8], service: &str) -> Result<String, String> {
    decode::full_list(body, service).map(|list| format!("{list:?}"))
}

pub(crate) fn put(data: &[u8], service: &str) -> Result<String, String> {
    decode::put(data, service).map(|put| format!("{put:?}"))
}

pub(crate) fn delete(data: &[u8], service: &str) -> Result<String, String> {
    decode::delete(data, service).map(|delete| format!("{delete:?}"))
}
