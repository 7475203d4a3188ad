//! [`Endpoints`], the addresses of etcd's members.

use std::fmt;
use std::sync::Arc;

use reqwest::Url;

use crate::error::{EndpointErrorKind, EtcdOptionsError};

/// The port of etcd's clients.
const DEFAULT_PORT: u16 = 2379;

/// At least one member of an etcd cluster, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints(Arc<[Url]>);

impl Endpoints {
    pub(crate) fn parse(list: &str) -> Result<Self, EtcdOptionsError> {
        list.split(',').map(|endpoint| parse_one(endpoint.trim())).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn use_tls(&self) -> bool {
        self.0.iter().any(|url| url.scheme() == "https")
    }

    /// The address of one method, such as `kv/range`, at the endpoint of this number.
    pub(crate) fn method(&self, index: usize, method: &str) -> Url {
        let mut url = self.0[index].clone();
        url.set_path(&format!("/v3/{method}"));
        url
    }

    /// The endpoint of this number, for people: `http://10.0.0.1:2379`.
    pub(crate) fn name(&self, index: usize) -> &str {
        self.0[index].as_str().trim_end_matches('/')
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..self.len() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, self.name(index))?;
        }
        Ok(())
    }
}

fn parse_one(text: &str) -> Result<Url, EtcdOptionsError> {
    let wrong = |reason| EtcdOptionsError::Endpoint {
        // It may have a password in it, which logs need not see.
        endpoint: text.rsplit_once('@').map_or(text, |(_, place)| place).to_owned(),
        reason,
    };
    if text.is_empty() {
        return Err(wrong(EndpointErrorKind::Empty));
    }
    // An address of farcall, whose scheme would be taken for a user.
    if !text.contains("://")
        && ["http@", "https@", "tcp@", "tls@"].iter().any(|scheme| text.starts_with(scheme))
    {
        return Err(wrong(EndpointErrorKind::Scheme));
    }
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&with_scheme).map_err(|error| wrong(EndpointErrorKind::Url(Arc::new(error))))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(EndpointErrorKind::Scheme));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(EndpointErrorKind::Credentials));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(EndpointErrorKind::Path));
    }
    // A port that is the scheme's own, such as 80, looks like none to `Url::port`.
    let authority = with_scheme.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
    let says_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !says_port || authority.ends_with(']') {
        url.set_port(Some(DEFAULT_PORT)).map_err(|()| wrong(EndpointErrorKind::Port))?;
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_with_its_defaults() {
        for (text, expected) in [
            ("http://a:2379", "http://a:2379"),
            ("http://a:2379/, https://B", "http://a:2379,https://b:2379"),
            ("10.0.0.1", "http://10.0.0.1:2379"),
            ("10.0.0.1:80", "http://10.0.0.1"),
            ("https://[::1]", "https://[::1]:2379"),
            ("https://[::1]:443,http://[fe80::2379]", "https://[::1],http://[fe80::2379]:2379"),
        ] {
            assert_eq!(Endpoints::parse(text).unwrap().to_string(), expected);
        }
        let endpoints = Endpoints::parse("a,b").unwrap();
        assert_eq!(endpoints.method(1, "kv/range").as_str(), "http://b:2379/v3/kv/range");
    }

    #[test]
    fn endpoint_errors_name_the_text() {
        for (text, expected) in [
            ("", "nothing is there"),
            ("http://a:2379,", "nothing is there"),
            ("tcp@a:1", "its scheme is neither"),
            ("user@a:1", "password do not belong here"),
            ("ftp://a", "its scheme is neither"),
            ("http@10.0.0.1:2379", "its scheme is neither"),
            ("http://a/etcd", "something stands after the port"),
            ("http://a?x", "something stands after the port"),
            ("http://a:99999", "`http://a:99999` is not an etcd endpoint: invalid port"),
            ("http://", "empty host"),
        ] {
            let error = Endpoints::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Endpoints::parse("http://root:hush@a").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
