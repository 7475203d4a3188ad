//! [`Urls`]: where a registry has what, from the one URL that a user gives.

use farcall_discovery::Instance;
use reqwest::Url;

use super::failure::excerpt;
use super::settings::SettingsError;
use crate::wire::PLAIN_LIST;

/// The last part of the simple interface's path, where the URL does not give it.
const SIMPLE: &str = "registry";

/// The URLs of a registry.
///
/// The path that is given is the simple interface's, and the full one is beside it: `/x/registry` and
/// `/x/v1/`. A URL that ends in `/`, or has no path, is the place where both are.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    simple: Url,
    /// Ends in `/v1`.
    full: Url,
}

impl Urls {
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        let wrong = |shown: &str, why: &str| SettingsError::Url { url: excerpt(shown), why: why.to_owned() };
        let mut simple = Url::parse(text).map_err(|error| wrong(text, &error.to_string()))?;
        if !simple.username().is_empty() || simple.password().is_some() {
            return Err(wrong(simple.host_str().unwrap_or_default(), "it has a user or password in it"));
        }
        if !matches!(simple.scheme(), "http" | "https") {
            return Err(wrong(text, "it begins with neither http:// nor https://"));
        }
        if simple.query().is_some() || simple.fragment().is_some() {
            return Err(wrong(text, "it has a ? or # in it"));
        }
        if simple.port() == Some(0) {
            return Err(wrong(text, "port 0 is any port"));
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

    /// The simple interface, for people and for `POST`.
    pub(super) fn simple(&self) -> &Url {
        &self.simple
    }

    /// The simple interface's list of a service.
    pub(super) fn simple_list(&self, service: &str) -> Url {
        let mut url = self.simple.clone();
        if !service.is_empty() {
            url.query_pairs_mut().append_pair("service", service);
        }
        url
    }

    /// The events of a service.
    pub(super) fn watch(&self, service: &str) -> Url {
        let mut url = self.below(&["watch"]);
        url.query_pairs_mut().append_pair("service", named(service));
        url
    }

    /// The list of a service, in whatever state its instances are.
    pub(super) fn list(&self, service: &str) -> Url {
        let mut url = self.below(&["services", named(service), "instances"]);
        url.query_pairs_mut().append_pair("include", "stale");
        url
    }

    pub(super) fn instance(&self, instance: &Instance) -> Url {
        self.below(&["services", named(&instance.service), "instances", &instance.id])
    }

    pub(super) fn heartbeat(&self, instance: &Instance) -> Url {
        self.below(&["services", named(&instance.service), "instances", &instance.id, "heartbeat"])
    }

    /// The full interface's URL of this path; its parts are encoded.
    fn below(&self, parts: &[&str]) -> Url {
        let mut url = self.full.clone();
        url.path_segments_mut().expect("http and https URLs have paths").extend(parts);
        url
    }
}

fn named(service: &str) -> &str {
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
    fn the_full_interface_is_beside_the_simple_one() {
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
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (given, why) in [
            ("", "relative URL without a base"),
            ("127.0.0.1:7100", "relative URL without a base"),
            ("localhost:7100", "neither http:// nor https://"),
            ("tcp@10.0.0.1:7100", "relative URL without a base"),
            ("ftp://h/registry", "neither http:// nor https://"),
            ("http://h/registry?service=S", "? or #"),
            ("http://h:0", "port 0"),
            ("http://h:99999", "invalid port"),
            ("http://", "empty host"),
            ("http://u:secret@h/registry", "user or password"),
        ] {
            let error = Urls::parse(given).unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
