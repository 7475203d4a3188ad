//! [`Watch`]: the messages of one watch as they arrive, a line for each.

use bytes::{Buf, BytesMut};
use farcall_protocol::text::parse_error;
use reqwest::Response;

use crate::call_error::{CallErrorKind, excerpt};
use crate::limits::MAX_ANSWER_BYTES;
use crate::wire::{ErrorAnswer, WatchLine, WatchMessage};

/// A watch that was requested from etcd.
#[derive(Debug)]
pub(crate) struct Watch {
    endpoint: usize,
    response: Response,
    /// The bytes that arrived and were not taken yet; at most [`MAX_ANSWER_BYTES`] and what one read brings.
    arrived: BytesMut,
    /// The number of them that are known to contain no end of a line.
    searched: usize,
}

impl Watch {
    pub(crate) const METHOD: &'static str = "watch";

    pub(crate) fn new(endpoint: usize, response: Response) -> Self {
        Self { endpoint, response, arrived: BytesMut::new(), searched: 0 }
    }

    /// Returns the index of the endpoint.
    pub(crate) const fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Waits for the first message, which only confirms the watch.
    pub(crate) async fn created(&mut self) -> Result<(), CallErrorKind> {
        let message = self.next().await?;
        if message.created {
            Ok(())
        } else {
            Err(CallErrorKind::InvalidAnswer("a watch that is not confirmed".into()))
        }
    }

    /// Returns the next message, or an error if it ends the watch. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<WatchMessage, CallErrorKind> {
        loop {
            if let Some(line) = self.line() {
                if !line.trim_ascii().is_empty() {
                    return message(&line);
                }
            } else if self.arrived.len() > MAX_ANSWER_BYTES {
                return Err(CallErrorKind::TooLong(MAX_ANSWER_BYTES));
            } else {
                // Cancel-safe: bytes that were read are in `arrived` already.
                match self.response.chunk().await.map_err(|error| CallErrorKind::unreachable(&error))? {
                    Some(chunk) => self.arrived.extend_from_slice(&chunk),
                    None => {
                        return Err(CallErrorKind::Unreachable("etcd closed the watch".to_owned()));
                    }
                }
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

fn message(line: &[u8]) -> Result<WatchMessage, CallErrorKind> {
    let invalid = |reason: &dyn std::fmt::Display| {
        let beginning = String::from_utf8_lossy(&line[..line.len().min(200)]);
        CallErrorKind::InvalidAnswer(format!(
            "{}, in the watch's `{}`",
            parse_error(reason),
            excerpt(&beginning)
        ))
    };
    let line: WatchLine = serde_json::from_slice(line).map_err(|error| invalid(&error))?;
    if let Some(error) = &line.error {
        let sentence = ErrorAnswer::sentence(error).unwrap_or("an error without a sentence");
        return Err(CallErrorKind::WatchEnded(excerpt(sentence)));
    }
    let message = line.result.ok_or_else(|| invalid(&"neither a result nor an error"))?;
    if message.canceled {
        return Err(CallErrorKind::WatchEnded(if message.compact_revision.0 > 0 {
            format!("the changes up to revision {} were compacted", message.compact_revision.0)
        } else if message.cancel_reason.is_empty() {
            "etcd gave no reason".to_owned()
        } else {
            excerpt(&message.cancel_reason)
        }));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_mistake_is_told_by_its_beginning_and_its_place() {
        let line = format!(r#"{{"result":"{}"}}"#, "x".repeat(1 << 20));
        let mistake = message(line.as_bytes()).unwrap_err().to_string();
        assert!(mistake.len() < 700 && mistake.contains("expected struct WatchMessage"), "{mistake}");
    }

    #[test]
    fn final_message_has_the_reason() {
        for (line, expected) in [
            (
                r#"{"result":{"header":{},"canceled":true,"compact_revision":"9"}}"#,
                "up to revision 9 were compacted",
            ),
            (
                r#"{"result":{"header":{},"created":true,"canceled":true,"cancel_reason":"no"}}"#,
                "the watch ended: no",
            ),
            (r#"{"result":{"header":{},"canceled":true}}"#, "etcd gave no reason"),
            (
                r#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#,
                "ended: etcdserver: no leader",
            ),
            (r#"{"error":"gone"}"#, "the watch ended: gone"),
            ("{}", "neither a result nor an error"),
            (r#"{"result":{}}"#, "missing field `header`"),
            ("<html>", "in the watch's `<html>`"),
        ] {
            let error = message(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
