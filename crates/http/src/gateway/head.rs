//! [`CallHead`]: the headers of a call: timeout, idempotence, metadata, credential.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use farcall_protocol::limits::MAX_HEADER_BYTES;
use farcall_protocol::metadata::{IDEMPOTENCY_KEY, TRACEPARENT};
use farcall_protocol::{Code, EscapedText, Metadata, Status, truncate};

use super::failure::Failure;

/// The header with the caller's timeout, in milliseconds.
const TIMEOUT: HeaderName = HeaderName::from_static("farcall-timeout-ms");
/// The header that marks a call as idempotent.
const IDEMPOTENT: HeaderName = HeaderName::from_static("farcall-idempotent");
/// The header with the key of a call that is carried out once, as in draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY: HeaderName = HeaderName::from_static("idempotency-key");
/// The prefix of headers with metadata.
pub(super) const META_PREFIX: &str = "farcall-meta-";
/// The longest timeout, a day: no client keeps a connection longer, and a larger value is a mistake in the
/// unit.
pub(super) const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;
/// The most bytes that a metadata pair adds to its text in an encoded header.
const PAIR_BYTES: usize = 10;

/// The headers of a call.
#[derive(Debug, Default)]
pub(super) struct CallHead {
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
    pub(super) metadata: Option<Metadata>,
    pub(super) token: Option<String>,
}

impl CallHead {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// A header is malformed; the response names it. 431 if the metadata is larger than the protocol
    /// allows.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        Ok(Self {
            timeout: only(headers, &TIMEOUT)?.map(timeout).transpose()?,
            idempotent: only(headers, &IDEMPOTENT)?.map(idempotent).transpose()?.unwrap_or(false),
            metadata: metadata(headers)?,
            token: token(headers)?,
        })
    }
}

/// Returns the token of a request. Other schemes than `Bearer` are ignored: they may be a proxy's.
///
/// # Errors
///
/// There are two headers, or the header is not text.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let bearer = only(headers, &AUTHORIZATION)?.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    Ok(bearer.filter(|token| !token.is_empty()))
}

/// Returns an upper bound of the metadata's size in an encoded header, in bytes.
pub(super) fn encoded_len(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len() + PAIR_BYTES).sum()
}

/// Returns the value of a header that may occur once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => text(name, value).map(Some),
        (Some(_), Some(_)) => Err(Failure::invalid(format!("there are two headers `{name}`"))),
    }
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, Failure> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| Failure::invalid(format!("the header `{name}` is not UTF-8")))
}

fn timeout(value: &str) -> Result<Duration, Failure> {
    // `parse` alone would accept a plus sign.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let ms = value.parse().ok().filter(|ms| digits && (1..=MAX_TIMEOUT_MS).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| {
        let value = EscapedText(truncate(value, 40));
        let message =
            format!("the header `{TIMEOUT}` is `{value}`: it must be a number from 1 to {MAX_TIMEOUT_MS}");
        Failure::invalid(message)
    })
}

fn idempotent(value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let value = EscapedText(truncate(other, 40));
            Err(Failure::invalid(format!(
                "the header `{IDEMPOTENT}` is `{value}`: it must be `true` or `false`"
            )))
        }
    }
}

