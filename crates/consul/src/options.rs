//! [`ConsulOptions`]: the agent, the token and the limits. The requests are left to the other files.

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::Instance;
use farcall_discovery::source::Token;
use farcall_discovery::source::http::{self, UrlFault};
use reqwest::Url;

use crate::error::ConsulOptionsError;

/// Consul answers no later than this, whatever is asked.
const MAX_WAIT: Duration = Duration::from_secs(600);
const MIN_WAIT: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The agent of Consul, and the way to speak to it.
///
/// ```
/// use std::time::Duration;
/// use farcall_consul::{ConsulDiscovery, ConsulOptions, ConsulRegistrar};
///
/// let options = ConsulOptions::new("http://127.0.0.1:8500")?
///     .token_file("/run/secrets/consul-token")
///     .ttl(Duration::from_secs(10))
///     .tag("canary");
/// let registrar = ConsulRegistrar::new(&options)?;
/// let discovery = ConsulDiscovery::new(&options, "Arith")?;
/// # Ok::<(), farcall_consul::ConsulOptionsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConsulOptions {
    pub(crate) agent: Url,
    /// The token; of a file, the first line.
    pub(crate) token: Token,
    pub(crate) extra_roots: Vec<Vec<u8>>,
    pub(crate) datacenter: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) ttl: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) wait: Duration,
}

impl ConsulOptions {
    /// The time that an instance stays without a renewal, if neither it nor the options set one.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(15);

    /// Creates options for the agent at this URL, such as `http://127.0.0.1:8500`: the agent of the own machine, since an instance is
    /// registered with the node of its agent. Proxies that the environment names are not used.
    ///
    /// # Errors
    ///
    /// The URL is not that of an agent.
    pub fn new(agent: &str) -> Result<Self, ConsulOptionsError> {
        Ok(Self {
            agent: parse_url(agent)?,
            token: Token::None,
            extra_roots: Vec::new(),
            datacenter: None,
            tags: Vec::new(),
            ttl: Self::DEFAULT_TTL,
            request_timeout: Duration::from_secs(5),
            wait: Duration::from_secs(55),
        })
    }

    /// Sets the ACL token: visible ASCII characters, up to 16 KiB. Default: none. Over `http` everyone on the way can read it. A registrar needs `service:write`, a
    /// discovery `service:read` and `node:read`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Text(token.into());
        self
    }

    /// Sets the file whose first line is the ACL token. It is read for each request. A file that cannot be read is a failure like any
    /// other.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Token::File(path.into());
        self
    }

    /// Trusts these certificates (PEM, one or several) for `https` in addition to the system's. May be called again.
    #[must_use]
    pub fn extra_roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.extra_roots.push(pem.into());
        self
    }

    /// Sets the datacenter in which services are looked for. Default: the agent's. Servers register in the agent's.
    #[must_use]
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = Some(name.into());
        self
    }

    /// Adds a tag: servers register with all tags, and only instances that have all of them are found. Default: none.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the time that an instance stays without a renewal, if [`Instance::ttl_ms`] is not set; 1 s to 1 day, default 15 s. It is
    /// renewed three times as often. Too low, and servers that are busy vanish for moments; too high, and
    /// servers that crashed are found for as long.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the time for an answer, beyond that of a blocking query; 1 ms to 10 minutes, default 5 s. Too low, and a busy agent
    /// looks dead; too high, and one that hangs is noticed late.
    #[must_use]
    pub const fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Sets how long a query waits for a change, in whole seconds; 1 s to 10 minutes, default 55 s. Consul adds up to a sixteenth of it.
    /// Too low, and many clients keep Consul busy; too high, and an agent that hangs is noticed late.
    #[must_use]
    pub const fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConsulOptionsError> {
        self.token.check(Token::MAX_BYTES).map_err(ConsulOptionsError::token)?;
        for (name, time, min, max) in [
            ("time to live", self.ttl, Instance::MIN_TTL, Instance::MAX_TTL),
            ("request timeout", self.request_timeout, MIN_TIMEOUT, MAX_WAIT),
            ("time of a query", self.wait, MIN_WAIT, MAX_WAIT),
        ] {
            if !(min..=max).contains(&time) {
                return Err(ConsulOptionsError::Time { name, time, min, max });
            }
        }
        Ok(())
    }
}

fn parse_url(text: &str) -> Result<Url, ConsulOptionsError> {
    let parsed = http::parse_url(text, "; set the token with `ConsulOptions::token`");
    parsed.map_err(|UrlFault { url, reason }| ConsulOptionsError::Url { url, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_options_are_refused_with_a_reason() {
        for (url, expected) in [
            ("127.0.0.1:8500", "is no URL of a Consul agent"),
            ("https://me:hush@a", "do not belong here; set the token with `ConsulOptions::token`"),
        ] {
            let error = ConsulOptions::new(url).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hush"), "{url}: {error}");
        }
        let options = || ConsulOptions::new("http://a").unwrap();
        for (options, expected) in [
            (options().ttl(Duration::from_millis(999)), "the time to live for Consul is 999ms"),
            (options().request_timeout(Duration::ZERO), "the request timeout"),
            (options().wait(Duration::from_secs(601)), "the time of a query"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        options().check().unwrap();
    }

    #[test]
    fn token_that_no_header_can_carry_is_refused_before_anything_is_sent() {
        let options = |token: &str| ConsulOptions::new("http://a").unwrap().token(token);
        let error = options("hush\nX-Other: 1").check().unwrap_err().to_string();
        assert!(
            error.starts_with("the token of `ConsulOptions::token` has a line break at position 5"),
            "{error}"
        );
        let error = options("hüsh").check().unwrap_err().to_string();
        assert!(error.contains("not ASCII at position 2") && !error.contains("sh at"), "{error}");
    }

    #[test]
    fn token_is_not_shown() {
        let shown = format!("{:?}", ConsulOptions::new("https://a").unwrap().token("hush"));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
