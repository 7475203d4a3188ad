//! [`Watch`]: the events of one watch as they arrive, a line for each.

use bytes::{Buf, BytesMut};
use farcall_protocol::text::parse_error;
use reqwest::Response;

use crate::call_error::{CallError, excerpt};
use crate::limits::MAX_ANSWER_BYTES;
use crate::wire::{Bookmark, Slice, Status, WatchLine};

/// A watch that the API server has begun.
#[derive(Debug)]
pub(crate) struct Watch {
    response: Response,
    /// The bytes that arrived and were not taken yet; at most [`MAX_ANSWER_BYTES`] and what one read brings.
    arrived: BytesMut,
    /// The number of them that are known to contain no end of a line.
    searched: usize,
}

/// An event of a watch.
#[derive(Debug)]
pub(crate) enum WatchEvent {
    /// The slice was added or changed.
    Put(Slice),
    /// The slice was deleted, or belongs to another service now.
    Delete(Slice),
    /// All changes up to this version were reported.
    Bookmark(String),
}

impl Watch {
    pub(crate) fn new(response: Response) -> Self {
        Self { response, arrived: BytesMut::new(), searched: 0 }
    }

    /// Returns the next event; `None` at the end of the watch. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent>, CallError> {
        loop {
            if let Some(line) = self.line() {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                match event(&line)? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            if self.arrived.len() > MAX_ANSWER_BYTES {
                return Err(CallError::TooLong(MAX_ANSWER_BYTES));
            }
            // Cancel-safe: bytes that were read are in `arrived` already.
            match self.response.chunk().await.map_err(|error| CallError::unreachable(&error))? {
                Some(chunk) => self.arrived.extend_from_slice(&chunk),
                // A line without its end was cut off; the next watch reports it again.
                None => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let Some(end) = self.arrived[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.arrived.len();
            return None;
        };
        let line = self.arrived.split_to(self.searched + end);
        self.arrived.advance(1);
        self.searched = 0;
        Some(line)
    }
}

/// Parses a line. Events of types that are not known are skipped.
fn event(line: &[u8]) -> Result<Option<WatchEvent>, CallError> {
    let invalid = |error: serde_json::Error| {
        let beginning = String::from_utf8_lossy(&line[..line.len().min(300)]);
        CallError::InvalidAnswer(format!("{}, in the watch's `{}`", parse_error(&error), excerpt(&beginning)))
    };
    let WatchLine { r#type, object } = serde_json::from_slice(line).map_err(invalid)?;
    Ok(Some(match &*r#type {
        "ADDED" | "MODIFIED" => {
            let slice: Slice = serde_json::from_value(object).map_err(invalid)?;
            WatchEvent::Put(Slice { bytes: line.len(), ..slice })
        }
        "DELETED" => WatchEvent::Delete(serde_json::from_value(object).map_err(invalid)?),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_value(object).map_err(invalid)?;
            WatchEvent::Bookmark(bookmark.metadata.resource_version)
        }
        "ERROR" => {
            let status: Status = serde_json::from_value(object).map_err(invalid)?;
            return Err(CallError::of_status(&status, None));
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_event_is_the_error_of_its_status() {
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert!(matches!(event(gone), Err(CallError::Expired(message)) if message == "too old"));
        let failed = br#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"no"}}"#;
        assert!(matches!(event(failed), Err(CallError::Refused { status: 500, .. })));
    }

    #[test]
    fn long_mistake_is_told_by_its_beginning_and_its_place() {
        let line = format!(r#"{{"type":"ADDED","object":{{"metadata":"{}"}}}}"#, "x".repeat(1 << 20));
        let mistake = event(line.as_bytes()).unwrap_err().to_string();
        assert!(mistake.len() < 700 && mistake.contains("expected struct SliceMeta"), "{mistake}");
    }

    #[test]
    fn event_that_is_not_known_is_skipped_and_others_must_be_well_formed() {
        assert!(matches!(event(br#"{"type":"LATER","object":{}}"#), Ok(None)));
        let bookmark =
            br#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","metadata":{"resourceVersion":"7"}}}"#;
        assert!(matches!(event(bookmark), Ok(Some(WatchEvent::Bookmark(version))) if version == "7"));
        for line in ["<html>", "{}", r#"{"type":"ADDED"}"#, r#"{"type":"ADDED","object":7}"#] {
            assert!(matches!(event(line.as_bytes()), Err(CallError::InvalidAnswer(_))), "{line}");
        }
    }
}