/// Reads the headers with the prefix, the `Idempotency-Key`, and W3C's `traceparent`.
fn metadata(headers: &HeaderMap) -> Result<Option<Metadata>, Failure> {
    let mut metadata = Metadata::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(META_PREFIX) else { continue };
        let value = only(headers, name)?.unwrap_or_default();
        let inserted = metadata.insert(key, value);
        inserted.map_err(|error| {
            Failure::invalid(format!("the header `{}`: {error}", truncate(name.as_str(), 300)))
        })?;
    }
    if let Some(key) = only(headers, &IDEMPOTENCY)? {
        // The draft has a string in quotes; many clients leave them out.
        let unquoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
        metadata.insert(IDEMPOTENCY_KEY, unquoted).expect("its key is one");
    }
    // W3C: a duplicate or malformed `traceparent` is ignored, not an error.
    if let Ok(Some(trace)) = only(headers, &HeaderName::from_static(TRACEPARENT))
        && metadata.get(TRACEPARENT).is_none()
    {
        metadata.insert(TRACEPARENT, trace).expect("its key is one");
    }
    let len = encoded_len(&metadata);
    if len > MAX_HEADER_BYTES {
        let message = format!("the metadata takes {len} bytes: at most {MAX_HEADER_BYTES} are allowed");
        let status = Status::refused(Code::ResourceExhausted, message);
        return Err(Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, status));
    }
    Ok((!metadata.is_empty()).then_some(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<CallHead, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        CallHead::read(&map)
    }

    #[test]
    fn timeout_is_a_number_of_milliseconds_within_a_day() {
        let timeout = |value| read(&[("farcall-timeout-ms", value)]).map(|head| head.timeout);
        assert_eq!(timeout("1").unwrap(), Some(Duration::from_millis(1)));
        assert_eq!(timeout("86400000").unwrap(), Some(Duration::from_secs(86_400)));
        for wrong in ["", "0", "-1", "+1", "1.5", "1s", "86400001", "99999999999999999999999"] {
            let refused = timeout(wrong).unwrap_err();
            assert!(format!("{refused:?}").contains("from 1 to 86400000"), "{wrong}: {refused:?}");
        }
    }

    #[test]
    fn idempotent_is_true_or_false() {
        let idempotent = |value| read(&[("farcall-idempotent", value)]).map(|head| head.idempotent);
        assert!(idempotent("true").unwrap());
        assert!(!idempotent("false").unwrap());
        for wrong in ["", "1", "yes", "TRUE"] {
            assert!(idempotent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn idempotency_key_is_read_with_and_without_quotes() {
        for written in ["order-17", "\"order-17\""] {
            let head = read(&[("idempotency-key", written)]).unwrap();
            assert_eq!(head.metadata.unwrap().get(IDEMPOTENCY_KEY), Some("order-17"));
        }
        assert!(read(&[("idempotency-key", "a"), ("idempotency-key", "b")]).is_err());
    }

    #[test]
    fn headers_with_the_prefix_and_the_trace_are_metadata() {
        let head = read(&[
            ("Farcall-Meta-Tenant", "Zoë & co"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-other", "not this"),
        ]);
        let metadata = head.unwrap().metadata.unwrap();
        let pairs: Vec<_> = metadata.iter().collect();
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(pairs, [("tenant", "Zoë & co"), ("traceparent", trace)]);
        assert!(read(&[("x-other", "not this")]).unwrap().metadata.is_none());
    }

    #[test]
    fn duplicate_header_is_refused_by_name() {
        for (name, first, second) in [
            ("farcall-meta-tenant", "a", "b"),
            ("farcall-timeout-ms", "1", "2"),
            ("authorization", "Bearer a", "Bearer b"),
        ] {
            let refused = format!("{:?}", read(&[(name, first), (name, second)]).unwrap_err());
            assert!(refused.contains(&format!("two headers `{name}`")), "{refused}");
        }
        // A trace that cannot be read is replaced by a new one.
        assert!(read(&[("traceparent", "a"), ("traceparent", "b")]).unwrap().metadata.is_none());
        assert!(read(&[("farcall-meta-", "no key")]).is_err());
    }

    #[test]
    fn metadata_has_the_limit_of_a_protocol_header() {
        let fits = "x".repeat(MAX_HEADER_BYTES - PAIR_BYTES - 1);
        assert!(read(&[("farcall-meta-k", &fits)]).is_ok());
        let refused = read(&[("farcall-meta-k", &(fits + "x"))]).unwrap_err();
        assert!(format!("{refused:?}").contains("http: 431"), "{refused:?}");
    }

    #[test]
    fn only_bearer_credentials_are_tokens() {
        let token = |value| read(&[("authorization", value)]).unwrap().token;
        assert_eq!(token("Bearer q8mXe01r").as_deref(), Some("q8mXe01r"));
        assert_eq!(token("bearer  q8mXe01r").as_deref(), Some("q8mXe01r"));
        for none in ["Bearer", "Bearer ", "Basic dXNlcjpwYXNz", ""] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }
}
