//! The body of a request: read within its limits of size, of time, and of room for all, and looked at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header::EXPECT};
use farcall_protocol::{Code, Status};
use serde::de::IgnoredAny;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Open;
use super::answer::Failure;

/// How long the rest of a body that is refused is discarded before the answer, so that it arrives: a
/// kernel that holds unread input answers a close with a reset.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it is discarded at most, in bytes.
const DISCARDED: usize = 64 * 1024 * 1024;

/// A body that is there, and its place among all of them.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// Gives its room back when the answer is there: the call keeps the bytes until then.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What is wrong with a body on its way.
enum Fault {
    TooLarge,
    NoRoom,
    Broken(axum::Error),
}

impl Open {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// It is too large, too slow, cut off, or no JSON, or there is no room for it: the answer says which.
    pub(super) async fn receive(&self, headers: &HeaderMap, mut body: Body) -> Result<Received, Failure> {
        let limit = self.options.body_timeout;
        let read = timeout(limit, self.read(&mut body)).await.map_err(|_elapsed| {
            let message = format!("the body was not complete within {limit:?}");
            let status = Status::refused(Code::DeadlineExceeded, message);
            Failure::new(StatusCode::REQUEST_TIMEOUT, status)
        })?;
        match read {
            Ok(received) => {
                check_json(&received.bytes)?;
                Ok(received)
            }
            Err(Fault::Broken(error)) => Err(Failure::invalid(format!("the body broke off: {error}"))),
            Err(fault) => {
                pass_over(headers, body).await;
                Err(self.no_place(&fault))
            }
        }
    }

    /// Reads to the end, and reserves nothing for what has not come.
    async fn read(&self, body: &mut Body) -> Result<Received, Fault> {
        let max = self.options.max_body_bytes;
        // What is said to come.
        if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(Fault::TooLarge);
        }
        let (mut bytes, mut room) = (Vec::new(), None::<OwnedSemaphorePermit>);
        while let Some(data) = next(body).await.transpose().map_err(Fault::Broken)? {
            if data.len() > max - bytes.len() {
                return Err(Fault::TooLarge);
            }
            let more = u32::try_from(data.len()).map_err(|_| Fault::NoRoom)?;
            let more = self.room.clone().try_acquire_many_owned(more).map_err(|_| Fault::NoRoom)?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Received { bytes: bytes.into(), room })
    }

    fn no_place(&self, fault: &Fault) -> Failure {
        let options = &self.options;
        if matches!(fault, Fault::TooLarge) {
            let message = format!("the body is over the limit of {} bytes", options.max_body_bytes);
            let status = Status::refused(Code::ResourceExhausted, message);
            return Failure::new(StatusCode::PAYLOAD_TOO_LARGE, status);
        }
        let message = format!("the buffers for bodies are full: {} bytes", options.buffered_bytes);
        Status::refused(Code::ResourceExhausted, message).into()
    }
}

/// The next bytes of a body; none at its end, or where trailers follow, which nobody reads.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.map(|frame| frame.into_data().ok()).transpose()
}

/// Discards some of a body that nobody wants, so that who sends it reads the answer.
pub(super) async fn pass_over(headers: &HeaderMap, mut body: Body) {
    // Who waits for leave to send it has not sent it, and is not asked to.
    if !headers.contains_key(EXPECT) {
        let _ = timeout(LINGER, discard(&mut body)).await;
    }
}

async fn discard(body: &mut Body) {
    let mut discarded = 0;
    while let Some(Ok(data)) = next(body).await {
        discarded += data.len();
        if discarded > DISCARDED {
            return;
        }
    }
}

/// Whether it is JSON, or nothing. What the method makes of it is its own affair.
///
/// # Errors
///
/// Where it is not: the line and the column.
fn check_json(body: &[u8]) -> Result<(), Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|error| {
        Failure::invalid(format!(
            "the body is no JSON: {error}; arguments are by name, as in {{\"a\": 6, \"b\": 7}}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_with_the_place() {
        for good in ["", " \r\n", "{}", "[6, 7]\n", "null", "42"] {
            assert!(check_json(good.as_bytes()).is_ok(), "{good}");
        }
        for (wrong, place) in [
            ("a=6&b=7", "line 1 column 1"),
            ("{\"a\": 6,\n \"b\": }", "line 2 column 7"),
            ("{\"a\": 6", "line 1 column 7"),
            ("{} {}", "line 1 column 4"),
        ] {
            let refused = format!("{:?}", check_json(wrong.as_bytes()).unwrap_err());
            assert!(refused.contains(place), "{wrong}: {refused}");
        }
    }
}
