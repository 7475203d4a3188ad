//! [`Failure`]: why a request did not give what it was sent for, as a sentence.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use farcall_transport::HumanDuration;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode, Url};

use super::http::Answered;
use crate::wire;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    sentence: String,
}

/// What the failure means for what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The registry does not have this part of the interface.
    NoRoute,
    /// The registry has too many that wait.
    Busy,
    /// Nobody is there.
    Unreachable,
    /// Anything else.
    Other,
}

impl Failure {
    /// A failure of the request that `label` names, see [`label`].
    pub(super) fn new(label: &str, what: impl fmt::Display) -> Self {
        Self { kind: Kind::Other, sentence: format!("{label}: {what}") }
    }

    pub(super) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What an answer says that is not the one hoped for.
    pub(super) fn of_status(label: &str, answered: &Answered) -> Self {
        let status = answered.status;
        let mut what = format!("answered {status}");
        if let Ok(wire::Failure { error }) = serde_json::from_slice(&answered.body) {
            what.push_str(&format!(": {}", excerpt(&error)));
        }
        if status.is_redirection()
            && let Some(location) = answered.headers.get(LOCATION)
        {
            let location = excerpt(&String::from_utf8_lossy(location.as_bytes()));
            what.push_str(&format!(", a redirect to {location}, which is not followed"));
        }
        let kind = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Kind::NoRoute
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Kind::Busy,
            _ => Kind::Other,
        };
        Self::new(label, what).of_kind(kind)
    }

    /// What the HTTP client reports.
    pub(super) fn of_transport(label: &str, error: &reqwest::Error) -> Self {
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if error.is_connect() && error.is_timeout() {
            Self::new(label, "cannot connect: no answer in time").of_kind(Kind::Unreachable)
        } else if error.is_connect() {
            Self::new(label, format_args!("cannot connect: {cause}")).of_kind(Kind::Unreachable)
        } else {
            Self::new(label, format_args!("the answer broke off: {cause}"))
        }
    }

    /// Nothing came for this long.
    pub(super) fn of_silence(label: &str, limit: Duration) -> Self {
        Self::new(label, format_args!("nothing came for {}", HumanDuration(limit)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The request's name in sentences: the same for all requests of a kind, so that a failure that lasts
/// reads the same each time.
pub(super) fn label(method: &Method, url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    if let Some((_, service)) = url.query_pairs().find(|(key, _)| key == "service") {
        shown.query_pairs_mut().append_pair("service", &service);
    }
    format!("{method} {shown}")
}

/// The beginning of what somebody else wrote, safe to show and to log.
pub(super) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut characters = text.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(SHOWN) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
