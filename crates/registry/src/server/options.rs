//! [`RegistryOptions`]: a registry's settings, and the check of their values.

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::Instance;
use farcall_web::Authority;

use super::error::OptionsError;
use super::tokens::Tokens;

/// The settings of a [`Registry`](super::Registry).
///
/// ```
/// use std::time::Duration;
/// use farcall_registry::server::RegistryOptions;
///
/// // Suitable for production: a crashed server is removed after 30 s.
/// let options = RegistryOptions::default()
///     .ttl(Duration::from_secs(30))
///     .heartbeat(Duration::from_secs(10))
///     .snapshot("/var/lib/farcall/registry.json");
/// ```
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    pub(super) ttl: Duration,
    heartbeat: Option<Duration>,
    pub(super) snapshot: Option<PathBuf>,
    pub(super) tokens: Tokens,
    allowed_hosts: Vec<String>,
    pub(super) max_instances: usize,
    pub(super) max_watchers: usize,
    pub(super) max_body_bytes: usize,
    pub(super) simple_path: String,
}

/// The lowest maximum of a body's size, in bytes: instances without metadata fit.
const MIN_BODY_BYTES: usize = 1024;

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5 * 60),
            heartbeat: None,
            snapshot: None,
            tokens: Tokens::default(),
            allowed_hosts: Vec::new(),
            max_instances: 100_000,
            max_watchers: 10_000,
            max_body_bytes: 64 * 1024,
            simple_path: "/registry".to_owned(),
        }
    }
}

impl RegistryOptions {
    /// Sets how long an instance that requests no time to live stays registered without a heartbeat. Default 5 min;
    /// from 1 s to 1 day. Too long: clients try crashed servers. Too short: a brief network failure looks like
    /// a crash.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the heartbeat interval of such instances; also how long the registry is warming if it starts without
    /// a snapshot. Default: 4/5 of the time to live, which is 4 min by default. At half the time to live or more,
    /// one lost heartbeat makes an instance expire.
    #[must_use]
    pub const fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// Sets the file that the registry starts from, which is written within 5 s of a change. Default: none; then
    /// servers must register again after a restart. Its directory must exist. Files with this name and `.tmp` or
    /// `.damaged-<time>` at its end are created in the same directory.
    #[must_use]
    pub fn snapshot(mut self, file: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(file.into());
        self
    }

    /// Sets the tokens for reading and writing. Default: none, so that every request is allowed. They can be
    /// replaced at run time: [`Registry::set_tokens`](super::Registry::set_tokens).
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Adds a host that requests may name: `registry.example.com` for any port, or `registry.example.com:7100`.
    /// Requests for other hosts than these, the listening addresses and loopback names are refused, so that a web
    /// page cannot reach the registry through a host name that its author controls. Default: none. A malformed
    /// host, such as a URL, makes [`Registry::open`](super::Registry::open) fail.
    #[must_use]
    pub fn allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Sets the maximum number of instances. Default 100,000, at least 1. Past it, new instances are refused with status 429.
    #[must_use]
    pub const fn max_instances(mut self, max: usize) -> Self {
        self.max_instances = max;
        self
    }

    /// Sets the maximum number of open watches and long polls. Default 10,000, at least 1. Past it, they are refused with
    /// status 429.
    #[must_use]
    pub const fn max_watchers(mut self, max: usize) -> Self {
        self.max_watchers = max;
        self
    }

    /// Sets the maximum size of a request's body, in bytes. Default 64 KiB, at least 1 KiB; an instance has at most 4 KiB of
    /// metadata. The limit of `POST /v1/heartbeats` is always 4 MiB. Past it, requests are refused with status 413. All
    /// bodies over 4 KiB take at most 64 MiB together, or four times this if it is more, and those of one client half of
    /// that; past it the status is 429.
    #[must_use]
    pub const fn max_body_bytes(mut self, max: usize) -> Self {
        self.max_body_bytes = max;
        self
    }

    /// Sets the path of the simple interface. Default `/registry`. It must begin with `/`, and must not be a path of
    /// the full interface.
    #[must_use]
    pub fn simple_path(mut self, path: impl Into<String>) -> Self {
        self.simple_path = path.into();
        self
    }

