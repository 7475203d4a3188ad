//! [`KubernetesOptions`]: the API server, the token and the limits. The requests are left to the other files.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall_discovery::source::Token;
use farcall_discovery::source::http::{self, UrlFault};
use farcall_tls::read_file;
use reqwest::Url;

use crate::error::{KubernetesOptionsError, NameKind, check_name};
use crate::limits::MAX_TOKEN_BYTES;

/// The directory in which a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The bounds of [`KubernetesOptions::watch_for`].
const MIN_WATCH: Duration = Duration::from_secs(1);
const MAX_WATCH: Duration = Duration::from_secs(3600);

/// The API server of a cluster, and the way to speak to it.
///
/// ```
/// use farcall_kubernetes::{KubernetesDiscovery, KubernetesOptions};
///
/// // Beside `kubectl proxy`, for instance.
/// let options = KubernetesOptions::new("http://127.0.0.1:8001", "shop")?;
/// let discovery = KubernetesDiscovery::new(&options, "arith")?;
/// # Ok::<(), farcall_kubernetes::KubernetesOptionsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    pub(crate) api: Url,
    pub(crate) namespace: String,
    /// A kubelet replaces the token in its file before it expires.
    pub(crate) token: Token,
    pub(crate) roots: Roots,
    pub(crate) request_timeout: Duration,
    pub(crate) watch_for: Duration,
}

/// The authorities to trust.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    System,
    Pem(Vec<u8>),
    /// Read for each request, and made into another client when it has changed.
    File(PathBuf),
}

impl KubernetesOptions {
    /// Returns the options of a pod: the API server of the environment (`KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT`), and the service account's token, authorities and namespace, from
    /// `/var/run/secrets/kubernetes.io/serviceaccount`.
    ///
    /// # Errors
    ///
    /// The process runs in no pod, or the pod has no service account (`automountServiceAccountToken: false`).
    pub fn in_cluster() -> Result<Self, KubernetesOptionsError> {
        let (host, port) = api_server(|variable| std::env::var(variable).ok())?;
        Self::in_pod(&host, &port, SERVICE_ACCOUNT)
    }

    /// Does the same with this host and port, and with the files `token`, `ca.crt` and `namespace` of a directory.
    ///
    /// # Errors
    ///
    /// The host and the port make no URL, or the namespace cannot be read. The other two files are read when a request is sent.
    pub fn in_pod(
        host: &str,
        port: &str,
        directory: impl AsRef<Path>,
    ) -> Result<Self, KubernetesOptionsError> {
        let directory = directory.as_ref();
        let namespace = read_file(&directory.join("namespace"), MAX_TOKEN_BYTES)?;
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        let options =
            Self::new(&format!("https://{host}:{port}"), String::from_utf8_lossy(&namespace).trim())?;
        Ok(options.token_file(directory.join("token")).roots_file(directory.join("ca.crt")))
    }

    /// Creates options for the API server at this URL, such as `https://10.0.0.1:6443`, and this namespace, without a
    /// token. Proxies that the environment names are not used.
    ///
    /// # Errors
    ///
    /// The URL is not that of an API server, or the namespace is none.
    pub fn new(url: &str, namespace: &str) -> Result<Self, KubernetesOptionsError> {
        check_name(NameKind::Namespace, namespace)?;
        Ok(Self {
            api: parse_url(url)?,
            namespace: namespace.to_owned(),
            token: Token::None,
            roots: Roots::System,
            request_timeout: Duration::from_secs(10),
            watch_for: Duration::from_secs(300),
        })
    }

    /// Sets the namespace of services whose names have none. Default in a pod: the pod's.
    ///
    /// # Errors
    ///
    /// The name is not one that a namespace can have.
    pub fn namespace(mut self, namespace: &str) -> Result<Self, KubernetesOptionsError> {
        check_name(NameKind::Namespace, namespace)?;
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    /// Sets the bearer token: visible ASCII characters, up to 16 KiB. Default: none. Over `http` everyone on the way can read it.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Text(token.into());
        self
    }

