//! [`Query`]: the parameters of a request's query, and service names in paths.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use farcall_discovery::Instance;
use percent_encoding::percent_decode_str;

use super::error::HttpError;
use crate::excerpt::excerpt;
use crate::wire::PLAIN_LIST;

/// The maximum number of a query's parameters: ten times as many as there are.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a query. Unknown ones are ignored.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query, whose percent-encoding was checked before.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, HttpError> {
        let mut pairs = Vec::<(String, String)>::new();
        let mut names = HashSet::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if pairs.len() == MAX_PARAMETERS {
                return Err(HttpError::bad_request(format!(
                    "the query has more than {MAX_PARAMETERS} parameters, the limit"
                )));
            }
            if !names.insert(name.clone()) {
                return Err(HttpError::bad_request(format!("the query has `{}` twice", excerpt(&name))));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Returns the value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Returns the requested service; `~` and an empty value are the plain list.
    pub(super) fn service(&self) -> Result<Option<String>, HttpError> {
        self.text("service").map(service).transpose()
    }

    /// Returns the requested zone.
    pub(super) fn zone(&self) -> Option<String> {
        self.text("zone").map(str::to_owned)
    }

    /// Returns the revision that the client has.
    pub(super) fn rev(&self) -> Result<Option<u64>, HttpError> {
        let Some(text) = self.text("rev") else { return Ok(None) };
        let invalid =
            |_| HttpError::bad_request(format!("rev=`{}` in the query is not a revision", excerpt(text)));
        text.parse().map(Some).map_err(invalid)
    }

    /// Returns the time to wait for a change; zero if not given.
    pub(super) fn wait(&self) -> Result<Duration, HttpError> {
        let Some(text) = self.text("wait") else { return Ok(Duration::ZERO) };
        humantime::parse_duration(text).map_err(|_| {
            let text = excerpt(text);
            HttpError::bad_request(format!("wait=`{text}` in the query must be a time such as 55s or 500ms"))
        })
    }

    /// Returns whether to include stale instances, and whether to include `last_seen`.
    pub(super) fn include(&self) -> Result<(bool, bool), HttpError> {
        let (mut stale, mut last_seen) = (false, false);
        for what in self.text("include").unwrap_or_default().split(',').filter(|what| !what.is_empty()) {
            match what {
                "stale" => stale = true,
                "last_seen" => last_seen = true,
                other => {
                    let other = excerpt(other);
                    let error = format!("include=`{other}` in the query must be stale, last_seen or both");
                    return Err(HttpError::bad_request(error));
                }
            }
        }
        Ok((stale, last_seen))
    }
}

/// Parses the name of a service in a path or a query.
pub(super) fn service(name: &str) -> Result<String, HttpError> {
    if name == PLAIN_LIST {
        return Ok(String::new());
    }
    Instance::check_service(name)?;
    Ok(name.to_owned())
}

fn decode(text: &str) -> Result<String, HttpError> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| HttpError::bad_request("the query is not UTF-8 behind its percent signs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_unknown_names_are_ignored() {
        let query = Query::parse(Some("service=A&x=1&&zone=a+b%2Fc&flag")).unwrap();
        assert_eq!(query.service().unwrap().as_deref(), Some("A"));
        assert_eq!(query.zone().as_deref(), Some("a b/c"));
        assert_eq!(query.text("flag"), Some(""));
        assert_eq!(query.rev().unwrap(), None);
    }

    #[test]
    fn number_of_parameters_is_bounded() {
        let query = |count: usize| (0..count).map(|n| format!("n{n}=1&")).collect::<String>();
        assert!(Query::parse(Some(&query(MAX_PARAMETERS))).is_ok());
        let error = Query::parse(Some(&query(MAX_PARAMETERS + 1))).unwrap_err();
        assert!(error.message().contains("more than 64 parameters"), "{}", error.message());
    }

    #[test]
    fn empty_service_and_tilde_are_the_plain_list() {
        for text in ["service=", "service=~"] {
            assert_eq!(Query::parse(Some(text)).unwrap().service().unwrap().as_deref(), Some(""));
        }
    }

    #[test]
    fn invalid_values_are_named_in_the_error() {
        for (text, part) in [
            ("rev=-1", "rev=`-1`"),
            ("rev=99999999999999999999", "rev="),
            ("wait=55", "wait=`55`"),
            ("wait=soon", "55s"),
            ("include=fresh", "include=`fresh`"),
            ("service=a/b", "a/b"),
            ("service=%FF", "UTF-8"),
            ("a=1&a=2", "`a` twice"),
        ] {
            let read = Query::parse(Some(text)).and_then(|query| {
                query.rev()?;
                query.wait()?;
                query.include()?;
                query.service()
            });
            let error = read.unwrap_err();
            assert!(error.message().contains(part), "{text}: {}", error.message());
        }
    }
}
