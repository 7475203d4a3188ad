//! [`RegistryOptions`]: what a registry is told before it starts.

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::Instance;

use super::http::Authority;
use super::registry::OpenError;
use super::tokens::Tokens;

/// What a registry is told before it starts.
///
/// ```
/// use std::time::Duration;
/// use farcall_registry::server::RegistryOptions;
///
/// // What production wants: a crash is seen after 30 s at most.
/// let settings = RegistryOptions::default()
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
    /// How long an instance stays without a heartbeat where it asks for no time of its own. Default 5 min;
    /// from 1 s to 1 day. Shorter: crashes are seen sooner, and a short breakdown of the network
    /// looks like one.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How often such instances are told to send a heartbeat; also how long the registry is warming where
    /// it starts without a snapshot. Default: 4/5 of the time to live, 4 min by default. With half
    /// the time to live or more, one heartbeat that is lost makes an instance expire.
    #[must_use]
    pub const fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// The file that the registry starts from, written within 5 s of a change. Default none: after a
    /// restart servers have to register again. Its directory must be there. Files with other ends to this
    /// name are made beside it: `.tmp`, and `.damaged-<time>`.
    #[must_use]
    pub fn snapshot(mut self, file: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(file.into());
        self
    }

    /// Who may read and write. Default: everybody. They can be exchanged at run time:
    /// [`Registry::set_tokens`](super::Registry::set_tokens).
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// One more name by which it may be called, `registry.example.com` for any port or
    /// `registry.example.com:7100`. Requests to other hosts than these, the addresses it listens at,
    /// and loopback names are refused, so that no web page can reach it by a name of its own. What is no
    /// host, such as a URL, keeps the registry from starting.
    #[must_use]
    pub fn allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// The most instances. Default 100,000. Past it, registering new ones is answered 429.
    #[must_use]
    pub const fn max_instances(mut self, max: usize) -> Self {
        self.max_instances = max;
        self
    }

    /// The most open watches and long polls. Default 10,000. Past it, the answer is 429.
    #[must_use]
    pub const fn max_watchers(mut self, max: usize) -> Self {
        self.max_watchers = max;
        self
    }

    /// The largest body of a request, in bytes. Default 64 KiB; an instance has 4 KiB of metadata at
    /// most. `POST /v1/heartbeats` may always have 4 MiB. Past it, the answer is 413.
    #[must_use]
    pub const fn max_body_bytes(mut self, max: usize) -> Self {
        self.max_body_bytes = max;
        self
    }

    /// The path of the simple interface. Default `/registry`. It must begin with `/`, and must not
    /// be one of the full interface's.
    #[must_use]
    pub fn simple_path(mut self, path: impl Into<String>) -> Self {
        self.simple_path = path.into();
        self
    }

    /// See [`RegistryOptions::heartbeat`].
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.heartbeat.unwrap_or(self.ttl * 4 / 5)
    }

    /// Whether they make sense; returns the hosts that are allowed.
    pub(super) fn check(&self) -> Result<Vec<Authority>, OpenError> {
        let refuse = |what: String| Err(OpenError::RegistryOptions(what));
        let (ttl, heartbeat) = (self.ttl, self.heartbeat_interval());
        if !(Instance::MIN_TTL..=Instance::MAX_TTL).contains(&ttl) {
            return refuse(format!("the time to live {ttl:?} must be from 1 s to 1 day"));
        }
        if heartbeat.is_zero() || heartbeat >= ttl {
            return refuse(format!(
                "the time between heartbeats {heartbeat:?} must be above zero and below the time to live {ttl:?}"
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        let path = self.simple_path.as_str();
        let taken = ["/healthz", "/readyz", "/metrics"].contains(&path) || path.starts_with("/v1");
        if !path.starts_with('/') || path == "/" || taken || !path.chars().all(plain) {
            return refuse(format!(
                "the path of the simple interface `{path}` must begin with `/`, have only letters, digits, `.`, `_`, \
                 `-` and `/`, and be none of the other paths"
            ));
        }
        let mut allowed = Vec::new();
        for host in &self.allowed_hosts {
            let Some(authority) = Authority::parse(host) else {
                let host = host.escape_debug();
                return refuse(format!(
                    "the allowed host `{host}` is none: it must be a name or an IP address, one of version 6 in \
                     brackets, and may have a port behind it, such as `registry.example.com:7100`"
                ));
            };
            allowed.push(authority);
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_five_minutes_and_four() {
        let settings = RegistryOptions::default();
        settings.check().unwrap();
        assert_eq!(settings.ttl, Duration::from_secs(300));
        assert_eq!(settings.heartbeat_interval(), Duration::from_secs(240));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_a_reason() {
        let seconds = Duration::from_secs;
        for (settings, part) in [
            (RegistryOptions::default().ttl(Duration::ZERO), "time to live"),
            (RegistryOptions::default().ttl(seconds(86_401)), "1 day"),
            (RegistryOptions::default().ttl(seconds(10)).heartbeat(seconds(10)), "between heartbeats"),
            (RegistryOptions::default().heartbeat(Duration::ZERO), "between heartbeats"),
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
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
