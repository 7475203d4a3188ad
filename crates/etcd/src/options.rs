//! [`EtcdOptions`]: the members, the user and the limits. The requests are left to the other files.

use std::fmt;
use std::time::Duration;

use farcall_discovery::Instance;
use farcall_tls::Identity;

use crate::endpoints::Endpoints;
use crate::error::EtcdOptionsError;

/// The address of etcd, and the way to speak to it. An [`EtcdRegistrar`](crate::EtcdRegistrar) and an
/// [`EtcdDiscovery`](crate::EtcdDiscovery) need the same prefix to find each other.
///
/// ```
/// use std::time::Duration;
/// use farcall_etcd::{EtcdOptions, EtcdDiscovery, EtcdRegistrar};
///
/// let config = EtcdOptions::new("http://10.0.0.1:2379,http://10.0.0.2:2379")?
///     .user("farcall", "a long password")
///     .ttl(Duration::from_secs(10));
/// let registrar = EtcdRegistrar::new(&config)?;
/// let discovery = EtcdDiscovery::new(&config, "Arith")?;
/// # Ok::<(), farcall_etcd::EtcdOptionsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    pub(crate) endpoints: Endpoints,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) extra_roots: Vec<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) prefix: String,
    pub(crate) ttl: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) check_after: Duration,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl EtcdOptions {
    /// The time that an instance stays without a renewal, if neither it nor the options set one.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(15);
    /// The beginning of all keys, unless the options have another.
    pub const DEFAULT_PREFIX: &'static str = "/farcall/v1";

    /// One etcd, or several members of one cluster, separated by commas: a request that one
    /// does not answer goes to the next, and further requests stay with the one that answered.
    /// `http` or `https`; without a scheme, `http`; without a port, 2379. Proxies that the
    /// environment names are not used.
    ///
    /// # Errors
    ///
    /// One of them is not the address of an etcd.
    pub fn new(endpoints: &str) -> Result<Self, EtcdOptionsError> {
        Ok(Self {
            endpoints: Endpoints::parse(endpoints)?,
            credentials: None,
            extra_roots: Vec::new(),
            identity: None,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            ttl: Self::DEFAULT_TTL,
            request_timeout: Duration::from_secs(3),
            check_after: Duration::from_secs(10),
        })
    }

    /// Sets the user of etcd and its password; by default none. Over `http` everyone on the way can read
    /// them. A registrar needs permission to read and write the keys under the prefix, a discovery
    /// to read them.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials { user: user.into(), password: password.into() });
        self
    }

    /// Trusts these certificates (PEM, one or several) in addition to the system's. May be called again.
    /// Read when a registrar or discovery is made.
    #[must_use]
    pub fn extra_roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.extra_roots.push(pem.into());
        self
    }

    /// Shows this certificate (PEM, with those between it and its root) and proves it with this key
    /// (PEM), for an etcd that requires one. By default none.
    #[must_use]
    pub fn client_certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(Identity::from_pem(chain_pem, key_pem));
        self
    }

    /// Sets the beginning of all keys; default `/farcall/v1`. Several systems that share an etcd but no servers
    /// have different ones.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the time that an instance stays without a renewal, if [`Instance::ttl_ms`] is not set; 1 s to
    /// 1 day, in whole seconds, rounded up; default 15 s. It is renewed three times as often. Too
    /// low, and servers that are busy vanish for moments (etcd makes it at least 2 s or so); too
    /// high, and servers that crashed are found for as long.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the time that an endpoint may take for one answer before the next is tried; default 3 s. Too low,
    /// and an etcd that elects a leader (a second or so) looks dead; too high, and a machine that is
    /// gone holds up a server's renewal.
    #[must_use]
    pub const fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Sets the time that a watch may be silent before changes are requested from etcd; default
    /// 10 s. A watch whose connection died silently is found out after that. Too low, and many
    /// clients of services that never change keep etcd busy.
    #[must_use]
    pub const fn check_after(mut self, silence: Duration) -> Self {
        self.check_after = silence;
        self
    }

    pub(crate) fn check(&self) -> Result<(), EtcdOptionsError> {
        if !self.prefix.starts_with('/') || self.prefix.ends_with('/') {
            return Err(EtcdOptionsError::Prefix(self.prefix.clone()));
        }
        if !(Instance::MIN_TTL..=Instance::MAX_TTL).contains(&self.ttl) {
            return Err(EtcdOptionsError::Ttl(self.ttl));
        }
        for (name, limit) in [
            ("request timeout", self.request_timeout),
            ("time before a silent watch is checked", self.check_after),
        ] {
            if limit.is_zero() {
                return Err(EtcdOptionsError::Zero(name));
            }
        }
        Ok(())
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let config = EtcdOptions::new("a").unwrap().user("root", "hush").client_certificate("chain", "hush");
        let shown = format!("{config:?}");
        assert!(shown.contains("root") && !shown.contains("hush"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", b"hush")), "{shown}");
    }

    #[test]
    fn unusable_options_are_refused_with_a_reason() {
        let config = || EtcdOptions::new("a").unwrap();
        for (config, expected) in [
            (config().prefix("farcall"), "`farcall` is not a prefix"),
            (config().prefix("/farcall/"), "`/farcall/` is not a prefix"),
            (config().ttl(Duration::from_millis(999)), "it must be from 1 s to 1 day"),
            (config().ttl(Duration::from_secs(86_401)), "it must be from 1 s to 1 day"),
            (config().request_timeout(Duration::ZERO), "the request timeout for etcd is zero"),
            (config().check_after(Duration::ZERO), "is zero"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        config().check().unwrap();
    }
}
