//! [`Urls`]: the URLs of a registry's parts, derived from the one that a user gives.

use farcall_discovery::Instance;
use reqwest::Url;

use super::settings::{SettingsError, UrlError};
use crate::excerpt::excerpt;
use crate::wire::PLAIN_LIST;

/// The last segment of the simple interface's path, if the URL does not have it.
const SIMPLE: &str = "registry";

/// The URLs of a registry.
///
/// The path of the given URL is the simple interface's, and the full interface is next to it: `/x/registry` and `/x/v1/`.
/// If the URL ends in `/` or has no path, both are below it.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    simple: Url,
    /// Ends in `/v1`.
    full: Url,
}

impl Urls {
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        let invalid = |shown: &str, error| SettingsError::Url { url: excerpt(shown), error };
        if !text.contains("://") {
            return Err(invalid(text, UrlError::Scheme));
        }
        let mut simple = Url::parse(text).map_err(|error| invalid(text, UrlError::Malformed(error)))?;
        if !simple.username().is_empty() || simple.password().is_some() {
            return Err(invalid(simple.host_str().unwrap_or_default(), UrlError::Credentials));
        }
        if !matches!(simple.scheme(), "http" | "https") {
            return Err(invalid(text, UrlError::Scheme));
        }
        if simple.query().is_some() || simple.fragment().is_some() {
            return Err(invalid(text, UrlError::Query));
        }
        if simple.port() == Some(0) {
            return Err(invalid(text, UrlError::Port));
        }
        if let Some(path) = simple.path().strip_suffix("/registry/").map(|base| format!("{base}/{SIMPLE}")) {
            simple.set_path(&path);
        }
        if simple.path().ends_with('/') {
            let path = format!("{}{SIMPLE}", simple.path());
            simple.set_path(&path);
        }
        let mut full = simple.clone();
        let base = simple.path().rsplit_once('/').map_or("", |(base, _)| base);
        full.set_path(&format!("{base}/v1"));
        Ok(Self { simple, full })
    }

    /// Returns the URL of the simple interface, for display and for `POST`.
    pub(super) fn simple(&self) -> &Url {
        &self.simple
    }

    /// Returns the URL of a service's list in the simple interface.
    pub(super) fn simple_list(&self, service: &str) -> Url {
        let mut url = self.simple.clone();
        if !service.is_empty() {
            url.query_pairs_mut().append_pair("service", service);
        }
        url
    }

    /// Returns the URL of a service's events.
    pub(super) fn watch(&self, service: &str) -> Url {
        let mut url = self.below(&["watch"]);
        url.query_pairs_mut().append_pair("service", service_segment(service));
        url
    }

    /// Returns the URL of a service's list, with instances in any state.
    pub(super) fn list(&self, service: &str) -> Url {
        let mut url = self.below(&["services", service_segment(service), "instances"]);
        url.query_pairs_mut().append_pair("include", "stale");
        url
    }

    /// Returns the URL of the list of services.
    pub(super) fn services(&self) -> Url {
        self.below(&["services"])
    }

    pub(super) fn instance(&self, instance: &Instance) -> Url {
        self.instance_named(&instance.service, &instance.id)
    }

    pub(super) fn instance_named(&self, service: &str, id: &str) -> Url {
        self.below(&["services", service_segment(service), "instances", id])
    }

    pub(super) fn heartbeat(&self, instance: &Instance) -> Url {
        self.below(&["services", service_segment(&instance.service), "instances", &instance.id, "heartbeat"])
    }

    /// Returns a URL of the full interface; the segments of its path are encoded.
    fn below(&self, segments: &[&str]) -> Url {
        let mut url = self.full.clone();
        url.path_segments_mut().expect("http and https URLs have paths").extend(segments);
        url
    }
}

fn service_segment(service: &str) -> &str {
    if service.is_empty() { PLAIN_LIST } else { service }
}

#[cfg(test)]
mod tests {
    use farcall_transport::Address;

    use super::*;

    fn both(text: &str) -> (String, String) {
        let urls = Urls::parse(text).unwrap();
        (urls.simple().to_string(), urls.list("S").to_string())
    }

    #[test]
    fn full_interface_is_next_to_the_simple_one() {
        for (given, simple, list) in [
            ("http://h:7100", "http://h:7100/registry", "http://h:7100/v1/services/S/instances"),
            ("http://h:7100/", "http://h:7100/registry", "http://h:7100/v1/services/S/instances"),
            ("http://h:7100/registry", "http://h:7100/registry", "http://h:7100/v1/services/S/instances"),
            ("http://h:7100/registry/", "http://h:7100/registry", "http://h:7100/v1/services/S/instances"),
            ("https://h/x/registry", "https://h/x/registry", "https://h/x/v1/services/S/instances"),
            ("https://h/x/", "https://h/x/registry", "https://h/x/v1/services/S/instances"),
            ("https://h/x/servers", "https://h/x/servers", "https://h/x/v1/services/S/instances"),
            ("http://[::1]:7100", "http://[::1]:7100/registry", "http://[::1]:7100/v1/services/S/instances"),
        ] {
            assert_eq!(both(given), (simple.to_owned(), format!("{list}?include=stale")), "{given}");
        }
    }

    #[test]
    fn names_are_encoded() {
        let urls = Urls::parse("http://h").unwrap();
        let mut instance = Instance::new(
            "",
            Address::parse("unix@/run/a b%2F?#")
                .unwrap_or_else(|_| Address::parse("unix@/run/a%2F?#").unwrap()),
        );
        assert_eq!(urls.watch("").as_str(), "http://h/v1/watch?service=%7E");
        assert_eq!(
            urls.instance(&instance).as_str(),
            "http://h/v1/services/~/instances/unix@%2Frun%2Fa%252F%3F%23"
        );
        instance.id = "../é".to_owned();
        assert_eq!(
            urls.heartbeat(&instance).as_str(),
            "http://h/v1/services/~/instances/..%2F%C3%A9/heartbeat"
        );
        assert_eq!(urls.simple_list("A-b.c_d").as_str(), "http://h/registry?service=A-b.c_d");
    }

    #[test]
    fn url_errors_do_not_show_passwords() {
        for (given, reason) in [
            ("", "neither http:// nor https://"),
            ("localhost:7100", "neither http:// nor https://"),
            ("127.0.0.1:7100", "neither http:// nor https://"),
            ("http@127.0.0.1:7100", "neither http:// nor https://"),
            ("tcp@10.0.0.1:7100", "neither http:// nor https://"),
            ("ftp://h/registry", "neither http:// nor https://"),
            ("http://h/registry?service=S", "? or #"),
            ("http://h:0", "port 0"),
            ("http://h:99999", "invalid port"),
            ("http://", "empty host"),
            ("http://u:secret@h/registry", "user or password"),
        ] {
            let error = Urls::parse(given).unwrap_err().to_string();
            assert!(error.contains(reason), "{given}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