    /// Returns the heartbeat interval. See [`RegistryOptions::heartbeat`].
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.heartbeat.unwrap_or(self.ttl / 5 * 4)
    }

    /// Checks all values; returns the allowed hosts.
    pub(super) fn check(&self) -> Result<Vec<Authority>, OptionsError> {
        let (ttl, heartbeat) = (self.ttl, self.heartbeat_interval());
        if !(Instance::MIN_TTL..=Instance::MAX_TTL).contains(&ttl) {
            return Err(OptionsError::Ttl { ttl });
        }
        if heartbeat.is_zero() || heartbeat >= ttl {
            return Err(OptionsError::Heartbeat { heartbeat, ttl });
        }
        if self.max_instances == 0 {
            return Err(OptionsError::MaxInstances);
        }
        if self.max_watchers == 0 {
            return Err(OptionsError::MaxWatchers);
        }
        if self.max_body_bytes < MIN_BODY_BYTES {
            return Err(OptionsError::MaxBodyBytes { min: MIN_BODY_BYTES });
        }
        if !is_valid_path(&self.simple_path) {
            return Err(OptionsError::SimplePath { path: self.simple_path.clone() });
        }
        self.tokens.check()?;
        let parse = |host: &String| {
            Authority::parse(host).ok_or_else(|| OptionsError::AllowedHost { host: host.clone() })
        };
        self.allowed_hosts.iter().map(parse).collect()
    }
}

/// Returns `true` if the simple interface can have this path.
fn is_valid_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let is_taken =
        path == "/" || ["/healthz", "/readyz", "/metrics"].contains(&path) || path.starts_with("/v1");
    path.starts_with('/') && !is_taken && path.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ttl_is_5_min_and_heartbeat_4_min() {
        let options = RegistryOptions::default();
        options.check().unwrap();
        assert_eq!(options.ttl, Duration::from_secs(300));
        assert_eq!(options.heartbeat_interval(), Duration::from_secs(240));
    }

    #[test]
    fn invalid_options_are_refused_with_a_reason() {
        let seconds = Duration::from_secs;
        for (options, part) in [
            (RegistryOptions::default().ttl(Duration::ZERO), "time to live"),
            (RegistryOptions::default().ttl(seconds(86_401)), "1 day"),
            (RegistryOptions::default().ttl(seconds(10)).heartbeat(seconds(10)), "between heartbeats"),
            (RegistryOptions::default().heartbeat(Duration::ZERO), "between heartbeats"),
            (RegistryOptions::default().max_instances(0), "number of instances must be 1 or more"),
            (RegistryOptions::default().max_watchers(0), "long polls must be 1 or more"),
            (RegistryOptions::default().max_body_bytes(1023), "body must be 1024 bytes or more"),
            (RegistryOptions::default().simple_path("registry"), "`registry`"),
            (RegistryOptions::default().simple_path("/{a}"), "`/{a}`"),
            (RegistryOptions::default().simple_path("/v1/services"), "other paths"),
            (RegistryOptions::default().simple_path("/"), "other paths"),
            (RegistryOptions::default().allowed_host("https://a.example"), "`https://a.example`"),
            (
                RegistryOptions::default().allowed_host("a.example").allowed_host("b.example/x"),
                "`b.example/x`",
            ),
            (RegistryOptions::default().allowed_host("a.example:port"), "`a.example:port`"),
            (RegistryOptions::default().allowed_host("*.example"), "`*.example`"),
            (RegistryOptions::default().allowed_host("::1"), "in brackets"),
            (RegistryOptions::default().allowed_host("a\n"), r"`a\n`"),
            (RegistryOptions::default().allowed_host(""), "``"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn options_at_their_limits_are_taken() {
        let (second, options) = (Duration::from_secs(1), RegistryOptions::default);
        for options in [
            options().ttl(Instance::MIN_TTL),
            options().ttl(Instance::MAX_TTL),
            options().ttl(10 * second).heartbeat(10 * second - Duration::from_nanos(1)),
            options().ttl(10 * second).heartbeat(Duration::from_nanos(1)),
            options().max_instances(1).max_watchers(1).max_body_bytes(1024),
            options().simple_path("/servers"),
            options().simple_path("/a/B.c_d-9"),
            options().simple_path("/metrics2"),
        ] {
            options.check().unwrap_or_else(|error| panic!("{error}"));
        }
        for path in ["/healthz", "/readyz", "/metrics", "/v1", "/", "", "/a b", "a/b"] {
            assert!(!is_valid_path(path), "{path}");
        }
    }
}