    /// Sets the file with the bearer token. It is read for each request, since tokens of pods are replaced before they
    /// expire. A file that cannot be read is a failure like any other.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Token::File(path.into());
        self
    }

    /// Trusts these authorities (PEM) in place of the system's.
    #[must_use]
    pub fn roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Roots::Pem(pem.into());
        self
    }

    /// Trusts the authorities in this file (PEM) in place of the system's. It is read for each request.
    #[must_use]
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Roots::File(path.into());
        self
    }

    /// Sets the time for the whole of a page of a list, and for the beginning of a watch; 1 ms to 1 hour, default 10 s. Too low, and a
    /// busy API server looks dead; too high, and one that hangs is noticed late.
    #[must_use]
    pub const fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Sets how long a watch is, until another one goes on where it ended; 1 s to 1 hour, in whole seconds, default 5 minutes.
    /// The time differs by up to a quarter from one watch to the next. A watch whose connection died
    /// without a sign is noticed after that at the latest; too low, and many clients keep an API server busy.
    #[must_use]
    pub const fn watch_for(mut self, time: Duration) -> Self {
        self.watch_for = time;
        self
    }

    pub(crate) fn check(&self) -> Result<(), KubernetesOptionsError> {
        self.token.check(Token::MAX_BYTES).map_err(KubernetesOptionsError::token)?;
        for (name, time, min) in [
            ("request timeout", self.request_timeout, Duration::from_millis(1)),
            ("time of a watch", self.watch_for, MIN_WATCH),
        ] {
            if !(min..=MAX_WATCH).contains(&time) {
                return Err(KubernetesOptionsError::Time { name, time, min, max: MAX_WATCH });
            }
        }
        Ok(())
    }
}

fn parse_url(text: &str) -> Result<Url, KubernetesOptionsError> {
    http::parse_url(text, "").map_err(|UrlFault { url, reason }| KubernetesOptionsError::Url { url, reason })
}

/// Returns the host and the port of the API server that the environment of a pod names.
fn api_server(
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<(String, String), KubernetesOptionsError> {
    let value = |name| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.ok_or(KubernetesOptionsError::NotInCluster { variable: name })
    };
    Ok((value("KUBERNETES_SERVICE_HOST")?, value("KUBERNETES_SERVICE_PORT")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variable_of_a_pod_is_missing() {
        let of = |host: Option<&'static str>, port: Option<&'static str>| {
            api_server(move |name| {
                let value = if name == "KUBERNETES_SERVICE_HOST" { host } else { port };
                value.map(str::to_owned)
            })
        };
        let there = ("10.96.0.1".to_owned(), "443".to_owned());
        assert_eq!(of(Some("10.96.0.1"), Some("443")).unwrap(), there);
        for (host, port, missing) in [
            (None, Some("443"), "KUBERNETES_SERVICE_HOST"),
            (Some(""), Some("443"), "KUBERNETES_SERVICE_HOST"),
            (Some("10.96.0.1"), None, "KUBERNETES_SERVICE_PORT"),
            (Some("10.96.0.1"), Some(""), "KUBERNETES_SERVICE_PORT"),
        ] {
            let error = of(host, port).unwrap_err();
            let is_named =
                matches!(error, KubernetesOptionsError::NotInCluster { variable } if variable == missing);
            assert!(is_named, "{error}");
        }
    }

    #[test]
    fn pod_has_its_options_in_its_environment_and_files() {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("namespace"), "shop\n").unwrap();
        let options = KubernetesOptions::in_pod("10.96.0.1", "443", files.path()).unwrap();
        assert_eq!((options.api.as_str(), &*options.namespace), ("https://10.96.0.1/", "shop"));
        assert!(matches!(options.token, Token::File(path) if path == files.path().join("token")));
        let options = KubernetesOptions::in_pod("fd00::1", "6443", files.path()).unwrap();
        assert_eq!(options.api.as_str(), "https://[fd00::1]:6443/");
        let error = KubernetesOptions::in_pod("a", "443", files.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("namespace"), "{error}");
    }

    #[test]
    fn unusable_options_are_refused_with_a_reason() {
        for (url, namespace, expected) in [
            ("10.0.0.1:6443", "shop", "is no URL of an API server"),
            ("https://me:hush@a", "shop", "do not belong here"),
            ("https://a", "Shop", "`Shop` is no namespace"),
            ("https://a", "", "`` is no namespace"),
            ("https://a", "shop-", "`shop-` is no namespace"),
        ] {
            let error = KubernetesOptions::new(url, namespace).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hush"), "{url}: {error}");
        }
        let options = || KubernetesOptions::new("https://a", "shop").unwrap();
        for (options, expected) in [
            (options().watch_for(Duration::ZERO), "the time of a watch for Kubernetes is 0ns"),
            (options().request_timeout(Duration::ZERO), "the request timeout"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        options().check().unwrap();
    }

    #[test]
    fn token_that_no_header_can_carry_is_refused_before_anything_is_sent() {
        let options = |token: &str| KubernetesOptions::new("https://a", "shop").unwrap().token(token);
        for (token, expected) in [
            ("hush\n", "the token of `KubernetesOptions::token` has a line break at position 5"),
            ("hush\u{1b}", "the token of `KubernetesOptions::token` has a control character at position 5"),
            ("", "the token of `KubernetesOptions::token` is empty"),
        ] {
            let error = options(token).check().unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn token_is_not_shown() {
        let shown = format!("{:?}", KubernetesOptions::new("https://a", "shop").unwrap().token("hush"));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
